//! Request tables: method, path, headers, body → status, headers, code, sentence. A file for each story; what one line says, and how it
//! is checked, is here.

mod assets;
mod away;
mod creating;
mod limits;
mod routes;
mod sending;

use crate::common::{App, Reply};

/// One line: what is sent, and what must come back. `says` is part of the sentence for people.
struct Case<'a> {
    what: &'a str,
    method: &'a str,
    path: String,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
    status: u16,
    code: &'a str,
    says: &'a str,
}

fn case<'a>(
    what: &'a str,
    method: &'a str,
    path: &str,
    headers: &[(&'a str, &'a str)],
    status: u16,
    code: &'a str,
    says: &'a str,
) -> Case<'a> {
    Case { what, method, path: path.to_owned(), headers: headers.to_vec(), body: "", status, code, says }
}

async fn check(app: &App, case: Case<'_>) -> Reply {
    let reply = app.send(case.method, &case.path, &case.headers, case.body.to_owned()).await;
    let what = format!("{}: {} {} → {reply:?}", case.what, case.method, case.path);
    assert_eq!(reply.status, case.status, "{what}");
    assert_eq!(reply.headers["access-control-allow-origin"], "*", "{what}");
    assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{what}");
    if case.path.starts_with("/v1/uploads") && case.status != 405 && case.status != 404 {
        assert_eq!(reply.headers.get("tus-resumable").map(String::as_str), Some("1.0.0"), "{what}");
    }
    assert_eq!(reply.headers.get("spool-code").map_or("", String::as_str), case.code, "{what}");
    if case.method == "HEAD" {
        assert_eq!(reply.body, "", "{what}");
        return reply;
    }
    assert_eq!(reply.code(), case.code, "{what}");
    if !case.code.is_empty() {
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(case.says), "{what}: {detail}");
        assert!(!detail.contains("an unknown "), "a value is missing in: {detail}");
    }
    reply
}
