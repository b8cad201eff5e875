//! When a flow is over.

use std::time::Duration;

use shunt_abi::address::{TCP, UDP};
use shunt_abi::clock::ClockReading;
use shunt_abi::flow::{FINISHED, RESET};

use super::flows::State;

/// After a reset nothing follows but what was under way; nor in an element that no packet finds any more.
const AFTER_RESET: u64 = 10;
/// As connection tracking keeps what is closed, for stragglers.
const AFTER_CLOSE: u64 = 60;
/// One side has closed and the other says nothing.
const HALF_CLOSED: u64 = 3600;
/// Half-open flows: nobody answered.
const UNANSWERED: u64 = 60;
/// Flows without connections, while they last.
const DATAGRAMS: u64 = 180;

/// How long which flows are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Idle established connections, seconds.
    pub(super) idle: u64,
}

impl Patience {
    fn of(self, protocol: u8, state: &State) -> u64 {
        let (either, both) = (state.by_client | state.by_backend, state.by_client & state.by_backend);
        if either & RESET != 0 {
            return AFTER_RESET;
        }
        if both & FINISHED != 0 {
            return AFTER_CLOSE;
        }
        match protocol {
            _ if !state.is_established() => UNANSWERED,
            UDP => DATAGRAMS,
            TCP if either & FINISHED != 0 => HALF_CLOSED.min(self.idle),
            _ => self.idle,
        }
    }
}

/// The programs' clock, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    first: Option<ClockReading>,
    /// Jiffies a second; 0 while not known.
    jiffies: u64,
}

impl Pace {
    /// Takes in a reading. The pace is known with the second one, a second later.
    pub(super) fn take(&mut self, reading: ClockReading) {
        let Some(first) = self.first else {
            self.first = Some(reading);
            return;
        };
        let nanoseconds = reading.nanoseconds.saturating_sub(first.nanoseconds);
        if nanoseconds >= 1_000_000_000 {
            let jiffies = u128::from(reading.jiffies.wrapping_sub(first.jiffies)) * 1_000_000_000;
            self.jiffies = u64::try_from(jiffies.div_ceil(u128::from(nanoseconds))).unwrap_or(0);
        }
    }

    /// Seconds between two ticks, at least; `None` while the pace is not known.
    fn seconds(&self, from: u32, to: u32) -> Option<u64> {
        let elapsed = u64::from(ticks(from, to).saturating_sub(1));
        (elapsed << shunt_abi::clock::JIFFIES_SHIFT).checked_div(self.jiffies)
    }

    /// Whether ages can be told.
    pub(super) const fn is_known(&self) -> bool {
        self.jiffies > 0
    }
}

/// Ticks between two of them. A packet may have come since the clock was read: 0.
const fn ticks(from: u32, to: u32) -> u32 {
    let elapsed = to.wrapping_sub(from);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

/// Tells what is over at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) pace: Pace,
    /// The tick it is now.
    pub(super) now: u32,
    pub(super) patience: Patience,
}

impl Judge {
    /// Whether a flow is over, or was idle for too long. `state` is that of the whole flow.
    pub(super) fn is_over(&self, protocol: u8, state: &State) -> bool {
        self.is_older(state, self.patience.of(protocol, state))
    }

    /// Whether no packet has found the element for a while, as one does not that nothing leads to.
    pub(super) fn is_quiet(&self, state: &State) -> bool {
        self.is_older(state, AFTER_RESET)
    }

    fn is_older(&self, state: &State, seconds: u64) -> bool {
        self.pace.seconds(state.last_seen, self.now).is_some_and(|age| age >= seconds)
    }

    /// The state of a flow that has two elements, from both.
    pub(super) const fn whole(&self, main: &State, alias: &State) -> State {
        let is_later = ticks(alias.last_seen, self.now) < ticks(main.last_seen, self.now);
        State {
            by_client: main.by_client | alias.by_client,
            by_backend: main.by_backend | alias.by_backend,
            last_seen: if is_later { alias.last_seen } else { main.last_seen },
            ..*main
        }
    }
}

/// How long to wait until the next look, after one that found so many flows.
pub(super) fn pause(flows: u64) -> Duration {
    // A look costs about 0.2 us a flow; a fiftieth of a CPU second for each second would be too much.
    Duration::from_secs((flows / 50_000).clamp(5, 30))
}

#[cfg(test)]
pub(super) mod tests {
    use shunt_abi::flow::ESTABLISHED;

    use super::*;

    const PATIENCE: Patience = Patience { idle: 86_400 };

    /// Of a kernel whose tick is a second, and a little more.
    pub(in super::super) fn judge(now: u32) -> Judge {
        let mut pace = Pace::default();
        pace.take(ClockReading { nanoseconds: 0, jiffies: 0 });
        pace.take(ClockReading { nanoseconds: 2_000_000_000, jiffies: 512 });
        Judge { pace, now, patience: PATIENCE }
    }

    fn state(by_client: u8, by_backend: u8) -> State {
        State { by_client, by_backend, ..State::default() }
    }

    #[test]
    fn patience_follows_the_state() {
        let of = |protocol, client, backend| PATIENCE.of(protocol, &state(client | ESTABLISHED, backend));
        assert_eq!(of(TCP, 0, 0), 86_400);
        assert_eq!(of(TCP, FINISHED, 0), HALF_CLOSED);
        assert_eq!(of(TCP, FINISHED, FINISHED), AFTER_CLOSE);
        assert_eq!(of(TCP, 0, RESET), AFTER_RESET);
        assert_eq!(of(UDP, 0, 0), DATAGRAMS);
        assert_eq!(
            PATIENCE.of(UDP, &state(0, ESTABLISHED)),
            DATAGRAMS,
            "the backend's packet established it"
        );
        assert_eq!(PATIENCE.of(TCP, &state(0, 0)), UNANSWERED);
        assert_eq!(PATIENCE.of(TCP, &state(RESET, 0)), AFTER_RESET);
    }

    #[test]
    fn ages_are_told_from_two_readings_of_the_clock() {
        let mut pace = Pace::default();
        pace.take(ClockReading { nanoseconds: 5_000_000_000, jiffies: 1_000 });
        assert!(!pace.is_known());
        pace.take(ClockReading { nanoseconds: 15_000_000_000, jiffies: 3_500 });
        // 250 jiffies a second: a tick is 1.024 s, and one tick is in doubt.
        assert_eq!(pace.seconds(10, 111), Some(102));
        assert_eq!(pace.seconds(u32::MAX - 9, 91), Some(102), "the ticks wrap");
        assert_eq!(pace.seconds(11, 10), Some(0), "seen after the clock was read");
    }

    #[test]
    fn of_two_elements_the_one_that_was_seen_last_counts() {
        let latest = |main, alias, now| {
            let seen = |last_seen| State { last_seen, ..State::default() };
            judge(now).whole(&seen(main), &seen(alias)).last_seen
        };
        assert_eq!([latest(3, 7, 10), latest(7, 3, 10)], [7, 7]);
        assert_eq!([latest(3, 11, 10), latest(11, 3, 10)], [11, 11], "after the clock was read");
        assert_eq!([latest(u32::MAX, 2, 10), latest(2, u32::MAX, 10)], [2, 2], "the ticks wrap");
    }

    #[test]
    fn of_two_elements_each_knows_one_direction() {
        let whole = judge(10).whole(&state(ESTABLISHED | FINISHED, 0), &state(0, FINISHED));
        assert_eq!(PATIENCE.of(TCP, &whole), AFTER_CLOSE);
        assert!(whole.is_established());
    }
}
