//! One connection of one NATS user.
//!
//! It reconnects by itself, for as long as it lives; calls fail meanwhile. It sees to it that denials are errors.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{ConnectErrorKind, Event, ServerError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::request::{Failure, about};

/// Tries of [`Log::connect`]; with their pauses about half a minute.
const CONNECT_TRIES: u32 = 20;
/// Tries of [`Log::connect_or_tell`]; with their pauses about a second.
const ASK_TRIES: u32 = 5;
/// Longest pause between two tries to connect or reconnect.
const CONNECT_PAUSE: Duration = Duration::from_secs(2);
/// How long one try to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection shows that it lives; two missed ones end it.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Target {
    /// `nats://host:port`, or several with commas between.
    pub url: String,
    /// NATS user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Name in `ce-source` and of the inbox prefix; a role's name, or the user's.
    pub role: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server does not take this user or its password.
    #[error("{url} refuses user {user}")]
    Refused {
        /// Server.
        url: String,
        /// User.
        user: String,
    },
    /// The address is no address.
    #[error("{url} is no address of a NATS server")]
    Address {
        /// What was given.
        url: String,
        /// Why not.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Nobody answered within the patience of [`Log::connect`].
    #[error("no connection to {url} as {user} after {attempts} attempts")]
    Unreachable {
        /// Server.
        url: String,
        /// User.
        user: String,
        /// Attempts made.
        attempts: u32,
        /// The last attempt's error.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// One connection of one NATS user: a role, or admin. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    client: async_nats::Client,
    user: String,
    role: String,
    denials: Arc<Denials>,
    presence: Arc<Presence>,
}

impl Log {
    /// Connects. Tries again for a bounded while where that can help (nobody listens yet), never where it can't (wrong password).
    ///
    /// # Errors
    /// When there is no connection in the end.
    pub async fn connect(target: &Target) -> Result<Log, ConnectError> {
        Self::try_to_connect(target, CONNECT_TRIES).await
    }

    /// Connects for a person who waits for the answer: as [`Log::connect`], but gives up after a second.
    ///
    /// # Errors
    /// When there is no connection by then.
    pub async fn connect_or_tell(target: &Target) -> Result<Log, ConnectError> {
        Self::try_to_connect(target, ASK_TRIES).await
    }

    async fn try_to_connect(target: &Target, tries: u32) -> Result<Log, ConnectError> {
        let denials = Arc::new(Denials::default());
        let presence = Arc::new(Presence::default());
        let urls: Vec<&str> = target.url.split(',').map(str::trim).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match options(target, &denials, &presence).connect(&urls).await {
                Ok(client) => {
                    let (user, role) = (target.user.clone(), target.role.clone());
                    return Ok(Log { inner: Arc::new(Inner { client, user, role, denials, presence }) });
                }
                Err(source) => {
                    let (url, user) = (target.url.clone(), target.user.clone());
                    match source.kind() {
                        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                            return Err(ConnectError::Refused { url, user });
                        }
                        ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                            return Err(ConnectError::Address { url, source });
                        }
                        ConnectErrorKind::Dns
                        | ConnectErrorKind::TimedOut
                        | ConnectErrorKind::Io
                        | ConnectErrorKind::MaxReconnects => {}
                    }
                    if attempts >= tries {
                        return Err(ConnectError::Unreachable { url, user, attempts, source });
                    }
                    about(reconnect_pause(attempts as usize)).await;
                }
            }
        }
    }

    /// Is the connection up at this moment?
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
    }

    /// For how long there has been no connection; nothing while there is one.
    pub fn away_for(&self) -> Option<Duration> {
        self.inner.presence.away_for(Instant::now())
    }

    /// Returns once there has been no connection for `patience` without a break: for those who answer somebody that does not
    /// wait as long as calls are tried again.
    pub async fn gone(&self, patience: Duration) {
        loop {
            let left = patience.saturating_sub(self.away_for().unwrap_or_default());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Permission violations the server has reported to this connection. Each is also logged as an error.
    pub fn denials(&self) -> u64 {
        self.inner.denials.count.load(Ordering::Relaxed)
    }

    /// The role's name, as it stands in `ce-source`.
    pub fn role(&self) -> &str {
        &self.inner.role
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.inner.client
    }

    pub(crate) fn denied(&self, subject: &str) -> Failure {
        Failure::Denied { user: self.inner.user.clone(), subject: subject.to_owned() }
    }

    pub(crate) fn watch(&self, subject: &str) -> Watch {
        self.inner.denials.watch(subject)
    }
}

fn reconnect_pause(attempts: usize) -> Duration {
    Duration::from_millis(25).saturating_mul(1 << attempts.min(8)).min(CONNECT_PAUSE)
}

fn options(target: &Target, denials: &Arc<Denials>, presence: &Arc<Presence>) -> async_nats::ConnectOptions {
    let (denials, presence) = (Arc::clone(denials), Arc::clone(presence));
    let user = target.user.clone();
    async_nats::ConnectOptions::with_user_and_password(target.user.clone(), target.password.clone())
        .name(format!("spool-{}", target.role))
        .custom_inbox_prefix(inbox_prefix(&target.role))
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback(move |event| {
            presence.note(&event, Instant::now());
            denials.note(&user, &event);
            std::future::ready(())
        })
}

/// Where a role's answers come in; nobody else may listen there.
pub(crate) fn inbox_prefix(role: &str) -> String {
    format!("_INBOX_{role}")
}

/// Since when there is no connection. Pure: time is handed in.
#[derive(Default)]
struct Presence(Mutex<Option<Instant>>);

impl Presence {
    fn note(&self, event: &Event, now: Instant) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected => *since = None,
            Event::Disconnected | Event::Closed => *since = since.or(Some(now)),
            Event::ServerError(_)
            | Event::ClientError(_)
            | Event::SlowConsumer(_)
            | Event::Draining
            | Event::LameDuckMode => {}
        }
    }

    fn away_for(&self, now: Instant) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| now.saturating_duration_since(since))
    }
}

/// Permission violations, matched with the calls that wait.
#[derive(Default)]
pub(crate) struct Denials {
    count: AtomicU64,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, (String, Arc<Notify>)>>,
}

impl Denials {
    fn note(&self, user: &str, event: &Event) {
        match event {
            Event::Connected => tracing::info!(user, "connected to the log as {user}"),
            Event::Disconnected => tracing::warn!(user, "{user} lost the connection to the log; it reconnects"),
            Event::ServerError(ServerError::Other(text)) => match violation(text) {
                Some(subject) => self.deny(user, subject, text),
                None => tracing::warn!(user, "the log's server told {user}: {text}"),
            },
            Event::ServerError(ServerError::AuthorizationViolation) => {
                tracing::error!(user, "the log's server no longer takes {user}");
            }
            Event::ServerError(ServerError::SlowConsumer(_)) | Event::SlowConsumer(_) => {
                tracing::warn!(user, "{user} reads answers too slowly; some were dropped and are asked for again");
            }
            // Only we do that, by dropping the last handle: who is cut off reconnects for ever.
            Event::Draining | Event::Closed => tracing::debug!(user, "connection of {user}: {event}"),
            Event::LameDuckMode | Event::ClientError(_) => {
                tracing::warn!(user, "connection of {user}: {event}");
            }
        }
    }

    fn deny(&self, user: &str, subject: &str, text: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::error!(user, subject, "{user} was denied {subject}: {text}");
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Permissions are by subject, so whoever waits for this subject was or will be denied as well.
        waiting.values().filter(|(waits_for, _)| waits_for == subject).for_each(|(_, wake)| wake.notify_one());
    }

    fn watch(self: &Arc<Self>, subject: &str) -> Watch {
        let wake = Arc::new(Notify::new());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id, (subject.to_owned(), Arc::clone(&wake)));
        Watch { id, wake, denials: Arc::clone(self) }
    }
}

/// The subject of a permission violation, out of the server's words.
fn violation(text: &str) -> Option<&str> {
    if !text.to_ascii_lowercase().contains("permissions violation") {
        return None;
    }
    let (_, rest) = text.split_once('"')?;
    rest.split_once('"').map(|(subject, _)| subject)
}

/// Waits for a denial of one subject, from its making on.
pub(crate) struct Watch {
    id: u64,
    wake: Arc<Notify>,
    denials: Arc<Denials>,
}

impl Watch {
    pub(crate) async fn seen(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.denials.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_its_subject() {
        assert_eq!(violation(r#"Permissions Violation for Publish to "a.x""#), Some("a.x"));
        assert_eq!(violation(r#"Permissions Violation for Subscription to "a.>" using queue "q""#), Some("a.>"));
        assert_eq!(violation("Stale Connection"), None);
    }

    #[test]
    fn a_connection_is_away_from_its_loss_until_it_is_back() {
        let (presence, start) = (Presence::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(presence.away_for(at(1)), None);
        presence.note(&Event::Disconnected, at(2));
        presence.note(&Event::LameDuckMode, at(3));
        presence.note(&Event::Disconnected, at(4));
        assert_eq!(presence.away_for(at(7)), Some(Duration::from_secs(5)));
        presence.note(&Event::Connected, at(8));
        assert_eq!(presence.away_for(at(9)), None);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(reconnect_pause(0), Duration::from_millis(25));
        assert_eq!(reconnect_pause(usize::MAX), CONNECT_PAUSE);
    }

    #[test]
    fn a_target_does_not_print_its_password() {
        let target = Target { url: "nats://x".into(), user: "u".into(), password: "secret".into(), role: "u".into() };
        assert!(!format!("{target:?}").contains("secret"));
    }
}
