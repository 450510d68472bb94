//! Commands of the operator: the view, parked messages, health.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::exit::Failure;

use super::assets::command;
use super::http::Client;
use super::print::{Out, plain, table};

/// How often a rebuild is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Parked messages of one request.
const PAGE: usize = 100;

/// `spool view rebuild`: starts it and waits until the new view serves. How long that takes grows with the log, so there
/// is no limit here but the server's life; Ctrl-C leaves the rebuild running.
pub(crate) async fn view_rebuild(client: &Client, out: Out) -> Result<(), Failure> {
    let before = client.get("/v1/view").await?["rebuilds"].as_u64().unwrap_or(0);
    command(client, Method::POST, "/v1/view/rebuild").await?;
    out.tell("folding the view anew; reads go on from the old one");
    loop {
        let view = client.get("/v1/view").await?;
        // A process that was restarted meanwhile counts from nought and folds what is missing by itself.
        let rebuilds = view["rebuilds"].as_u64().unwrap_or(0);
        if rebuilds > before || (rebuilds < before && view["ready"] == Value::Bool(true)) {
            out.say(&view, || format!("the new view serves, at sequence {}", plain(&view["position"])));
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// `spool parked ls`
pub(crate) async fn parked_ls(client: &Client, out: Out) -> Result<(), Failure> {
    let mut rows = vec![["ID", "SINCE", "FROM", "CODE", "ATTEMPTS", "LAST ERROR"].map(str::to_owned).to_vec()];
    let mut after = json!(0);
    loop {
        let page = client.get(&format!("/v1/parked?after={}&limit={PAGE}", plain(&after))).await?;
        let parked = page["parked"].as_array().cloned().unwrap_or_default();
        for one in &parked {
            if out.is_json() {
                out.say(one, String::new);
                continue;
            }
            let from = if one["subject"].is_string() { &one["subject"] } else { &one["stream"] };
            let cells = [&one["id"], &one["at"], from, &one["code"], &one["attempts"], &one["error"]];
            rows.push(cells.map(plain).to_vec());
        }
        after = page["next"].clone();
        if after.is_null() || parked.is_empty() {
            break;
        }
    }
    out.tell(&if rows.len() > 1 { table(&rows) } else { "nothing is parked".to_owned() });
    Ok(())
}

/// `spool parked release`
pub(crate) async fn parked_release(client: &Client, out: Out, id: &str) -> Result<(), Failure> {
    // An id is a path part: what could leave it is not sent at all, and the server's own answer to it is "no such".
    let plain_id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if plain_id != id || id.trim_matches('.').is_empty() {
        return Err(Failure::new(
            crate::exit::Exit::Refused,
            format!("{id:?} is no id of a parked message; see `spool parked ls`"),
        ));
    }
    let answer = command(client, Method::POST, &format!("/v1/parked/{id}/release")).await?;
    out.say(&answer, || format!("{id} is back where it came from"));
    Ok(())
}

/// `spool health`: exit 0 when the process is ready.
pub(crate) async fn health(client: &Client, out: Out) -> Result<(), Failure> {
    let answer = client.get("/readyz").await?;
    out.say(&answer, || "ready".to_owned());
    Ok(())
}
