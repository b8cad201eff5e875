//! BPF maps that are pinned, changed by somebody else than the agent.

use std::path::Path;

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{HashMap, Map, MapData};

/// Removes all elements of the hash map that is pinned there, and tells how many there were. What another process has
/// mounted is below `/proc/ID/root`.
pub fn empty_pinned_map<K: Pod, V: Pod>(pin: &Path) -> Result<usize> {
    let data = MapData::from_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let map = Map::from_map_data(data).with_context(|| format!("no map of ours: {}", pin.display()))?;
    let mut map =
        HashMap::<_, K, V>::try_from(map).with_context(|| format!("{} has other elements", pin.display()))?;
    let keys = map.keys().collect::<Result<Vec<_>, _>>().context("cannot list the elements")?;
    for key in &keys {
        map.remove(key).context("cannot remove an element")?;
    }
    Ok(keys.len())
}
