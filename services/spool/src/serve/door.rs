//! The listener: takes connections, a bounded number of them, and hands requests to the routes.
//!
//! It is bound before anything else is tried, so that a taken port is told at once and health checks get an answer while
//! the process starts. Connections end in two stages like everything: after the answer under way, or at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Version, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use spool_kit::{Ids, Stop, web};
use spool_proto::{Code, Problem};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Http;

use super::http::alive;

/// Pause after a connection could not be taken: out of descriptors, mostly, which passes.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// The routes: those of a process that starts, until it is open.
#[derive(Debug)]
pub(super) struct Door {
    starting: Router,
    open: OnceLock<Router>,
    ids: Ids,
}

impl Door {
    /// `server` is where the nats-server lives that the process starts, if it starts one.
    pub(super) fn new(ids: Ids, server: Option<PathBuf>) -> Self {
        let waits = move || match server.as_deref().is_some_and(spool_nats::server::is_full) {
            true => "This process, which is starting and waits for room on its full disk,",
            false => "This process, which is starting,",
        };
        let not_yet = move || {
            let what = waits();
            async move { web::Refusal::from(Problem::new(Code::Unavailable).with("what", what)) }
        };
        let starting =
            Router::new().route("/livez", get(alive)).route("/{*any}", get(not_yet.clone()).fallback(not_yet));
        Self { starting: web::shell(starting, ids.clone()), open: OnceLock::new(), ids }
    }

    /// From now on these routes are served. The first call counts.
    pub(super) fn open(&self, routes: Router) {
        let _opened_before = self.open.set(web::shell(routes, self.ids.clone()));
    }

    fn routes(&self) -> Router {
        self.open.get().unwrap_or(&self.starting).clone()
    }
}

/// Whoever speaks HTTP/1.1 says to whom, once (RFC 9112, 3.2): what lies between could else be led to another name than we
/// are. What is wrong with a request that does not.
fn without_host(version: Version, headers: &HeaderMap) -> Option<web::Refusal> {
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts == 1 || (hosts == 0 && version < Version::HTTP_11) {
        return None;
    }
    let problem = Problem::new(Code::HeaderInvalid).with("header", "Host").with("reason", "must be given once");
    let value = if hosts == 0 { "nothing".to_owned() } else { format!("{hosts} of them") };
    Some(problem.with("value", value).into())
}

/// Takes connections until stopped, then waits until those under way have ended.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>, config: Http, stop: Stop) {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            () = stop.finishing() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        // Closed by nobody; and if it were, no more connections would be right.
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            () = stop.finishing() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (door, stop, timeout) = (Arc::clone(&door), stop.clone(), config.header_timeout.0);
                connections.spawn(async move {
                    talk(stream, peer, &door, timeout, &stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "could not take a connection");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn talk(stream: TcpStream, peer: SocketAddr, door: &Door, header_timeout: Duration, stop: &Stop) {
    // Small answers must not wait for more; a socket that can't do it still works.
    let _unsupported = stream.set_nodelay(true);
    let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let routes = TowerToHyperService::new(door.routes());
        async move {
            if let Some(refusal) = without_host(request.version(), request.headers()) {
                return Ok(refusal.into_response());
            }
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            hyper::service::Service::call(&routes, request).await
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.finishing() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cutting() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_http_1_1_says_to_whom_once() {
        let wrong = |version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().expect("a header"));
            }
            without_host(version, &headers).map(|refusal| (refusal.status().as_u16(), refusal.problem.detail()))
        };
        assert_eq!(wrong(Version::HTTP_11, &["localhost"]), None);
        assert_eq!(wrong(Version::HTTP_10, &[]), None);
        let advice = "Correct the header and send the request again.";
        let none = format!("The header Host must be given once; got nothing. {advice}");
        assert_eq!(wrong(Version::HTTP_11, &[]), Some((400, none)));
        let two = format!("The header Host must be given once; got 2 of them. {advice}");
        assert_eq!(wrong(Version::HTTP_10, &["a", "b"]), Some((400, two)));
    }
}
