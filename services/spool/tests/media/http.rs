//! A GET in thirty lines, so that what is measured is the server and not a client's cleverness.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::tool::Outcome;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Status and body. HTTP/1.0, so that the body ends with the connection.
pub(crate) fn get(url: &str) -> Outcome<(u16, Vec<u8>)> {
    let about = |error: std::io::Error| format!("GET {url}: {error}");
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("GET {url}: not http"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).map_err(about)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(about)?;
    stream.set_nodelay(true).map_err(about)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(about)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(about)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| format!("GET {url}: no head"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| format!("GET {url}: no status in {head}"))?;
    Ok((status, answer.split_off(end + 4)))
}

/// The text at an address (or, for assets that are not served, in a file).
pub(crate) fn text(place: &str) -> Outcome<String> {
    let bytes = if place.starts_with("http://") {
        let (status, body) = get(place)?;
        if status != 200 {
            return Err(format!("GET {place}: {status} {}", String::from_utf8_lossy(&body)));
        }
        body
    } else {
        std::fs::read(place).map_err(|error| format!("read {place}: {error}"))?
    };
    String::from_utf8(bytes).map_err(|_| format!("{place} is no text"))
}

/// `relative` as seen from `base`.
pub(crate) fn join(base: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
