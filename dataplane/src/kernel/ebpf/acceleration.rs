//! Whether packets between interfaces of this node leave the host's stack out.

use std::path::Path;

use shunt_abi::config::{ACCELERATE, Config, HAS_ACCELERATED};
use shunt_abi::flow::ACCELERATED;
use shunt_abi::name;

use super::flows::Key;
use super::map::{MapError, TypedMap};
use super::maps::{self, Maps};
use crate::kernel::probe::{Need, probe_acceleration};

/// What becomes of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Acceleration {
    /// None is accelerated.
    Off,
    /// It was asked for, and this kernel lacks what it takes: this.
    Lacking(String),
    /// New ones are not; those of an earlier agent go on as they began, or connection tracking would meet them in their middle.
    Ending,
    /// New ones are, where they can.
    On,
}

impl Acceleration {
    /// Decides; `directory` has the maps of an earlier agent, if there was one.
    pub(super) fn decide(is_wanted: bool, directory: &Path) -> Self {
        if is_wanted {
            let report = probe_acceleration();
            if report.supports(Need::Acceleration) {
                return Self::On;
            }
            return Self::Lacking(report.summary(Need::Acceleration));
        }
        if goes_on(directory) { Self::Ending } else { Self::Off }
    }

    /// Whether the programs have to know accelerated flows.
    pub(super) const fn has_flows(&self) -> bool {
        matches!(self, Self::On | Self::Ending)
    }

    /// The configuration with what the programs and the next agent are to know.
    pub(super) const fn configure(&self, mut config: Config) -> Config {
        config.flags &= !(ACCELERATE | HAS_ACCELERATED);
        config.flags |= match self {
            Self::On => ACCELERATE | HAS_ACCELERATED,
            Self::Ending => HAS_ACCELERATED,
            Self::Off | Self::Lacking(_) => 0,
        };
        config
    }

    /// For the status; interfaces by which packets of accelerated flows may leave, and those whose other end they are handed
    /// to.
    pub(super) fn words(&self, [interfaces, handed_over]: [usize; 2]) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Lacking(summary) => format!("off; {summary}"),
            Self::Ending => "off for new flows; those that began with it go on so".to_owned(),
            Self::On => format!(
                "tc; {interfaces} interfaces take part, {handed_over} of them hand packets over to pods"
            ),
        }
    }
}

/// Whether an earlier agent has left accelerated flows.
fn goes_on(directory: &Path) -> bool {
    let config: Result<TypedMap<u32, Config>, _> = maps::open(directory, name::CONFIG);
    let config = config.and_then(|config| config.get(&0)).ok().flatten().unwrap_or_default();
    if config.flags & HAS_ACCELERATED == 0 {
        return false;
    }
    Maps::open(directory)
        .and_then(|maps| Ok(has_any(&maps.flows4)? || has_any(&maps.flows6)?))
        .unwrap_or(true)
}

fn has_any<K: Key>(flows: &TypedMap<K, K::Value>) -> Result<bool, MapError> {
    let mut found = false;
    flows.visit(&mut |some| {
        found |= some.iter().any(|(_, value)| K::state(value).flags & ACCELERATED != 0);
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_the_next_agent_learn_of_it() {
        let flags = |acceleration: &Acceleration| {
            acceleration.configure(Config { flags: u32::MAX, ..Config::default() }).flags
        };
        let both = ACCELERATE | HAS_ACCELERATED;
        assert_eq!(flags(&Acceleration::On), u32::MAX);
        assert_eq!(flags(&Acceleration::Ending), !ACCELERATE);
        assert_eq!(flags(&Acceleration::Off), !both);
        assert_eq!(flags(&Acceleration::Lacking(String::new())), !both);
    }

    #[test]
    fn without_maps_of_an_earlier_agent_nothing_goes_on() {
        assert_eq!(Acceleration::decide(false, Path::new("/nowhere")), Acceleration::Off);
    }
}
