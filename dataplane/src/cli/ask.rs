//! The subcommands that ask the running agent, through its metrics server.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::args::{Command, Output, Source, Target};
use super::tables;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs one of these subcommands.
///
/// # Errors
/// No agent answers at the address, or it refuses the question.
pub fn ask(command: &Command) -> anyhow::Result<ExitCode> {
    let (client, path, table): (_, _, fn(&Value) -> String) = match command {
        Command::Status(client) => (client, "/shunt/status".to_owned(), tables::status),
        Command::Services(client) => (client, "/shunt/services".to_owned(), tables::services),
        Command::Explain { from, to, probe, client } => {
            (client, explain_path(*from, *to, *probe), tables::explanation)
        }
        Command::Cleanup { .. } => bail!("cleanup does not ask an agent"),
    };
    let answer = get(client.metrics_address, &path)?;
    let text = match client.output {
        Output::Json => serde_json::to_string_pretty(&answer)?,
        Output::Table => table(&answer),
    };
    say(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn explain_path(from: Source, to: Target, probe: bool) -> String {
    let from = match from {
        Source::Node => String::new(),
        Source::Address(address) => address.to_string(),
    };
    format!("/shunt/explain?from={from}&to={}/{}&probe={probe}", to.address, to.protocol.lower())
}

/// Writes a line to standard output.
///
/// # Errors
/// Standard output is closed.
pub fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, request(address, path)).await });
    answer.with_context(|| format!("the agent at {address} does not answer"))?.with_context(|| {
        format!("asking the agent at {address} (is it running, with this metricsBindAddress?)")
    })
}

async fn request(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    let (status, body) = tokio::select! {
        answer = exchange => answer?,
        ended = connection => { ended?; bail!("the connection ended without an answer") }
    };
    let value: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
    if !status.is_success() {
        bail!("{}", value.get("error").and_then(Value::as_str).unwrap_or("refused"));
    }
    Ok(value)
}
