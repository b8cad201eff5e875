//! A certificate of its own for each server.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a TLS server and its clients need.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Certificate that clients trust, PEM.
    pub(super) certificate: String,
    /// Server side.
    pub(super) config: Arc<ServerConfig>,
}

/// A self-signed certificate for `address` and `localhost`.
pub(super) fn identity(address: IpAddr) -> anyhow::Result<Identity> {
    let names = vec![address.to_string(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("making a certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("using the certificate")?;
    Ok(Identity { certificate: made.cert.pem(), config: Arc::new(config) })
}
