//! Looks after what the programs are attached to, on a thread of its own: interfaces that appear, what others take away,
//! and clients that need the masquerade rule.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::monitor::Monitor;
use super::shared::Shared;

/// Looks at least this often whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// While a client may come that needs the masquerade rule. Its first packet was dropped, and the second of a TCP
/// connection follows after a second.
const LOOK_FOR_CLIENTS: Duration = Duration::from_millis(100);
/// Nobody tells of links that were detached by force.
const CHECK: Duration = Duration::from_secs(10);

/// Looks again whenever something changes, until `shared` is gone.
pub(super) fn watch(mut monitor: Monitor, shared: &Weak<Shared>) {
    let mut check_at = Instant::now() + CHECK;
    let mut pause = LOOK;
    loop {
        let noticed = monitor.wait(pause);
        let Some(shared) = Weak::upgrade(shared) else { return };
        let news = noticed.unwrap_or_else(|error| {
            tracing::warn!("watching interfaces: {error}");
            std::thread::sleep(LOOK);
            super::monitor::News::EVERYTHING
        });
        if news.interfaces {
            shared.look();
        } else {
            shared.attachments().settle_one();
        }
        shared.look_for_masquerading();
        if news.filters || news.rule || Instant::now() >= check_at {
            shared.check();
            check_at = Instant::now() + CHECK;
        }
        pause = next_pause(&shared);
        drop::<Arc<Shared>>(shared);
    }
}

fn next_pause(shared: &Shared) -> Duration {
    if shared.attachments().is_unsettled() {
        Duration::ZERO
    } else if shared.masquerade().awaits_clients() {
        LOOK_FOR_CLIENTS
    } else {
        LOOK
    }
}
