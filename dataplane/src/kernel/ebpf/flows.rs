//! Forgetting flows that are over or idle, both halves together.

use std::time::Duration;

use shunt_abi::address::{TCP, Words};
use shunt_abi::clock::ClockReading;
use shunt_abi::config::Config;
use shunt_abi::flow::{FINISHED, FORWARD, FlowKey4, FlowKey6, FlowValue4, FlowValue6, MASQUERADED, RESET};

use super::map::{MapError, Plain, TypedMap};

/// After a reset nothing follows but what was under way.
const AFTER_RESET: u64 = 10;
/// As connection tracking keeps what is closed, for stragglers.
const AFTER_CLOSE: u64 = 60;
/// One side has closed and the other says nothing.
const HALF_CLOSED: u64 = 3600;
/// Opening flows: nobody answered.
const UNANSWERED: u64 = 60;
/// Flows without connections, while they last.
const DATAGRAMS: u64 = 180;

/// How long which flows are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Idle established connections, seconds.
    pub(super) idle: u64,
}

/// Where a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Established,
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

/// One half of a flow, both families alike.
pub(super) trait Key: Plain {
    type Value: Plain;
    fn protocol(&self) -> u8;
    fn is_forward(&self) -> bool;
    fn other(&self, value: &Self::Value, config: &Config) -> Self;
    /// Flags, and the tick of the last packet.
    fn state(value: &Self::Value) -> (u16, u32);
}

macro_rules! key {
    ($key:ty, $value:ty, $hairpin:ident: $address:ty) => {
        impl Key for $key {
            type Value = $value;

            fn protocol(&self) -> u8 {
                self.protocol
            }

            fn is_forward(&self) -> bool {
                self.direction == FORWARD
            }

            fn other(&self, value: &$value, config: &Config) -> Self {
                let hairpin: $address = config.$hairpin;
                self.other_half(value, hairpin)
            }

            fn state(value: &$value) -> (u16, u32) {
                (value.flags, value.last_seen)
            }
        }
    };
}
key!(FlowKey4, FlowValue4, hairpin4: u32);
key!(FlowKey6, FlowValue6, hairpin6: Words);

/// What a look through a map found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Flows that stay.
    pub(super) flows: u64,
    /// Flows that were removed.
    pub(super) removed: u64,
    /// Halves of flows that are masqueraded.
    pub(super) masqueraded: u64,
}

/// Everything that a look through needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collector<'a> {
    pub(super) pace: &'a Pace,
    /// The tick it is now.
    pub(super) now: u32,
    pub(super) patience: Patience,
    pub(super) config: &'a Config,
}

impl Collector<'_> {
    /// Removes what is over from the map of established flows.
    pub(super) fn established<K: Key>(&self, map: &TypedMap<K, K::Value>) -> Result<Found, MapError> {
        self.collect(map, Stage::Established)
    }

    /// Removes what was never answered from the map of opening flows.
    pub(super) fn opening<K: Key>(&self, map: &TypedMap<K, K::Value>) -> Result<Found, MapError> {
        self.collect(map, Stage::Opening)
    }

    fn collect<K: Key>(&self, map: &TypedMap<K, K::Value>, stage: Stage) -> Result<Found, MapError> {
        let mut found = Found::default();
        let mut outcome = Ok(());
        map.visit(&mut |entries| {
            for (key, value) in entries {
                found.flows += u64::from(key.is_forward());
                found.masqueraded += u64::from(K::state(value).0 & MASQUERADED != 0);
                match self.consider(map, stage, key, value) {
                    Ok(removed) => found.removed += u64::from(removed && key.is_forward()),
                    Err(error) => outcome = Err(error),
                }
            }
        })?;
        found.flows -= found.removed.min(found.flows);
        outcome.map(|()| found)
    }

    /// Removes both halves if the flow is over; whether it was.
    fn consider<K: Key>(
        &self,
        map: &TypedMap<K, K::Value>,
        stage: Stage,
        key: &K,
        value: &K::Value,
    ) -> Result<bool, MapError> {
        let (flags, seen) = K::state(value);
        // What is recent for one half alone is not over; most flows are left at this.
        if !self.is_over(stage, key.protocol(), (flags, flags), seen) {
            return Ok(false);
        }
        let other = key.other(value, self.config);
        if let Some(twin) = map.get(&other)? {
            let (twin_flags, twin_seen) = K::state(&twin);
            let latest = self.latest(seen, twin_seen);
            if !self.is_over(stage, key.protocol(), (flags, twin_flags), latest) {
                return Ok(false);
            }
            map.delete(&other)?;
        }
        map.delete(key)
    }

    /// The later one of two ticks.
    const fn latest(&self, one: u32, other: u32) -> u32 {
        if ticks(one, self.now) < ticks(other, self.now) { one } else { other }
    }

    fn is_over(&self, stage: Stage, protocol: u8, flags: (u16, u16), seen: u32) -> bool {
        let Some(age) = self.pace.seconds(seen, self.now) else { return false };
        age >= self.patience.of(stage, protocol, flags)
    }
}

impl Patience {
    fn of(self, stage: Stage, protocol: u8, (one, other): (u16, u16)) -> u64 {
        if (one | other) & RESET != 0 {
            return AFTER_RESET;
        }
        if one & other & FINISHED != 0 {
            return AFTER_CLOSE;
        }
        match (stage, protocol) {
            (Stage::Opening, _) => UNANSWERED,
            (Stage::Established, shunt_abi::address::UDP) => DATAGRAMS,
            (Stage::Established, TCP) if (one | other) & FINISHED != 0 => HALF_CLOSED.min(self.idle),
            (Stage::Established, _) => self.idle,
        }
    }
}

/// How long to wait until the next look, after one that found so many flows.
pub(super) fn pause(flows: u64) -> Duration {
    // A look costs about 0.2 us a flow; a fiftieth of a CPU second for each second would be too much.
    Duration::from_secs((flows / 50_000).clamp(5, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: 86_400 };

    #[test]
    fn patience_follows_the_state() {
        const UDP: u8 = 17;
        let of = |stage, protocol, one, other| PATIENCE.of(stage, protocol, (one, other));
        assert_eq!(of(Stage::Established, TCP, 0, 0), 86_400);
        assert_eq!(of(Stage::Established, TCP, FINISHED, 0), HALF_CLOSED);
        assert_eq!(of(Stage::Established, TCP, FINISHED, FINISHED), AFTER_CLOSE);
        assert_eq!(of(Stage::Established, TCP, 0, RESET), AFTER_RESET);
        assert_eq!(of(Stage::Established, UDP, 0, 0), DATAGRAMS);
        assert_eq!(of(Stage::Opening, TCP, 0, 0), UNANSWERED);
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
    fn of_both_halves_the_one_that_was_seen_last_counts() {
        let (pace, config) = (Pace::default(), Config::default());
        let collector = Collector { pace: &pace, now: 10, patience: PATIENCE, config: &config };
        assert_eq!([collector.latest(3, 7), collector.latest(7, 3)], [7, 7]);
        assert_eq!([collector.latest(3, 11), collector.latest(11, 3)], [11, 11], "after the clock was read");
        assert_eq!([collector.latest(u32::MAX, 2), collector.latest(2, u32::MAX)], [2, 2], "the ticks wrap");
    }
}
