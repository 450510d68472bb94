//! Trace context: what a handler appends or orders carries on the trace of the message it handles.
//!
//! A `traceparent` (W3C) travels in a header. [`crate::Durable::step`] and [`scope`] set it for the work they run; whatever that work writes to the log carries it.

tokio::task_local! {
    static CURRENT: Option<String>;
}

/// Runs `work` under this trace context (a `traceparent`), so that what it writes to the log carries it on.
pub async fn scope<F: Future>(traceparent: Option<String>, work: F) -> F::Output {
    CURRENT.scope(traceparent, work).await
}

/// The trace context that work is done under here, if any.
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// A new `traceparent` from these random bits.
pub fn start(trace: u128, span: u64) -> String {
    format!("00-{trace:032x}-{span:016x}-01")
}

/// The trace id in a `traceparent`: what the spans of one asset's way through the roles share.
pub fn id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_sees_the_context_it_runs_under_and_nothing_outside() {
        let traceparent = start(7, 8);
        assert_eq!(scope(Some(traceparent.clone()), async { current() }).await, Some(traceparent.clone()));
        assert_eq!(current(), None);
        assert_eq!(id(&traceparent), Some("00000000000000000000000000000007"));
        assert_eq!(id("nonsense"), None);
    }
}
