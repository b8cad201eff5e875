//! One packet, run through the programs as they are loaded (`BPF_PROG_TEST_RUN`): no interface sees it, and the flow that
//! it begins is forgotten again. In all else it is a packet of that client: it is counted, it begins or renews the client's
//! affinity, and where a client from outside would bring the masquerade rule, so does it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, err::packet::BuildWriteError,
};
use shunt_abi::address::{word, words};
use shunt_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};
use shunt_abi::name;

use super::attachments::Attachments;
use super::interfaces::Interface;
use super::map::MapError;
use super::maps::Maps;
use super::route::output_interface;
use super::words as error_words;
use crate::domain::Protocol;
use crate::kernel::inspection::Trial;
use crate::plan::explain::{Client, Question};

/// Nobody's client port: the one of TCPMUX.
const SOURCE_PORT: u16 = 1;
/// A locally administered hardware address: whoever sends.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// `TCX_DROP`, `TCX_REDIRECT`; `TCX_NEXT` is -1.
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

/// Runs the first packet of the connection through the program that it would meet; an error says why that cannot be.
pub(super) fn run(maps: &Maps, attachments: &mut Attachments, question: &Question) -> Result<Trial, String> {
    let from_node = question.client == Client::Node;
    let program = if from_node { name::EGRESS_PROGRAM } else { name::INGRESS_PROGRAM };
    let towards = if from_node { question.to.ip() } else { question.from };
    let index = output_interface(towards).map_err(|error| format!("no route to {towards}: {error}"))?;
    let interface = attachments
        .serving(index)
        .ok_or_else(|| format!("no program is attached where {towards} is (interface {index})"))?
        .clone();
    let described = maps.interfaces.get(&interface.index).map_err(|error| error_words(&error))?;
    let described =
        described.ok_or_else(|| format!("{} is not in map {}", interface.name, name::INTERFACES))?;
    if described.flags & shunt_abi::interface::NO_LINK_HEADER != 0 {
        return Err(format!("{} has no Ethernet header, and a test run needs one", interface.name));
    }
    let question = &source(question)?;
    let packet = build(question, described.address).map_err(|error| error.to_string())?;
    let flow = known_flow(maps, question).map_err(|error| error_words(&error))?;
    let outcome = attachments.programs.run(program, &packet, interface.index);
    if !flow {
        forget(maps, question).map_err(|error| error_words(&error))?;
    }
    let outcome = outcome.map_err(|error| error_words(&error))?;
    Ok(Trial {
        program: program.to_owned(),
        interface: label(&interface),
        sent: describe(&packet),
        verdict: verdict(outcome.verdict),
        became: if outcome.packet == packet { "unchanged".to_owned() } else { describe(&outcome.packet) },
        mark: outcome.mark,
    })
}

/// What came out of a program.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: i32,
    pub(super) packet: Vec<u8>,
    pub(super) mark: u32,
}

/// The node has many addresses: the one that it would use.
fn source(question: &Question) -> Result<Question, String> {
    if question.client != Client::Node || !question.from.is_loopback() {
        return Ok(*question);
    }
    let any: IpAddr = match question.to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    let own = std::net::UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect(question.to).and_then(|()| socket.local_addr()))
        .map_err(|error| format!("no source address towards {}: {error}", question.to))?;
    Ok(Question { from: own.ip(), ..*question })
}

fn label(interface: &Interface) -> String {
    format!("{} ({})", interface.name, interface.index)
}

fn verdict(code: i32) -> String {
    match code {
        -1 => "next: the packet goes on".to_owned(),
        DROP => "dropped".to_owned(),
        REDIRECT => "sent back or on by the program itself".to_owned(),
        other => format!("{other}"),
    }
}

/// The first packet of a connection: SYN, an empty datagram, INIT.
fn build(question: &Question, destination: [u8; 6]) -> Result<Vec<u8>, BuildWriteError> {
    let ethernet = PacketBuilder::ethernet2(SENDER, destination);
    let builder = match (question.from, question.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (from, to) => ethernet.ipv6(v6(from).octets(), v6(to).octets(), 64),
    };
    let port = question.to.port();
    let mut packet = Vec::with_capacity(128);
    match question.protocol {
        Protocol::Tcp => builder.tcp(SOURCE_PORT, port, 0, 0xffff).syn().write(&mut packet, &[])?,
        Protocol::Udp => builder.udp(SOURCE_PORT, port).write(&mut packet, &[])?,
        Protocol::Sctp => builder.write(&mut packet, IpNumber::SCTP, &init(port))?,
    }
    Ok(packet)
}

/// An SCTP packet with an INIT chunk. Its checksum is not looked at before a host gets it.
fn init(port: u16) -> Vec<u8> {
    let chunk = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    [&SOURCE_PORT.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8], &chunk].concat()
}

fn v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// `10.244.1.5:1 -> 10.96.0.10:80 tcp SYN`.
fn describe(packet: &[u8]) -> String {
    let Ok(packet) = SlicedPacket::from_ethernet(packet) else { return "not an IP packet".to_owned() };
    let (from, to): (IpAddr, IpAddr) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => return "not an IP packet".to_owned(),
    };
    let ports = |source, destination, words: String| {
        format!("{} -> {} {words}", SocketAddr::new(from, source), SocketAddr::new(to, destination))
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [(tcp.syn(), "SYN"), (tcp.rst(), "RST"), (tcp.ack(), "ACK")];
            let flags: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            ports(tcp.source_port(), tcp.destination_port(), format!("tcp {}", flags.join(" ")))
        }
        Some(TransportSlice::Udp(udp)) => ports(udp.source_port(), udp.destination_port(), "udp".to_owned()),
        Some(TransportSlice::Icmpv4(icmp)) => format!("{from} -> {to} icmp {:?}", icmp.icmp_type()),
        Some(TransportSlice::Icmpv6(icmp)) => format!("{from} -> {to} icmp {:?}", icmp.icmp_type()),
        None => sctp(&packet).map_or_else(
            || format!("{from} -> {to}"),
            |[source, destination]| ports(source, destination, "sctp".to_owned()),
        ),
    }
}

fn sctp(packet: &SlicedPacket<'_>) -> Option<[u16; 2]> {
    let payload = packet.ip_payload().filter(|payload| payload.ip_number == IpNumber::SCTP)?.payload;
    let [a, b, c, d, ..] = *payload else { return None };
    Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}

/// Somebody has such a flow already.
fn known_flow(maps: &Maps, question: &Question) -> Result<bool, MapError> {
    match flow_of(maps, question)? {
        Flow::V4(found) => Ok(found.is_some()),
        Flow::V6(found) => Ok(found.is_some()),
    }
}

/// Removes the flow that the packet began, if it did.
fn forget(maps: &Maps, question: &Question) -> Result<(), MapError> {
    match flow_of(maps, question)? {
        Flow::V4(Some((key, value))) => maps.flow_maps4().forget(&key, &value),
        Flow::V6(Some((key, value))) => maps.flow_maps6().forget(&key, &value),
        Flow::V4(None) | Flow::V6(None) => Ok(()),
    }
}

/// What the maps have, of the family.
enum Flow {
    V4(Option<(FlowKey4, FlowValue4)>),
    V6(Option<(FlowKey6, FlowValue6)>),
}

/// The flow of the packet.
fn flow_of(maps: &Maps, question: &Question) -> Result<Flow, MapError> {
    let (protocol, port) = (question.protocol.number(), question.to.port().to_be());
    let client_port = SOURCE_PORT.to_be();
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (question.from, question.to.ip()) {
        let key = FlowKey4 { client: word(from), client_port, protocol, slot: 0 };
        return maps.flow_maps4().find(&key, |value| value.is_to(word(to), port)).map(Flow::V4);
    }
    let (from, to) = (words(v6(question.from)), words(v6(question.to.ip())));
    let key = FlowKey6 { client: from, client_port, protocol, slot: 0 };
    maps.flow_maps6().find(&key, |value| value.is_to(to, port)).map(Flow::V6)
}

#[cfg(test)]
mod tests {
    use etherparse::EtherType;

    use super::*;

    fn question(from: &str, to: &str, protocol: Protocol) -> Question {
        Question { from: from.parse().unwrap(), client: Client::Pod, to: to.parse().unwrap(), protocol }
    }

    #[test]
    fn every_protocol_and_family_can_be_tried() {
        for (protocol, words) in
            [(Protocol::Tcp, "tcp SYN"), (Protocol::Udp, "udp"), (Protocol::Sctp, "sctp")]
        {
            for (from, to, client) in
                [("10.0.0.1", "10.96.0.1:80", "10.0.0.1:1"), ("fd00::1", "[fd00:96::1]:80", "[fd00::1]:1")]
            {
                let packet = build(&question(from, to, protocol), [2; 6]).unwrap();
                assert_eq!(describe(&packet), format!("{client} -> {to} {words}"));
                assert_eq!(packet.first_chunk(), Some(&[2; 6]));
            }
        }
    }

    #[test]
    fn what_is_no_packet_is_called_none() {
        assert_eq!(describe(&[0; 20]), "not an IP packet");
        let arp = [&[0; 12][..], &EtherType::ARP.0.to_be_bytes(), &[0; 28]].concat();
        assert_eq!(describe(&arp), "not an IP packet");
    }
}
