//! What programs log, in the agent's own log: for objects built by `cargo xtask build-ebpf --log`, which alone have
//! something to say.

use std::os::fd::AsFd as _;
use std::thread;

use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Hands records of the programs over as events, as long as the process lives. Objects without logs have none.
pub(super) fn follow(object: &mut Ebpf) {
    match EbpfLogger::init_with_logger(object, Events) {
        Ok(logger) => {
            let started = thread::Builder::new().name("program-log".to_owned()).spawn(|| read(logger));
            if let Err(error) = started {
                tracing::warn!(%error, "the BPF programs' log is not followed");
            }
        }
        Err(error) => tracing::debug!(%error, "the BPF programs log nothing"),
    }
}

fn read(mut logger: EbpfLogger<Events>) {
    loop {
        let mut waiting = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut waiting, PollTimeout::NONE)
            && error != nix::Error::EINTR
        {
            tracing::warn!(%error, "the BPF programs' log is not followed any more");
            return;
        }
        logger.flush();
    }
}

/// Makes events of records.
struct Events;

impl log::Log for Events {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "shunt::bpf", place = record.line(), "{}", record.args());
    }

    fn flush(&self) {}
}
