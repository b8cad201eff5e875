//! Cgroups for threads of this process: whose sockets an agent may balance.

use std::path::Path;

use anyhow::Result;

use crate::lab::{Cgroup, unique_name};

/// A cgroup that threads of the benchmark can enter one by one.
///
/// A socket belongs to the cgroup of the thread that opens it, so lanes of one process can be under the socket programs
/// of different agents, and a lane without an agent under none.
#[derive(Debug)]
pub(super) struct Seat {
    cgroup: Cgroup,
}

impl Seat {
    pub(super) fn create() -> Result<Self> {
        Ok(Self { cgroup: Cgroup::create(&unique_name())? })
    }

    pub(super) fn path(&self) -> &Path {
        self.cgroup.path()
    }

    /// Moves the calling thread here: sockets that it opens from now on are of this cgroup.
    pub(super) fn enter(&self) -> Result<()> {
        self.cgroup.admit_this_thread()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_thread_that_enters_moves() {
        let seat = Seat::create().unwrap();
        let name = seat.path().file_name().unwrap().to_str().unwrap().to_owned();
        let own = || fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        let inside = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                seat.enter().unwrap();
                own()
            });
            thread.join().unwrap()
        });
        assert!(inside.contains(&name));
        assert!(!own().contains(&name));
    }
}
