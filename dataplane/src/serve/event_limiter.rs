//! Which Events are worth a request to the API.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{ClusterEvent, EventObject};

/// The same thing about the same object is told again after this time.
const REPEAT: Duration = Duration::from_mins(1);
/// So many Events may come at once, and one more in each interval.
const BURST: u32 = 50;
const REFILL: Duration = Duration::from_secs(2);
/// Most things remembered; the oldest are forgotten first.
const REMEMBERED: usize = 4096;

/// Pure: every call is given the time.
#[derive(Debug)]
pub(super) struct EventLimiter {
    told: HashMap<(EventObject, &'static str), Told>,
    tokens: u32,
    refilled: Instant,
}

#[derive(Debug)]
struct Told {
    message: String,
    at: Instant,
}

impl EventLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { told: HashMap::new(), tokens: BURST, refilled: now }
    }

    /// Whether to send that Event; takes it for sent if so.
    pub(super) fn allows(&mut self, event: &ClusterEvent, now: Instant) -> bool {
        let key = (event.object.clone(), event.reason);
        let repeated = self.told.get(&key).is_some_and(|told| {
            told.message == event.message && now.saturating_duration_since(told.at) < REPEAT
        });
        if repeated || !self.take_token(now) {
            return false;
        }
        self.make_room(now);
        self.told.insert(key, Told { message: event.message.clone(), at: now });
        true
    }

    fn take_token(&mut self, now: Instant) -> bool {
        while self.tokens < BURST && now.saturating_duration_since(self.refilled) >= REFILL {
            self.tokens += 1;
            self.refilled += REFILL;
        }
        if self.tokens == BURST {
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }

    fn make_room(&mut self, now: Instant) {
        if self.told.len() >= REMEMBERED {
            self.told.retain(|_, told| now.saturating_duration_since(told.at) < REPEAT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ServiceName;
    use crate::serve::Severity;

    fn event(service: usize, message: &str) -> ClusterEvent {
        ClusterEvent {
            object: EventObject::Service(
                ServiceName::new("default", format!("s{service}").as_str()),
                "uid".into(),
            ),
            severity: Severity::Warning,
            reason: "Conflict",
            action: "Program",
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_same_event_is_told_once_a_minute() {
        let start = Instant::now();
        let mut limiter = EventLimiter::new(start);
        assert!(limiter.allows(&event(1, "m"), start));
        assert!(!limiter.allows(&event(1, "m"), start + Duration::from_secs(59)));
        assert!(limiter.allows(&event(1, "other"), start + Duration::from_secs(59)));
        assert!(limiter.allows(&event(2, "m"), start + Duration::from_secs(59)));
        assert!(limiter.allows(&event(1, "other"), start + Duration::from_mins(2)));
    }

    #[test]
    fn a_flood_passes_up_to_the_burst_and_then_one_in_two_seconds() {
        let start = Instant::now();
        let mut limiter = EventLimiter::new(start);
        let allowed = |limiter: &mut EventLimiter, services: std::ops::Range<usize>, at| -> usize {
            services.filter(|&service| limiter.allows(&event(service, "m"), at)).count()
        };
        assert_eq!(allowed(&mut limiter, 0..200, start), 50);
        assert_eq!(allowed(&mut limiter, 200..400, start + Duration::from_secs(5)), 2);
        assert_eq!(allowed(&mut limiter, 400..600, start + Duration::from_secs(6)), 1);
        assert_eq!(allowed(&mut limiter, 600..800, start + Duration::from_secs(1000)), 50);
    }
}
