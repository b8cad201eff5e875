//! Packets as only the network makes them: in several pieces of memory, and fragments in disorder, which connection
//! tracking puts together before the programs see them leave.

use std::{
    io::Read as _,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use shunt_abi::{backend::LOCAL, frontend::INTERNAL};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    fragments::fragments,
    lab::{PORT, Place, in_lab},
    packet::{Packet, SCTP, UDP, crc32c},
};

const FRONTEND: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.5:8080";
const OUTSIDER: &str = "192.0.2.9:40000";

/// The kernel's number for "headers included".
const RAW: u8 = 255;

fn raw(protocol: u8) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol)))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

fn address(socket: &str) -> SockAddr {
    SockAddr::from(socket.parse::<SocketAddr>().unwrap())
}

/// An SCTP packet longer than what the kernel puts into one piece of memory: its header is outside of direct reach.
fn sctp(ports: [u16; 2], tag: [u8; 4], kind: u8) -> Vec<u8> {
    let payload = vec![1; 24_000];
    let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    bytes.extend(tag);
    bytes.extend([0, 0, 0, 0, kind, 0]);
    bytes.extend(u16::try_from(4 + payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    let checksum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&checksum);
    bytes
}

/// Addresses and ports of the next SCTP packet, whose checksum is right.
fn receive(mut socket: &Socket) -> (SocketAddr, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let length = socket.read(&mut buffer).expect("the packet arrives");
    let packet = &buffer[..length];
    let transport = &packet[usize::from(packet[0] & 15) * 4..];
    let mut zeroed = transport.to_vec();
    zeroed[8..12].fill(0);
    assert_eq!(transport[8..12], crc32c(&zeroed).to_le_bytes(), "SCTP checksum");
    let socket = |at: usize, port: usize| {
        let address = <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap();
        (address, u16::from_be_bytes([transport[port], transport[port + 1]])).into()
    };
    (socket(12, 0), socket(16, 2))
}

#[test]
fn sctp_in_several_pieces_of_memory_has_its_checksum_put_right() {
    in_lab(|lab| {
        lab.widen();
        lab.world.service_with(FRONTEND, SCTP, &[POD], LOCAL, INTERNAL);
        let [outsider, pod] = [Place::Outsider, Place::Pod].map(|place| lab.within(place, || raw(SCTP)));
        outsider.send_to(&sctp([40_000, 80], [0; 4], 1), &address(FRONTEND)).unwrap();
        assert_eq!(receive(&pod), (OUTSIDER.parse().unwrap(), POD.parse().unwrap()));
        pod.send_to(&sctp([8080, 40_000], [1; 4], 2), &address(OUTSIDER)).unwrap();
        assert_eq!(receive(&outsider), (FRONTEND.parse().unwrap(), OUTSIDER.parse().unwrap()));
    });
}

#[test]
fn fragments_that_connection_tracking_put_in_order_reach_the_client_as_the_frontends() {
    in_lab(|lab| {
        lab.world.service_with(FRONTEND, UDP, &[&format!("10.244.1.5:{PORT}")], LOCAL, INTERNAL);
        let outsider = lab.within(Place::Outsider, || UdpSocket::bind("192.0.2.9:0").unwrap());
        outsider.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        outsider.connect(FRONTEND).unwrap();
        outsider.send(b"hello").unwrap();
        let mut buffer = [0; 4000];
        outsider.recv(&mut buffer).expect("the server's own answer");

        let client = outsider.local_addr().unwrap().to_string();
        let answer = Packet { payload: vec![7; 2000], ..Packet::udp(POD, &client) };
        let pod = lab.within(Place::Pod, || raw(RAW));
        for fragment in fragments(&answer, 77, 800).iter().rev() {
            pod.send_to(&fragment[14..], &address(&client)).unwrap();
        }
        let length = outsider.recv(&mut buffer).expect("the answer in fragments");
        assert_eq!(buffer[..length], answer.payload);
        let counts = lab.world.counts();
        assert!(counts["fragment"] > 0 && !counts.contains_key("fragment_early"), "{counts:?}");
    });
}
