//! Programs of others on the same interfaces: they leave every packet to the next, and note that one came by.

use aya::maps::Array;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, include_bytes_aligned};
use shunt_abi::clock::ClockReading;
use shunt_abi::name;

static OBJECT: &[u8] = include_bytes_aligned!(env!("SHUNT_DATAPATH_OBJECT_PATH"));
/// Its maps are small.
static SMALL_OBJECT: &[u8] = include_bytes_aligned!(env!("SHUNT_PROBE_OBJECT_PATH"));

/// A program that somebody else has attached, at both hooks of interfaces.
pub(crate) struct Other {
    object: Ebpf,
}

impl Other {
    /// Its name, as the kernel has it.
    pub(crate) const NAME: &str = name::CLOCK_PROGRAM;

    pub(crate) fn new() -> Self {
        let mut other = Self { object: Ebpf::load(OBJECT).unwrap() };
        other.program().load().unwrap();
        other
    }

    fn program(&mut self) -> &mut SchedClassifier {
        self.object.program_mut(name::CLOCK_PROGRAM).unwrap().try_into().unwrap()
    }

    fn attach(&mut self, interface: &str, options: impl Fn() -> TcAttachOptions) {
        for kind in [TcAttachType::Ingress, TcAttachType::Egress] {
            self.program().attach_with_options(interface, kind, options()).unwrap();
        }
    }

    pub(crate) fn attach_first(&mut self, interface: &str) {
        self.attach(interface, || TcAttachOptions::TcxOrder(LinkOrder::first()));
    }

    pub(crate) fn attach_last(&mut self, interface: &str) {
        self.attach(interface, || TcAttachOptions::TcxOrder(LinkOrder::last()));
    }

    /// As a classic filter; the qdisc is there.
    pub(crate) fn attach_filter(&mut self, interface: &str, priority: u16) {
        self.attach(interface, || {
            TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: aya::programs::tc::TcHandle::new(0, 1),
                ..NlOptions::default()
            })
        });
    }

    /// When the last packet came by; 0 for never.
    pub(crate) fn last_seen(&mut self) -> u64 {
        let clock: Array<_, ClockReading> = self.object.map_mut(name::CLOCK).unwrap().try_into().unwrap();
        clock.get(&0, 0).unwrap().nanoseconds
    }
}

/// Names of the programs at an interface, in the order in which they run.
pub(crate) fn programs(interface: &str, kind: TcAttachType) -> Vec<String> {
    let (_, programs) = SchedClassifier::query_tcx(interface, kind).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
}

/// As many programs as the kernel takes at one place, for what enters by an interface.
pub(crate) fn crowd(interface: &str) -> Vec<Ebpf> {
    let one = || {
        let mut object = Ebpf::load(SMALL_OBJECT).unwrap();
        let program = object.program_mut(shunt_abi::probe::PACKET_PROGRAM).unwrap();
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
        let last = TcAttachOptions::TcxOrder(LinkOrder::last());
        program.attach_with_options(interface, TcAttachType::Ingress, last).map(|_| object)
    };
    let crowd: Vec<Ebpf> = std::iter::repeat_with(one).map_while(Result::ok).take(100).collect();
    // `BPF_MPROG_MAX` is 64.
    assert!((60..=64).contains(&crowd.len()), "{}", crowd.len());
    crowd
}
