//! What the programs are told of interfaces so that packets of accelerated flows can leave the host's stack out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use shunt_abi::interface::{ACCELERATES, BEGINS, HANDS_OVER, InterfaceValue};

use super::classic::Classic;
use super::hook::{HOOKS, Hook};
use super::interfaces::{Interface, Role};
use super::link;
use super::map::{MapError, TypedMap};
use super::route_mtus;

/// The bridges that the programs know.
#[derive(Debug, Default)]
pub(super) struct Shortcuts {
    bridges: BTreeMap<u32, InterfaceValue>,
    /// Interfaces that routes with an MTU of their own lead to, as of the last look.
    narrow: BTreeSet<u32>,
}

/// Adds to the value of an interface with programs what accelerated flows need to know; `pins` are those of its links, and
/// [`Shortcuts::is_narrow`] tells the other.
pub(super) fn describe(
    value: InterfaceValue,
    interface: &Interface,
    (pins, is_narrow): (&[PathBuf; 2], bool),
    classic: &mut Classic,
) -> InterfaceValue {
    if !matches!(interface.role, Role::Veth | Role::BridgePort | Role::Uplink) {
        return value;
    }
    let [enters, leaves] = &HOOKS;
    let [enters_pin, leaves_pin] = pins;
    // Where it cannot be told who else is there, somebody is.
    let behind = others(interface.index, enters, enters_pin, classic).is_none_or(|[behind, _]| behind);
    let leaving =
        others(interface.index, leaves, leaves_pin, classic).is_none_or(|[behind, before]| behind || before);
    let bits =
        [(true, ACCELERATES), (!behind && !is_narrow, BEGINS), (interface.is_way_in && !leaving, HANDS_OVER)];
    let flags = bits.into_iter().filter(|(holds, _)| *holds).fold(value.flags, |flags, (_, bit)| flags | bit);
    InterfaceValue { flags, ..value }
}

/// Whether others have programs behind ours and before them.
fn others(interface: u32, hook: &Hook, pin: &Path, classic: &mut Classic) -> Option<[bool; 2]> {
    let filters = classic.has_others(interface, hook).ok()?;
    // Kernels without tcx have none by tcx.
    let [behind, before] = link::company(pin, hook.tcx, interface).unwrap_or_default();
    Some([filters || behind > 0, before > 0])
}

impl Shortcuts {
    /// Looks which interfaces routes with an MTU of their own lead to. Without an answer it stays as it was.
    pub(super) fn look_at_routes(&mut self) {
        match route_mtus::interfaces() {
            Ok(narrow) => self.narrow = narrow,
            Err(error) => tracing::warn!("looking for routes with an MTU of their own: {error}"),
        }
    }

    /// Whether a route with an MTU of its own leads to the interface, or to the bridge that it is a port of.
    pub(super) fn is_narrow(&self, value: &InterfaceValue) -> bool {
        self.narrow.contains(&value.upper)
    }

    /// Has the map tell of the bridges that these interfaces are ports of, and of no other.
    pub(super) fn describe_bridges<'a>(
        &mut self,
        all: &BTreeMap<u32, Interface>,
        served: impl Iterator<Item = (&'a Interface, InterfaceValue)>,
        map: &TypedMap<u32, InterfaceValue>,
    ) -> Result<(), MapError> {
        let mut bridges: BTreeMap<u32, InterfaceValue> = BTreeMap::new();
        for (port, value) in served.filter(|(port, _)| port.role == Role::BridgePort) {
            let Some(bridge) = all.get(&port.master) else { continue };
            let one = bridges.entry(bridge.index).or_insert(InterfaceValue {
                flags: ACCELERATES | BEGINS,
                address: bridge.mac,
                upper: bridge.index,
                ..InterfaceValue::default()
            });
            // A flow may lead to any of them.
            if value.flags & BEGINS == 0 {
                one.flags &= !BEGINS;
            }
        }
        for (index, value) in &bridges {
            if self.bridges.get(index) != Some(value) {
                map.set(index, value)?;
            }
        }
        for index in self.bridges.keys().filter(|index| !bridges.contains_key(index)) {
            map.delete(index)?;
        }
        self.bridges = bridges;
        Ok(())
    }
}
