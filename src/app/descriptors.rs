//! The process's limit of open files: raised as far as the system allows, and divided between connections and the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Reserved for the store, the log, the broker, health checks, and operators, whatever the limit.
const RESERVE_DESCRIPTORS: u64 = 64;
/// One part in this many is reserved for deliveries.
const DELIVERIES_PART: u64 = 4;
/// Lower bound of inbound connections, however low the limit.
const CONNECTIONS_LEAST: u64 = 8;
/// Upper bound of inbound connections, however high the limit.
const CONNECTIONS_MOST: u64 = 1_000_000;

/// Raises the soft limit of open files to the hard limit, and returns the limit in force. If the system refuses, the
/// limit stays.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many inbound connections are accepted at a time. `configured`: `server.max_connections`; 0 means as many as the
/// limit allows.
pub(super) fn connections(configured: usize, limit_descriptors: u64) -> usize {
    let rest = limit_descriptors.saturating_sub(RESERVE_DESCRIPTORS + limit_descriptors / DELIVERIES_PART);
    let most = rest.clamp(CONNECTIONS_LEAST, CONNECTIONS_MOST);
    let asked = if configured == 0 { most } else { configured as u64 };
    if asked > most {
        tracing::warn!(
            "server.max_connections is {configured}, and the limit of {limit_descriptors} open files allows {most}; raise \
             the limit (ulimit -n, LimitNOFILE)"
        );
    } else if rest < CONNECTIONS_LEAST {
        tracing::warn!("the limit of {limit_descriptors} open files is too low; raise it (ulimit -n, LimitNOFILE)");
    }
    usize::try_from(asked.min(most)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_of_descriptors() {
        for (configured, limit, expected) in [
            (0, 1024, 1024 - 64 - 256),
            (0, 256, 128),
            (0, 64, 8),
            (0, u64::MAX, 1_000_000),
            (100, 1024, 100),
            (5000, 1024, 704),
        ] {
            assert_eq!(connections(configured, limit), expected, "{configured} of {limit}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(limit, now.current.unwrap_or(u64::MAX));
    }
}
