//! A bearer token in a file, which others replace from time to time.
//!
//! As client-go reads it: blanks around the token do not count (editors and `echo` leave a newline, of which no header
//! can be made), the file is read again at least once a minute, and as long as it cannot be, the last token is used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use kube::config::AuthInfo;
use tower::{Layer, Service};

/// How long a token is used before the file is looked at again.
const FRESH: Duration = Duration::from_secs(50);

/// Proves requests with the token of a file; a layer around the client's HTTP service.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Arc<Mutex<Token>>,
}

/// A service whose requests carry the token.
#[derive(Clone, Debug)]
pub(super) struct Proven<S> {
    inner: S,
    token: TokenFile,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    read: Instant,
}

impl TokenFile {
    /// Takes the file out of the credentials if it is what they are to be proven by: kube reads such a file as it is.
    pub(super) fn take(credentials: &mut AuthInfo) -> Option<PathBuf> {
        let others = credentials.auth_provider.is_some()
            || (credentials.username.is_some() && credentials.password.is_some())
            || credentials.token.is_some();
        if others {
            return None;
        }
        let path = credentials.token_file.take()?;
        // The file goes before a program that gives credentials.
        credentials.exec = None;
        Some(path.into())
    }

    /// Reads the token for the first time.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let header = read(&path)?;
        Ok(Self { path, last: Arc::new(Mutex::new(Token { header, read: Instant::now() })) })
    }

    fn header(&self) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.read.elapsed() >= FRESH {
            match read(&self.path) {
                Ok(header) => last.header = header,
                Err(error) => {
                    tracing::warn!(file = %self.path.display(), %error, "using the last token: no new one");
                }
            }
            last.read = Instant::now();
        }
        last.header.clone()
    }
}

/// `Authorization` with the token that is in the file now.
fn read(path: &Path) -> io::Result<HeaderValue> {
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_invalid| {
        io::Error::new(io::ErrorKind::InvalidData, "no token can have these characters")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

impl<S> Layer<S> for TokenFile {
    type Service = Proven<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Proven { inner, token: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for Proven<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.token.header());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn expire(token: &TokenFile) {
        token.last.lock().unwrap().read = Instant::now().checked_sub(FRESH).unwrap();
    }

    #[tokio::test]
    async fn requests_carry_the_token_without_the_blanks_around_it() {
        let (_folder, path) = file(" account-token\r\n\n");
        let echo = tower::service_fn(|request: Request<()>| {
            std::future::ready(Ok::<_, io::Error>(request.headers()[AUTHORIZATION].clone()))
        });
        let proven = TokenFile::open(path).unwrap().layer(echo);
        let header = proven.oneshot(Request::new(())).await.unwrap();
        assert_eq!(header, "Bearer account-token");
        assert!(header.is_sensitive(), "it is in no log");
    }

    #[test]
    fn a_new_token_is_found_and_without_one_the_last_is_used() {
        let (_folder, path) = file("first\n");
        let token = TokenFile::open(path.clone()).unwrap();
        fs::write(&path, "second\n").unwrap();
        assert_eq!(token.header(), "Bearer first", "the file is not read for each request");
        expire(&token);
        assert_eq!(token.header(), "Bearer second");
        for gone in [|path: &Path| fs::write(path, "\n"), |path: &Path| fs::remove_file(path)] {
            gone(&path).unwrap();
            expire(&token);
            assert_eq!(token.header(), "Bearer second");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_at_the_start() {
        for text in ["", " \n", "two\nlines"] {
            let (_folder, path) = file(text);
            assert_eq!(TokenFile::open(path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }

    #[test]
    fn only_credentials_that_the_file_would_prove_are_taken() {
        let with = |token: Option<&str>| AuthInfo {
            token: token.map(|token| token.to_owned().into()),
            token_file: Some("/token".to_owned()),
            exec: Some(kube::config::ExecConfig::default()),
            ..AuthInfo::default()
        };
        let mut credentials = with(None);
        assert_eq!(TokenFile::take(&mut credentials), Some("/token".into()));
        assert!(credentials.token_file.is_none() && credentials.exec.is_none());
        assert_eq!(TokenFile::take(&mut with(Some("inline"))), None);
        assert_eq!(TokenFile::take(&mut AuthInfo::default()), None);
    }
}
