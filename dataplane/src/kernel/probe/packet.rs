//! The classifier: run on a sample packet, or attached to an interface to see what its packets are like.

use aya::{
    TestRun as _, TestRunOptions,
    programs::{
        LinkOrder, ProgramError,
        tc::{NlOptions, SchedClassifierLinkId, TcAttachOptions, TcAttachType, qdisc_add_clsact},
    },
};
use shunt_abi::probe::{PACKET_MAP, PacketFacts};

use super::{
    mapping::Mapping,
    object::{Object, ProbeError},
    report::{Feature, Need},
    sample::{SamplePacket, expect},
};

/// What the classifier returns: leave the packet to the next program (`TCX_NEXT`, -1).
const NEXT: u32 = u32::MAX;

/// A hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Packets that the interface received.
    Ingress,
    /// Packets about to be sent through it.
    Egress,
}

/// The classifier in the kernel. Attachments end when it is dropped.
#[derive(Debug)]
pub struct PacketProbe {
    object: Object,
    facts: Mapping<PacketFacts>,
}

impl PacketProbe {
    /// Loads the program and maps its record into memory.
    pub fn load() -> Result<Self, ProbeError> {
        let mut object = Object::load()?;
        object.packet_program()?;
        let facts = Mapping::new(object.take_map(PACKET_MAP)?, PACKET_MAP)?;
        Ok(Self { object, facts })
    }

    /// What was recorded of the last packet.
    pub fn facts(&self) -> PacketFacts {
        self.facts.read()
    }

    /// Runs the program on `sample` without any interface, and checks what it recorded.
    pub fn run(&mut self, sample: &SamplePacket) -> Result<PacketFacts, ProbeError> {
        let context = sample.context();
        let before = self.facts().packets;
        let options =
            TestRunOptions { data_in: Some(&sample.bytes), ctx_in: Some(&context), ..TestRunOptions::new() };
        let verdict = self.object.packet_program()?.test_run(options)?.return_value;
        let facts = self.facts();
        expect("verdict", verdict, NEXT)?;
        expect("packets", facts.packets, before + 1)?;
        sample.check(&facts)?;
        Ok(facts)
    }

    /// Attaches to `interface` through a tcx link, behind the programs that are there.
    pub fn attach(
        &mut self,
        interface: &str,
        direction: Direction,
    ) -> Result<SchedClassifierLinkId, ProbeError> {
        let hook = match direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        };
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        Ok(self.object.packet_program()?.attach_with_options(interface, hook, options)?)
    }

    /// Attaches a classic filter, making the queueing discipline that it needs; both stay when the probe is dropped.
    pub(super) fn attach_filter(&mut self, interface: &str, direction: Direction) -> Result<(), ProbeError> {
        let hook = match direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        };
        qdisc_add_clsact(interface).map_err(ProgramError::from)?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let program = self.object.packet_program()?;
        program.attach_with_options(interface, hook, options)?;
        Ok(())
    }

    /// Ends an attachment.
    pub fn detach(&mut self, link: SchedClassifierLinkId) -> Result<(), ProbeError> {
        Ok(self.object.packet_program()?.detach(link)?)
    }
}

const LOADED: &str = "programs and mmap-able map";
const RUN_V4: &str = "test run on an IPv4 packet";
const RUN_V6: &str = "test run on an IPv6 packet";

pub(super) fn features() -> Vec<Feature> {
    let outcomes = match PacketProbe::load() {
        Ok(mut probe) => [
            (LOADED, Ok("loaded".to_owned())),
            (RUN_V4, describe(probe.run(&SamplePacket::tcp4().with_gso(1000, 2)))),
            (RUN_V6, describe(probe.run(&SamplePacket::tcp6()))),
        ],
        Err(error) => [LOADED, RUN_V4, RUN_V6].map(|name| (name, Err(error.reason()))),
    };
    outcomes.into_iter().map(|(name, outcome)| Feature::tried(name, Need::Datapath, outcome)).collect()
}

fn describe(outcome: Result<PacketFacts, ProbeError>) -> Result<String, String> {
    outcome
        .map(|facts| {
            format!(
                "all facts right: {} bytes, network header at {}, route look-up answers {}",
                facts.length, facts.network_offset, facts.fib_result
            )
        })
        .map_err(|error| error.reason())
}
