//! How often something costly is done that changes ask for: at once after a few changes, seldom while they go on.

use std::time::{Duration, Instant};

/// One part in so many of the time may go into it in the long run ...
const SHARE: u32 = 100;
/// ... and this much at once, so that a few times in a row go without a pause.
const BURST: Duration = Duration::from_millis(100);
/// No pause is longer: what is to be done has to do with traffic that goes wrong.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What was spent on it lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Time that it took, less what was forgotten since.
    spent: Duration,
    at: Instant,
}

impl Allowance {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { spent: Duration::ZERO, at: now }
    }

    /// It was done again, and took so long; the pause before the next time.
    pub(crate) fn spend(&mut self, now: Instant, took: Duration) -> Duration {
        let forgotten = now.saturating_duration_since(self.at) / SHARE;
        self.spent = self.spent.saturating_sub(forgotten) + took;
        self.at = now;
        (self.spent.saturating_sub(BURST) * SHARE).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(5);

    #[test]
    fn a_few_times_in_a_row_go_without_a_pause() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let pauses: Vec<_> = (0..20).map(|_| allowance.spend(now, TOOK)).collect();
        assert_eq!(pauses, [Duration::ZERO; 20]);
        assert_eq!(allowance.spend(now, TOOK), TOOK * SHARE);
        assert_eq!(allowance.spend(now, TOOK * 20), LONGEST_PAUSE);
    }

    #[test]
    fn what_goes_on_takes_a_small_part_of_the_time() {
        let start = Instant::now();
        let (mut allowance, mut now, mut times) = (Allowance::new(start), start, 0);
        while now < start + Duration::from_secs(100) {
            now += allowance.spend(now, TOOK).max(Duration::from_millis(20));
            times += 1;
        }
        let spent = TOOK * times;
        assert!(spent > Duration::from_millis(900) && spent < Duration::from_millis(1200), "{spent:?}");
    }
}
