//! How long to wait after a failure.

use std::time::Duration;

use rand::Rng;

use crate::watch::ErrorReason;

/// First upper bound of the wait.
const FIRST: Duration = Duration::from_millis(200);
/// Never wait less than this.
const SHORTEST: Duration = Duration::from_millis(50);
/// For a server that is away or starting: its return is to be noticed within two seconds.
const LONGEST_AWAY: Duration = Duration::from_millis(1_500);
/// For a server that asks for less, or refuses us.
const LONGEST_REFUSED: Duration = Duration::from_secs(10);
/// For a resource that we can do without.
const LONGEST_ABSENT: Duration = Duration::from_mins(1);
/// A server may not keep us away for longer than this with one Retry-After.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Exponential backoff with full jitter: the agents of a whole cluster must not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since something worked.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait after a failure of a resource; `retry_after` is the least that the server asked for.
    pub(super) fn after(
        &mut self,
        reason: ErrorReason,
        absent: bool,
        retry_after: Option<Duration>,
    ) -> Duration {
        let longest = match reason {
            _ if absent => LONGEST_ABSENT,
            ErrorReason::Throttled | ErrorReason::Forbidden | ErrorReason::NotFound => LONGEST_REFUSED,
            _ => LONGEST_AWAY,
        };
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let jitter = rand::rng().random_range(SHORTEST..=bound);
        match retry_after {
            // Spread beyond the moment that the server gave to everybody.
            Some(least) => least.min(LONGEST_RETRY_AFTER) + jitter.min(LONGEST_AWAY),
            None => jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_of_their_reason_and_no_further() {
        let cases = [
            (ErrorReason::Transport, false, LONGEST_AWAY),
            (ErrorReason::Server, false, LONGEST_AWAY),
            (ErrorReason::Throttled, false, LONGEST_REFUSED),
            (ErrorReason::Forbidden, false, LONGEST_REFUSED),
            (ErrorReason::NotFound, true, LONGEST_ABSENT),
        ];
        for (reason, absent, longest) in cases {
            let mut backoff = Backoff::default();
            let first = backoff.after(reason, absent, None);
            assert!((SHORTEST..=FIRST).contains(&first), "{reason:?}: first wait {first:?}");
            let waits: Vec<_> = (0..200).map(|_| backoff.after(reason, absent, None)).collect();
            assert!(waits.iter().all(|wait| (SHORTEST..=longest).contains(wait)), "{reason:?}");
            assert!(waits.iter().any(|wait| *wait > longest / 2), "{reason:?} never waits long");
            backoff.reset();
            assert!(backoff.after(reason, absent, None) <= FIRST, "{reason:?} after a success");
        }
    }

    #[test]
    fn the_time_a_server_asks_for_is_the_least_waited() {
        let asked = Duration::from_secs(3);
        let wait = Backoff::default().after(ErrorReason::Throttled, false, Some(asked));
        assert!(wait > asked && wait <= asked + FIRST, "{wait:?}");
        let wait = Backoff::default().after(ErrorReason::Throttled, false, Some(Duration::from_hours(24)));
        assert!(wait <= LONGEST_RETRY_AFTER + FIRST, "{wait:?}");
    }
}
