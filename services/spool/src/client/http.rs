//! One server, spoken to over HTTP: time limits, the token, problems turned into failures.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::cli::Shared;
use crate::exit::{Exit, Failure};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer that is not a stream may take, whole.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Longest part of an answer that is no problem document which is shown.
const SHOWN_CHARS: usize = 200;

/// A server and the right to ask it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    trace: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Body; nothing where it was empty.
    pub(crate) body: Value,
}

impl Client {
    /// A client of the server that the command line names. Sends nothing yet.
    pub(crate) fn new(shared: &Shared) -> Result<Self, Failure> {
        // Refused when another part of this process has installed it already, which is as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let base: Url = shared.server.parse().map_err(|error| {
            Failure::from_error(Exit::Usage, format!("--server {:?} is no address", shared.server), error)
        })?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(Failure::new(Exit::Usage, format!("--server {base} must begin with http:// or https://")));
        }
        if shared.token.as_ref().is_some_and(|token| HeaderValue::try_from(token.as_str()).is_err()) {
            let why = "--token (or SPOOL_TOKEN) holds a line break or another character that can't be sent";
            return Err(Failure::new(Exit::Usage, why));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(concat!("spool/", env!("CARGO_PKG_VERSION")))
            // A token must not follow a redirect to somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::from_error(Exit::Broken, "set up the HTTP client", error))?;
        Ok(Self { http, base, token: shared.token.clone(), trace: None })
    }

    /// The same client with a W3C trace context on every request, so that what they lead to can be followed as one.
    pub(crate) fn traced(&self, traceparent: &str) -> Self {
        Self { trace: Some(traceparent.to_owned()), ..self.clone() }
    }

    /// The server that is asked.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The address of `path` on this server; a whole address stays as it is.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base
            .join(path)
            .map_err(|error| Failure::from_error(Exit::Broken, format!("{path:?} is no address"), error))
    }

    /// A request without a time limit of its own, to be sent with [`Client::send`].
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        // Never the token to another server, whatever an answer named.
        let ours = url.origin() == self.base.origin();
        let mut request = self.http.request(method, url);
        if let Some(traceparent) = &self.trace {
            request = request.header("traceparent", traceparent);
        }
        match &self.token {
            Some(token) if ours => request.bearer_auth(token),
            _ => request,
        }
    }

    /// Sends it; an answer that is a problem becomes a failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = tokio::time::timeout(ANSWER_LIMIT, response.text()).await;
        Err(refusal(status, &text.ok().and_then(Result::ok).unwrap_or_default()))
    }

    /// Sends it and reads the JSON of the answer.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let response = self.send(request.timeout(ANSWER_LIMIT)).await?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(error))?;
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        let body = body.map_err(|error| {
            Failure::from_error(Exit::Broken, format!("{} answers something that is not JSON", self.base), error)
        })?;
        Ok(Answer { status, body })
    }

    /// `GET path`, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.ask(self.request(Method::GET, self.url(path)?)).await?.body)
    }

    pub(crate) fn unreachable(&self, error: reqwest::Error) -> Failure {
        // What the address named, without a name and password that may stand in it.
        let sentence = if error.is_timeout() {
            format!("{} did not answer in time", self.base)
        } else {
            format!("{} can't be reached; `spool up` starts a Spool here, --server names another", self.base)
        };
        Failure::from_error(Exit::Unreachable, sentence, error.without_url())
    }
}

/// An answer that is no success, as a failure with the sentence that the server made.
pub(crate) fn refusal(status: StatusCode, body: &str) -> Failure {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Exit::Unreachable,
        status if status.is_server_error() => Exit::Broken,
        _ => Exit::Refused,
    };
    let sentence = match problem["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the server answers {status}: {}", body.trim().chars().take(SHOWN_CHARS).collect::<String>()),
    };
    Failure { code: problem["code"].as_str().map(str::to_owned), ..Failure::new(exit, sentence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Result<Client, Failure> {
        Client::new(&Shared { json: false, server: server.to_owned(), token: Some("secret".to_owned()) })
    }

    #[test]
    fn the_token_goes_to_its_own_server_only() {
        let client = client("http://127.0.0.1:7070").expect("a client");
        let sent = |url: &str| {
            let request = client.request(Method::GET, client.url(url).expect("an address")).build().expect("a request");
            request.headers().contains_key("authorization")
        };
        assert!(sent("/v1/assets"));
        assert!(!sent("http://evil.example/v1/assets"));
        assert!(!sent("http://127.0.0.1:7071/v1/assets"));
    }

    #[test]
    fn an_address_that_is_none_is_a_usage_error() {
        for bad in ["127.0.0.1:7070", "ftp://x", ""] {
            assert_eq!(client(bad).expect_err(bad).exit, Exit::Usage);
        }
    }

    #[test]
    fn a_problem_keeps_its_code_and_sentence() {
        let problem = r#"{"code":"asset_not_found","detail":"There is no asset x."}"#;
        let failure = refusal(StatusCode::NOT_FOUND, problem);
        assert_eq!((failure.exit, failure.code.as_deref()), (Exit::Refused, Some("asset_not_found")));
        assert_eq!(failure.sentence, "There is no asset x.");
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE, "").exit, Exit::Unreachable);
        assert_eq!(
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "oh").sentence,
            "the server answers 500 Internal Server Error: oh"
        );
    }
}
