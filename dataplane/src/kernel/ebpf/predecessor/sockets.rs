//! What sockets believe their peers are, as another agent has noted it.

use std::collections::HashMap;

use shunt_abi::name;
use shunt_abi::socket::{OriginKey, OriginValue, PeerValue};

use super::{Carried, CarryError, Maps, Predecessor, Translation};
use crate::kernel::ebpf::map::MapError;

impl Predecessor {
    /// Copies the backends of sockets that are not connected. Of a build that knew no others, it is those of all sockets:
    /// programs look for connected sockets there too.
    pub(super) fn origins(
        &self,
        maps: &Maps,
        translation: &Translation<'_>,
        carried: &mut Carried,
    ) -> Result<(), CarryError> {
        let mut outcome = Ok(());
        self.read(name::ORIGINS, ["OriginKey", "OriginValue"], &mut |key: OriginKey, value: OriginValue| {
            match translation.origin(&key, &value).map(|value| maps.origins.set(&key, &value)) {
                Some(Ok(())) => carried.sockets += 1,
                None => carried.left += 1,
                Some(Err(error)) => outcome = Err(error),
            }
        })?;
        Ok(outcome?)
    }

    /// Copies the backends of connected sockets: into their places or, where those are taken, to the others.
    pub(super) fn peers(
        &self,
        maps: &Maps,
        translation: &Translation<'_>,
        carried: &mut Carried,
    ) -> Result<(), CarryError> {
        // Builds before had none.
        if !self.path.join(name::PEERS).exists() {
            return Ok(());
        }
        let mut places = HashMap::new();
        let mut outcome = Ok(());
        self.read_array(name::PEERS, "PeerValue", &mut |_place, peer: PeerValue| {
            if !peer.is_whole() {
                return;
            }
            let (key, value) = peer.origin();
            let Some(OriginValue { backend, generation, .. }) = translation.origin(&key, &value) else {
                carried.left += 1;
                return;
            };
            let peer = PeerValue { backend, generation, ..peer }.summed();
            match place(maps, &mut places, peer) {
                Ok(()) => carried.sockets += 1,
                Err(error) => outcome = Err(error),
            }
        })?;
        let (indexes, peers): (Vec<u32>, Vec<PeerValue>) = places.into_iter().unzip();
        maps.peers.set_all(&indexes, &peers)?;
        Ok(outcome?)
    }
}

/// Finds a place that is to be filled, or does without one.
fn place(maps: &Maps, places: &mut HashMap<u32, PeerValue>, peer: PeerValue) -> Result<(), MapError> {
    let index = PeerValue::index(peer.cookie, maps.peers.capacity());
    let taken = maps.peers.get(&index)?.is_some_and(|held| held.cookie != 0);
    if taken || places.contains_key(&index) {
        let (key, value) = peer.origin();
        // What this agent's programs have noted is found first.
        return maps.origins.set(&key, &value);
    }
    places.insert(index, peer);
    Ok(())
}
