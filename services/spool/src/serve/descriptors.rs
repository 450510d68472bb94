//! Open files: as many as the system lets this process have, and no more connections than leave the rest of it some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What stays for all else: the view, objects that are written and read, NATS, and what children are spoken to through.
const BESIDES_CONNECTIONS: u64 = 512;

/// Raises the soft limit to the hard one, and says how many connections there may be of those that are wanted.
pub(crate) fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    // One that can't be raised holds, and the count goes by it.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
    let files = if raised { limit.maximum } else { limit.current };
    let allowed = files.map_or(wanted, |files| allowed(wanted, files));
    if allowed < wanted {
        tracing::warn!(
            files,
            connections = allowed,
            "only {allowed} connections are taken at once, not the {wanted} of http.max_connections: \
             the system allows this process few open files (ulimit -n, LimitNOFILE=)"
        );
    }
    allowed
}

/// With very few files half of them are for connections: then something else may fail, but not only that.
fn allowed(wanted: usize, files: u64) -> usize {
    let most = files.saturating_sub(BESIDES_CONNECTIONS).max(files / 2).max(1);
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_all_else() {
        let found = [64, 128, 1024, 1536, 524_288].map(|files| allowed(1024, files));
        assert_eq!(found, [32, 64, 512, 1024, 1024]);
        assert_eq!((allowed(10, 64), allowed(10, 1)), (10, 1));
    }

    #[test]
    fn the_soft_limit_is_raised() {
        connections(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
