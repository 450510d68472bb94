//! The routes of a process: those of its roles, one listener for all; the token; health.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use spool_kit::store::Secret;
use spool_kit::{Stop, web};
use spool_proto::{Code, Problem, Role};

use crate::config::Config;

use super::roles::{Ready, Running};

/// So much of a refused header is repeated in the answer.
const VALUE_CHARS: usize = 200;
/// Of what the roles serve, only this needs no token where there are tokens: a playback id is a secret of its own.
const OPEN: &str = "/play/";

/// The routes of the roles that run here, and what the absent ones would have served.
pub(super) fn routes(config: &Config, roles: &[Role], running: &Running, stop: &Stop) -> Router {
    let mut routes = running.routes();
    for (role, theirs) in [(Role::Gateway, spool_gateway::ROUTES), (Role::Projector, spool_projector::ROUTES)] {
        if !roles.contains(&role) {
            routes = routes.merge(web::absent(role, theirs));
        }
    }
    let tokens = Tokens::new(&config.tokens);
    let guarded = routes.layer(middleware::from_fn(move |request, next| with_token(tokens.clone(), request, next)));
    guarded.merge(health(running.ready(), stop.clone()))
}

/// `/livez`: the process runs. `/readyz`: it can do what it is for.
fn health(ready: Ready, stop: Stop) -> Router {
    let is_ready = move || {
        let (ready, stop) = (ready.clone(), stop.clone());
        async move {
            let state = match stop.is_finishing() {
                true => Err("This process, which is stopping,".to_owned()),
                false => ready.look_around().await,
            };
            match state {
                Ok(()) => Json(json!({"status": "ready"})).into_response(),
                Err(what) => web::Refusal::from(Problem::new(Code::Unavailable).with("what", what)).into_response(),
            }
        }
    };
    Router::new().route("/livez", get(alive)).route("/readyz", get(is_ready))
}

/// `/livez`
pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// The tokens, as digests: comparing those takes the same time wherever two differ.
#[derive(Clone)]
struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    fn new(tokens: &[Secret]) -> Self {
        Self(tokens.iter().map(|token| Sha256::digest(token.0.as_bytes()).into()).collect())
    }

    /// May this request pass, and as whom?
    fn pass(&self, method: &Method, path: &str, headers: &HeaderMap) -> Pass {
        if path.starts_with(OPEN) || *method == Method::OPTIONS {
            return Pass::Anyone;
        }
        if self.0.is_empty() {
            return foreign(headers).map_or(Pass::Anyone, Pass::Foreign);
        }
        let bearer = |value: &str| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| Sha256::digest(token.trim().as_bytes()).into())
        };
        let given: Option<[u8; 32]> = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.to_str().ok()?));
        match given.filter(|given| self.0.contains(given)) {
            Some(digest) => Pass::Key(key_id(&digest)),
            None => Pass::No,
        }
    }
}

/// Without tokens everyone on this machine may do everything, but not every page that somebody looks at here: a browser
/// says which page asks (`Origin`), and a page whose name leads here by its own DNS asks by that name (`Host`). What is wrong
/// with such a request.
fn foreign(headers: &HeaderMap) -> Option<Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST);
    let own_name = host.is_none_or(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        // Names have no case, and a dot at the end says that they are whole.
        name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
    });
    let same =
        |origin: &str| origin.split_once("://").zip(host).is_some_and(|((_, at), own)| at.eq_ignore_ascii_case(own));
    let own_page = text(header::ORIGIN).is_none_or(same);
    let refuse = |header: header::HeaderName, accepted: &str| {
        let value: String = text(header.clone()).unwrap_or_default().chars().take(VALUE_CHARS).collect();
        Problem::new(Code::RequestForeign).with("header", header).with("value", value).with("accepted", accepted)
    };
    if !own_name {
        return Some(refuse(header::HOST, "requests to localhost or to an IP address"));
    }
    (!own_page).then(|| refuse(header::ORIGIN, "programs and pages of the address itself"))
}

/// What a token, or the lack of one, gives the right to.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// Nobody is asked here.
    Anyone,
    /// The one who has the token with this id.
    Key(String),
    /// Nothing, though there are no tokens: a page or a name of others led here.
    Foreign(Problem),
    /// Nothing.
    No,
}

/// The opaque id of a token, as facts name who asked for them: the begin of its digest, which gives nobody the token.
fn key_id(digest: &[u8; 32]) -> String {
    format!("key_{}", digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

async fn with_token(tokens: Tokens, mut request: Request, next: Next) -> Response {
    match tokens.pass(request.method(), request.uri().path(), request.headers()) {
        Pass::Anyone => return next.run(request).await,
        Pass::Key(id) => {
            request.extensions_mut().insert(web::Actor(id));
            return next.run(request).await;
        }
        Pass::Foreign(problem) => return web::Refusal::from(problem).into_response(),
        Pass::No => {}
    }
    web::Refusal::from(Code::Unauthorized).header(header::WWW_AUTHENTICATE, "Bearer").into_response()
}

#[cfg(test)]
mod tests {
    use axum::routing::MethodFilter;

    use super::*;

    fn check(method: Method, path: &str, authorization: Option<&str>, passes: bool) {
        let tokens = Tokens::new(&[Secret("0123456789abcdef".to_owned()), Secret("another-token-here".to_owned())]);
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        }
        assert_eq!(tokens.pass(&method, path, &headers) != Pass::No, passes, "{method} {path} {authorization:?}");
    }

    /// Rows of the table of routes in `proto/README.md`, as cells.
    fn told() -> Vec<Vec<String>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/README.md");
        let readme = std::fs::read_to_string(path).expect("proto/README.md");
        let table = readme.lines().skip_while(|line| !line.starts_with("| method | path | role |")).skip(2);
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        table.take_while(|line| line.starts_with('|')).map(cells).collect()
    }

    /// What stands between backticks.
    fn quoted(cell: &str) -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_route_stands_in_the_contract_with_its_role_and_nothing_else_does() {
        let verbs = [
            (MethodFilter::OPTIONS, "OPTIONS"),
            (MethodFilter::HEAD, "HEAD"),
            (MethodFilter::GET, "GET"),
            (MethodFilter::POST, "POST"),
            (MethodFilter::PATCH, "PATCH"),
            (MethodFilter::DELETE, "DELETE"),
        ];
        let mut served = std::collections::BTreeSet::new();
        for (role, routes) in [(Role::Gateway, spool_gateway::ROUTES), (Role::Projector, spool_projector::ROUTES)] {
            for (methods, path) in routes {
                let of_it = verbs.iter().filter(|(method, _)| methods.or(*method) == *methods);
                served.extend(of_it.map(|(_, verb)| format!("{verb} {path} {role}")));
            }
        }
        served.extend(["GET /livez every".to_owned(), "GET /readyz every".to_owned()]);
        let mut said = std::collections::BTreeSet::new();
        for row in told() {
            assert_eq!(row.len(), 6, "{row:?}");
            for path in quoted(&row[1]) {
                said.insert(format!("{} {path} {}", quoted(&row[0])[0], row[2]));
            }
        }
        assert_eq!(said, served);
    }

    #[test]
    fn every_code_of_the_contract_is_told_with_its_status() {
        for row in told() {
            let mut status = 0;
            for word in row[5].split([' ', ',', ';']) {
                status = word.parse().unwrap_or(status);
                let name = word.trim_matches('`');
                if name.len() + 2 == word.len() && name.contains('_') {
                    let code: Code = name.parse().unwrap_or_else(|_| panic!("there is no code {name}: {row:?}"));
                    assert_eq!(code.status(), status, "{name}: {row:?}");
                }
            }
        }
    }

    #[test]
    fn with_tokens_every_command_needs_one_and_players_do_not() {
        check(Method::GET, "/v1/assets", None, false);
        check(Method::GET, "/v1/assets", Some("Bearer 0123456789abcdef"), true);
        check(Method::GET, "/v1/assets", Some("bearer another-token-here"), true);
        check(Method::GET, "/v1/assets", Some("Bearer 0123456789abcdeX"), false);
        check(Method::GET, "/v1/assets", Some("Basic 0123456789abcdef"), false);
        check(Method::GET, "/v1/assets", Some("0123456789abcdef"), false);
        check(Method::OPTIONS, "/v1/uploads", None, true);
        check(Method::GET, "/play/pb_x/index.m3u8", None, true);
        check(Method::GET, "/%761/assets", None, false);
    }

    #[test]
    fn without_tokens_nobody_is_asked_but_pages_of_others() {
        let check = |path: &str, host: &str, origin: Option<&str>, passes: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a header"));
            }
            let pass = Tokens::new(&[]).pass(&Method::POST, path, &headers);
            assert_eq!(pass == Pass::Anyone, passes, "{path} {host} {origin:?}");
        };
        assert_eq!(Tokens::new(&[]).pass(&Method::POST, "/v1/assets", &HeaderMap::new()), Pass::Anyone);
        check("/v1/assets", "127.0.0.1:7070", None, true);
        check("/v1/assets", "[::1]:7070", None, true);
        check("/v1/assets", "[::1]", None, true);
        check("/v1/assets", "localhost:7070", Some("http://localhost:7070"), true);
        check("/v1/assets", "127.0.0.1:7070", Some("https://elsewhere.example"), false);
        check("/v1/assets", "127.0.0.1:7070", Some("null"), false);
        check("/v1/assets", "127.0.0.1:7070", Some("http://127.0.0.1:8080"), false);
        check("/v1/assets", "rebound.example:7070", Some("http://rebound.example:7070"), false);
        check("/play/pb_x/index.m3u8", "127.0.0.1:7070", Some("https://player.example"), true);
    }

    #[test]
    fn a_request_under_a_foreign_name_is_told_the_name_and_what_to_do() {
        let told = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))]);
            headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().expect("a header"))));
            foreign(&headers).map(|problem| (problem.code.status(), problem.detail()))
        };
        let advice = "Use http://127.0.0.1 or http://localhost with the port, or set `tokens` in the configuration and \
                      send one as Authorization: Bearer.";
        let host = "The header host says video.lan:7070, and where no tokens are configured only requests to localhost or \
                    to an IP address are answered.";
        assert_eq!(told("video.lan:7070", None), Some((403, format!("{host} {advice}"))));
        let origin = "The header origin says https://a.example, and where no tokens are configured only programs and pages of the \
                      address itself are answered.";
        assert_eq!(told("localhost:7070", Some("https://a.example")), Some((403, format!("{origin} {advice}"))));
        for (host, origin) in [
            ("localhost:7070", None),
            ("LOCALHOST:7070", Some("http://localhost:7070")),
            ("localhost.:7070", None),
            ("[::1]:7070", Some("http://[::1]:7070")),
        ] {
            assert_eq!(told(host, origin), None, "{host}");
        }
        assert!(told("localhost:7070", Some("null")).is_some(), "a page without an address");
    }
}
