//! The time, as it is or as a test wants it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// One moment on both clocks: waiting times are measured on the first, what people read comes from the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never goes back.
    pub monotonic: Instant,
    /// Date and time, as the host believes.
    pub wall: Timestamp,
}

/// Where moments come from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The host's clocks.
    #[default]
    System,
    /// A clock that stands still until [`Clock::advance`] is called; clones share it.
    Manual(Arc<Mutex<Moment>>),
}

impl Clock {
    /// A manual clock that starts at that date and time.
    pub fn manual(wall: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(Moment { monotonic: Instant::now(), wall })))
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        match self {
            Self::System => Moment { monotonic: Instant::now(), wall: Timestamp::now() },
            Self::Manual(moment) => *moment.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock on; the host's clocks take no orders.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(moment) = self {
            let mut moment = moment.lock().unwrap_or_else(PoisonError::into_inner);
            moment.monotonic += by;
            moment.wall = moment
                .wall
                .saturating_add(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX))
                .unwrap_or(Timestamp::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let (before, copy) = (clock.now(), clock.clone());
        clock.advance(Duration::from_secs(90));
        assert_eq!(copy.now().wall.as_second(), 90);
        assert_eq!(copy.now().monotonic - before.monotonic, Duration::from_secs(90));
    }
}
