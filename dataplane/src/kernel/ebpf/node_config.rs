//! Element 0 of the configuration map.
#![expect(unsafe_code, reason = "one socket option is not known to nix")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use ipnet::IpNet;
use shunt_abi::address::{word, words};
use shunt_abi::config::{self, Config, RANGES, Range4, Range6};

use super::settings::{Settings, Sockets};
use crate::domain::{IpFamily, LocalDetector};
use crate::kernel::probe::ConnectProbeProgram;

/// Stands for a pod that talks to itself: link-local, so that nothing routes it anywhere else.
const HAIRPIN4: Ipv4Addr = Ipv4Addr::new(169, 254, 83, 85);
/// The same; a unique local address, because link-local ones mean nothing without an interface.
const HAIRPIN6: Ipv6Addr = Ipv6Addr::new(0xfd83, 0x6875, 0x6e74, 0, 0, 0, 0, 1);
/// Both.
pub(super) const HAIRPINS: [IpAddr; 2] = [IpAddr::V4(HAIRPIN4), IpAddr::V6(HAIRPIN6)];

/// The configuration; `old` is what the map holds: seed and adoption are kept if they were ever set. `cookie` is that of
/// the host's network namespace, 0 if it is not known.
pub(super) fn build(
    settings: &Settings,
    service_cidrs: &BTreeSet<IpNet>,
    old: &Config,
    cookie: u64,
) -> io::Result<Config> {
    let fresh = old.hash_seed == 0;
    let adopts = fresh || old.flags & config::ADOPT_MIDSTREAM != 0;
    let mut built = Config {
        flags: flags(settings) | if adopts { config::ADOPT_MIDSTREAM } else { 0 },
        masquerade_mark: settings.masquerade_mark,
        host_netns_cookie: cookie,
        opted_out_levels: old.opted_out_levels,
        hash_seed: if fresh { rand::random::<u32>() | 1 } else { old.hash_seed },
        hairpin4: word(HAIRPIN4),
        hairpin6: words(HAIRPIN6),
        half_open_shift: settings.sizes.half_open_shift(),
        established: settings.sizes.flows,
        ..Config::default()
    };
    for family in IpFamily::ALL {
        if let LocalDetector::Cidrs(cidrs) = settings.detectors.get(family) {
            let left = fill(&mut built.pods4, &mut built.pods6, family, cidrs.iter());
            refuse(family, &left)?;
        }
        let left = fill(&mut built.services4, &mut built.services6, family, service_cidrs.iter());
        if !left.is_empty() {
            // Services in them work like all others.
            tracing::warn!(
                ?left,
                "only {RANGES} {family} ServiceCIDRs are watched for addresses that no Service has; traffic to such \
                 addresses of the others is not dropped"
            );
        }
    }
    built.more_services4 = u32::from(built.services4.get(1) != Some(&Range4::NONE));
    built.more_services6 = u32::from(built.services6.get(1) != Some(&Range6::NONE));
    Ok(built)
}

fn flags(settings: &Settings) -> u32 {
    let uses = |wanted: fn(&LocalDetector) -> bool| {
        IpFamily::ALL.into_iter().any(|family| wanted(settings.detectors.get(family)))
    };
    let bits = [
        (uses(|detector| matches!(detector, LocalDetector::Cidrs(_))), config::PODS_BY_RANGE),
        (uses(by_interface), config::PODS_BY_INTERFACE),
        (settings.sockets == Sockets::Host, config::SOCKETS_HOST_ONLY),
    ];
    bits.into_iter().filter(|(wanted, _)| *wanted).fold(0, |flags, (_, bit)| flags | bit)
}

const fn by_interface(detector: &LocalDetector) -> bool {
    matches!(detector, LocalDetector::BridgeInterface(_) | LocalDetector::InterfaceNamePrefix(_))
}

/// Neighbouring ranges become one. Returns those for which there was no place.
fn fill<'a>(
    four: &mut [Range4; RANGES],
    six: &mut [Range6; RANGES],
    family: IpFamily,
    ranges: impl Iterator<Item = &'a IpNet>,
) -> Vec<IpNet> {
    let own: Vec<IpNet> = ranges.filter(|range| IpFamily::of(range.addr()) == family).copied().collect();
    let mut own = IpNet::aggregate(&own).into_iter();
    let places4 = four.iter_mut().map(Place::Four);
    let places6 = six.iter_mut().map(Place::Six);
    let places: Vec<_> = if family == IpFamily::V4 { places4.collect() } else { places6.collect() };
    for (place, range) in places.into_iter().zip(own.by_ref()) {
        match (place, range) {
            (Place::Four(place), IpNet::V4(range)) => {
                *place = Range4 { network: word(range.network()), mask: word(range.netmask()) };
            }
            (Place::Six(place), IpNet::V6(range)) => {
                *place = Range6 { network: words(range.network()), mask: words(range.netmask()) };
            }
            _ => {}
        }
    }
    own.collect()
}

/// Pods that are not known as such would be masqueraded, so none may be left out.
fn refuse(family: IpFamily, left: &[IpNet]) -> io::Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let words = format!(
        "clusterCIDR has more than {RANGES} {family} ranges that are not neighbours; there is no room for {}: name a \
         wider range that holds them, or use mode nftables",
        left.join(", ")
    );
    Err(io::Error::new(io::ErrorKind::Unsupported, words))
}

enum Place<'a> {
    Four(&'a mut Range4),
    Six(&'a mut Range6),
}

/// By which programs know this network namespace. Kernels before 5.14 tell only programs: then one is asked, by a
/// socket of this process, if that is in the cgroup.
pub(super) fn netns_cookie(cgroup: Option<&Path>) -> io::Result<u64> {
    let told = cookie_option();
    match (&told, cgroup) {
        (Err(error), Some(cgroup)) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            cookie_from_program(cgroup)
        }
        _ => told,
    }
}

/// What the connect program of the probe sees of a socket.
fn cookie_from_program(cgroup: &Path) -> io::Result<u64> {
    let mut probe = ConnectProbeProgram::load().map_err(io::Error::other)?;
    probe.attach(&File::open(cgroup)?).map_err(io::Error::other)?;
    // Where nobody has to listen: datagrams connect without a packet.
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
    probe.refuse(target, libc::ECONNREFUSED.cast_unsigned()).map_err(io::Error::other)?;
    let refused = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect(target);
    let record = probe.record().map_err(io::Error::other)?;
    tracing::debug!(?refused, ?record, "asked a program for the cookie of this network namespace");
    match record.netns_cookie {
        0 => Err(io::Error::new(io::ErrorKind::Unsupported, "this process is not in the cgroup")),
        cookie => Ok(cookie),
    }
}

fn cookie_option() -> io::Result<u64> {
    /// `SO_NETNS_COOKIE`
    const OPTION: libc::c_int = 71;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap_or(0);
    // SAFETY: both pointers are to variables that outlive the call, and the length is that of the cookie.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            OPTION,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ebpf::sizes::Sizes;
    use crate::plan::PerFamily;

    fn settings(detector: LocalDetector) -> Settings {
        Settings {
            detectors: PerFamily { v4: detector.clone(), v6: detector },
            ..Settings::for_tests(Sockets::Host)
        }
    }

    fn cidrs(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_go_to_their_family_and_unused_places_hold_nothing() {
        let settings = settings(LocalDetector::Cidrs(cidrs(&["10.0.0.0/8", "fd00:10::/64"])));
        let services = cidrs(&["172.30.0.0/16"]).into_iter().collect();
        let built = build(&settings, &services, &Config::default(), 7).unwrap();
        assert_eq!(built.pods4[0].network.to_ne_bytes(), [10, 0, 0, 0]);
        assert_eq!(built.pods4[0].mask.to_ne_bytes(), [255, 0, 0, 0]);
        assert_eq!((built.pods4[1], built.pods6[1]), (Range4::NONE, Range6::NONE));
        assert_eq!(built.pods6[0].mask[..2], [u32::MAX, u32::MAX]);
        assert_eq!(built.services4[0].network.to_ne_bytes(), [172, 30, 0, 0]);
        assert_eq!(built.services6[0], Range6::NONE);
        assert_eq!((built.more_services4, built.more_services6), (0, 0));
        assert_eq!(built.host_netns_cookie, 7);
        let Sizes { flows, half_open, .. } = settings.sizes;
        assert_eq!(built.established, flows);
        assert!(settings.sizes.cpus << built.half_open_shift <= half_open, "each CPU has a part of its own");
        let expected = config::PODS_BY_RANGE | config::SOCKETS_HOST_ONLY | config::ADOPT_MIDSTREAM;
        assert_eq!(built.flags, expected);
    }

    #[test]
    fn the_seed_and_what_happens_in_the_middle_of_connections_are_kept() {
        let settings = settings(LocalDetector::None);
        let none = BTreeSet::new();
        let first = build(&settings, &none, &Config::default(), 7).unwrap();
        assert!(first.hash_seed != 0 && first.flags & config::ADOPT_MIDSTREAM != 0);
        assert_eq!(build(&settings, &none, &first, 7).unwrap(), first);
        let taking_over =
            Config { flags: first.flags & !config::ADOPT_MIDSTREAM, opted_out_levels: 8, ..first };
        assert_eq!(build(&settings, &none, &taking_over, 7).unwrap(), taking_over);
    }

    /// No two of them are neighbours.
    fn scattered(count: u8) -> Vec<IpNet> {
        (0..count).map(|number| format!("10.{}.0.0/16", number * 2).parse().unwrap()).collect()
    }

    #[test]
    fn this_kernel_tells_its_cookie() {
        assert!(netns_cookie(None).unwrap() != 0);
    }

    #[test]
    fn too_many_pod_ranges_are_refused_by_name() {
        let none = BTreeSet::new();
        let fits = settings(LocalDetector::Cidrs(scattered(8)));
        assert_eq!(
            build(&fits, &none, &Config::default(), 7).unwrap().pods4[7].network.to_ne_bytes(),
            [10, 14, 0, 0]
        );
        let too_many = settings(LocalDetector::Cidrs(scattered(10)));
        let error = build(&too_many, &none, &Config::default(), 7).unwrap_err().to_string();
        assert!(error.contains("10.16.0.0/16, 10.18.0.0/16") && error.contains("clusterCIDR"), "{error}");
    }

    #[test]
    fn neighbouring_ranges_take_one_place() {
        let many = (0..16).map(|number| format!("10.{number}.0.0/16").parse().unwrap()).collect();
        let built =
            build(&settings(LocalDetector::Cidrs(many)), &BTreeSet::new(), &Config::default(), 7).unwrap();
        assert_eq!(built.pods4[0].mask.to_ne_bytes(), [255, 240, 0, 0]);
        assert_eq!(built.pods4[1], Range4::NONE);
    }

    #[test]
    fn service_ranges_without_place_stop_nothing() {
        let many = scattered(9).into_iter().collect();
        let built = build(&settings(LocalDetector::None), &many, &Config::default(), 7).unwrap();
        assert_eq!(built.services4[7].network.to_ne_bytes(), [10, 14, 0, 0]);
        assert_eq!((built.more_services4, built.more_services6), (1, 0));
    }
}
