//! Leaving mode ebpf: another dataplane takes new connections, and the programs stay until the last of theirs is over.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use shunt_abi::address::UDP;
use shunt_abi::config::{Config, Range4, Range6};

use super::attachments::detach_sockets;
use super::cleanup::cleanup;
use super::collector::Census;
use super::directory::Directory;
use super::flow_maps::FlowMaps;
use super::flows::Key;
use super::map::{MapError, TypedMap};
use super::maps::Maps;
use super::patience::{Judge, Pace, Patience};
use super::programs::Programs;
use super::words;
use crate::domain::IpFamily;

/// How often it is looked whether the last connection is over.
const LOOK: Duration = Duration::from_secs(10);

/// Has the programs take no new connection, and removes them with everything else when the last of theirs is over. The
/// other dataplane is in place already. What a build with other layouts left goes at once.
pub fn retire(bpffs_root: &Path, tcp_idle_seconds: u64) -> io::Result<()> {
    let Some(directory) = Directory::find(bpffs_root) else { return cleanup(bpffs_root) };
    let Ok(maps) = Maps::open(&directory.maps()) else { return cleanup(bpffs_root) };
    directory.remove_others()?;
    let other = |error: &dyn std::error::Error| io::Error::other(words(error));
    detach_sockets(&directory.links()).map_err(|error| other(&error))?;
    take_no_more(&maps).map_err(|error| other(&error))?;
    let programs = Programs::load(&directory.maps(), false, None, false).map_err(|error| other(&error))?;
    let root = bpffs_root.to_owned();
    let patience = Patience { idle: tcp_idle_seconds };
    thread::Builder::new().name("ebpf-retires".into()).spawn(move || {
        let mut pace = Pace::default();
        let mut censuses = [IpFamily::V4, IpFamily::V6].map(Census::new);
        loop {
            match remaining(&maps, &programs, (&mut pace, patience), &mut censuses) {
                Ok(Some(0)) => break,
                Ok(_) => {}
                Err(error) => tracing::warn!("waiting for the last connections of mode ebpf: {error}"),
            }
            thread::sleep(LOOK);
        }
        match cleanup(&root) {
            Ok(()) => tracing::info!("the last connection of mode ebpf is over; its programs are gone"),
            Err(error) => tracing::error!("removing the programs of mode ebpf: {error}"),
        }
    })?;
    tracing::info!("mode ebpf takes no new connections any more");
    Ok(())
}

/// Nothing is a frontend any more, and no address is dropped. Flows of datagrams begin anew at once, because nobody
/// looks after their backends any more; replies that are under way are still turned back.
fn take_no_more(maps: &Maps) -> Result<(), MapError> {
    let config = maps.config.get(&0)?.unwrap_or_default();
    let none = Config::default();
    let (services4, services6): ([Range4; _], [Range6; _]) = (none.services4, none.services6);
    maps.config.set(&0, &Config { services4, services6, ..config })?;
    remove_if(&maps.frontends4, |_| true)?;
    remove_if(&maps.frontends6, |_| true)?;
    leave_replies(&maps.flow_maps4())?;
    leave_replies(&maps.flow_maps6())
}

/// Flows of datagrams become such that know replies only.
fn leave_replies<K: Key>(maps: &FlowMaps<'_, K>) -> Result<(), MapError> {
    let flows = maps.flows.entries()?;
    let mut flows = flows.iter().filter(|(key, _)| key.protocol() == UDP);
    flows.try_for_each(|(key, value)| maps.leave_replies(key, value))
}

fn remove_if<K: super::map::Plain, V: super::map::Plain>(
    map: &TypedMap<K, V>,
    goes: impl Fn(&K) -> bool,
) -> Result<(), MapError> {
    let entries = map.entries()?;
    entries.iter().filter(|(key, _)| goes(key)).try_for_each(|(key, _)| map.delete(key).map(drop))
}

/// Elements that are left; `None` while it cannot be told how old they are.
fn remaining(
    maps: &Maps,
    programs: &Programs,
    (pace, patience): (&mut Pace, Patience),
    [census4, census6]: &mut [Census; 2],
) -> Result<Option<u64>, String> {
    programs.read_clock().map_err(|error| words(&error))?;
    let reading = maps.clock.get(&0).map_err(|error| words(&error))?.unwrap_or_default();
    pace.take(reading);
    let judge = Judge { pace: *pace, now: reading.tick(), patience };
    let four = census4.look(&maps.flows4, &maps.established, &judge).map_err(|error| words(&error))?;
    let six = census6.look(&maps.flows6, &maps.established, &judge).map_err(|error| words(&error))?;
    let left = four.elements + six.elements;
    // None at all need no age.
    Ok((left == 0 || pace.is_known()).then_some(left))
}
