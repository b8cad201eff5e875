//! Flows from their first packet to their end.

use shunt_abi::frontend::FrontendValue;

use crate::{
    packet::{ACK, FIN, Packet, RST, SYN, TCP, UDP},
    world::{NEXT, World},
};

/// (client, frontend, backend) in both families.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("10.244.1.5:40000", "10.96.0.10:80", "10.244.2.7:8080"),
    ("[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:2::7]:8080"),
];

#[test]
fn a_connection_is_translated_in_both_directions() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        for flags in [SYN, ACK, ACK | FIN] {
            let sent = Packet::tcp(client, frontend, flags);
            let outcome = world.ingress(&sent);
            assert_eq!(outcome.verdict, NEXT);
            assert_eq!(outcome.packet(), Packet { destination: backend.parse().unwrap(), ..sent.clone() });

            let answer = outcome.packet().reply().with_flags(flags | ACK);
            let outcome = world.egress(&answer);
            assert_eq!(outcome.verdict, NEXT);
            assert_eq!(outcome.packet(), sent.reply().with_flags(flags | ACK));
        }
    }
}

#[test]
fn datagrams_are_translated_in_both_directions_with_and_without_checksum() {
    for (client, frontend, backend) in FAMILIES {
        for no_checksum in [false, true] {
            let mut world = World::new();
            world.service(frontend, UDP, &[backend]);
            let sent = Packet { no_checksum, ..Packet::udp(client, frontend) };
            for _ in 0..3 {
                let outcome = world.ingress(&sent);
                assert_eq!(
                    outcome.packet(),
                    Packet { destination: backend.parse().unwrap(), ..sent.clone() }
                );
                let outcome = world.egress(&outcome.packet().reply());
                assert_eq!((outcome.verdict, outcome.packet()), (NEXT, sent.reply()));
            }
        }
    }
}

#[test]
fn a_connection_is_established_by_the_clients_answer_and_not_before() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.ingress(&syn);
        assert_eq!(world.flows(), (0, 1));
        world.ingress(&syn.with_flags(ACK));
        assert_eq!(world.flows(), (1, 0));
        let counts = world.counts();
        assert_eq!((counts["flow_new"], counts["flow_established"], counts["forward"]), (1, 1, 3));
    }
}

#[test]
fn a_datagram_flow_is_established_by_its_second_packet() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        let sent = Packet::udp(client, frontend);
        world.ingress(&sent);
        assert_eq!(world.flows(), (0, 1));
        world.ingress(&sent);
        assert_eq!(world.flows(), (1, 0));
    }
}

#[test]
fn a_new_connection_on_the_ports_of_one_that_is_over_has_its_backend_chosen_again() {
    for (client, frontend, backend) in FAMILIES {
        for (from_client, end) in [(true, FIN), (false, FIN), (true, RST), (false, RST)] {
            let mut world = World::new();
            world.service(frontend, TCP, &[backend]);
            let syn = Packet::tcp(client, frontend, SYN);
            world.ingress(&syn);
            let translated = world.ingress(&syn.with_flags(ACK)).packet();
            if from_client {
                world.ingress(&syn.with_flags(ACK | end));
            } else {
                world.egress(&translated.reply().with_flags(ACK | end));
            }
            world.ingress(&syn);
            assert_eq!(world.flows(), (0, 1), "from client: {from_client}, {end}");
            assert_eq!(world.counts()["flow_new"], 2);
        }
    }
}

#[test]
fn a_repeated_request_leaves_an_established_connection_alone() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.ingress(&syn.with_flags(ACK));
        assert_eq!(world.ingress(&syn).packet().destination, backend.parse().unwrap());
        assert_eq!(world.flows(), (1, 0));
    }
}

#[test]
fn a_request_that_is_repeated_stays_with_its_backend_whatever_the_pool_is_now() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        let value = world.get_frontend(frontend, TCP);
        let other = world.backend(backend.replace(":8080", ":9090").parse().unwrap(), 0, TCP);
        let pools = [world.pool(&[other]), (0, 0)];
        for (inside_offset, inside_length) in pools {
            world.frontend(frontend, TCP, FrontendValue { inside_offset, inside_length, ..value });
            assert_eq!(world.ingress(&syn).packet().destination, backend.parse().unwrap());
            assert_eq!(world.flows(), (0, 1));
        }
        assert_eq!(world.counts()["flow_new"], 1);
    }
}

#[test]
fn a_request_that_is_repeated_leaves_a_backend_that_no_longer_serves() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        let ids = world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.set_backend(ids[0], backend.parse().unwrap(), 0, 2);
        let other = backend.replace(":8080", ":9090");
        world.service(frontend, TCP, &[&other]);
        let outcome = world.ingress(&syn);
        assert_eq!(outcome.packet().destination, other.parse().unwrap());
        assert_eq!(world.egress(&outcome.packet().reply()).packet().source, frontend.parse().unwrap());
        assert_eq!(
            (world.flows(), world.elements().len(), world.counts()["flow_new"]),
            ((0, 1), 1, 2),
            "nothing of the old one is left"
        );
    }
}

#[test]
fn connections_outlive_their_frontend_and_their_backend() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        let ids = world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.ingress(&syn.with_flags(ACK));
        let gone = FrontendValue::default();
        world.frontend(frontend, TCP, gone);
        world.set_backend(ids[0], backend.parse().unwrap(), 0, 2);
        assert_eq!(world.ingress(&syn.with_flags(ACK)).packet().destination, backend.parse().unwrap());
    }
}

#[test]
fn datagrams_leave_a_backend_that_no_longer_serves_at_once() {
    for (client, frontend, backend) in FAMILIES {
        for packets in [1, 2] {
            let mut world = World::new();
            let ids = world.service(frontend, UDP, &[backend]);
            let sent = Packet::udp(client, frontend);
            for _ in 0..packets {
                world.ingress(&sent);
            }
            let other = backend.replace(".7:", ".8:").replace("::7]", "::8]");
            world.set_backend(ids[0], backend.parse().unwrap(), 0, 2);
            world.service(frontend, UDP, &[&other]);
            assert_eq!(world.ingress(&sent).packet().destination, other.parse().unwrap());
            assert_eq!(world.counts()["flow_moved"], 1);
            assert_eq!(world.flows(), (0, 1), "the old one is gone");
        }
    }
}

#[test]
fn as_many_established_flows_as_there_may_be_cost_nobody_the_connection() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.limit_established(1);
        world.service(frontend, TCP, &[backend]);
        let first = Packet::tcp(&client.replace(":40000", ":40001"), frontend, SYN);
        world.ingress(&first);
        world.ingress(&first.with_flags(ACK));
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        for _ in 0..3 {
            let translated = world.ingress(&syn.with_flags(ACK)).packet();
            assert_eq!(translated.destination, backend.parse().unwrap());
            assert_eq!(world.egress(&translated.reply()).packet().source, frontend.parse().unwrap());
        }
        assert_eq!((world.flows(), world.counts()["flows_full"]), ((1, 1), 3));
        // When another is over and gone, it is established after all.
        world.ingress(&first.with_flags(ACK | FIN));
        world.ingress(&Packet::tcp(&client.replace(":40000", ":40001"), frontend, SYN));
        world.ingress(&syn.with_flags(ACK));
        assert_eq!((world.flows(), world.counts()["flows_full"]), ((1, 1), 3));
    }
}

#[test]
fn a_direct_connection_ends_one_through_the_frontend_that_is_over_at_once() {
    for (client, frontend, backend) in FAMILIES {
        for (from_client, end) in [(true, FIN), (false, FIN), (true, RST), (false, RST)] {
            let mut world = World::new();
            world.service(frontend, TCP, &[backend]);
            let syn = Packet::tcp(client, frontend, SYN);
            world.ingress(&syn);
            let direct = Packet::tcp(client, backend, SYN);
            // What was translated just now, and passes another interface.
            world.ingress(&direct);
            assert_eq!(world.flows(), (0, 1));
            let translated = world.ingress(&syn.with_flags(ACK)).packet();
            world.ingress(&direct);
            assert_eq!(world.flows(), (1, 0));
            if from_client {
                world.ingress(&syn.with_flags(ACK | end));
            } else {
                world.egress(&translated.reply().with_flags(ACK | end));
            }
            assert_eq!(world.ingress(&direct).packet(), direct);
            assert_eq!(world.flows(), (0, 0), "from client: {from_client}, {end}");
            assert_eq!(world.egress(&direct.reply()).packet(), direct.reply());
        }
    }
}

#[test]
fn a_direct_connection_is_not_mistaken_for_an_earlier_one_through_the_frontend() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.ingress(&syn.with_flags(ACK));
        // A tick is 2.56 s at most.
        std::thread::sleep(std::time::Duration::from_millis(2600));
        let direct = Packet::tcp(client, backend, SYN);
        assert_eq!(world.ingress(&direct).packet(), direct);
        assert_eq!(world.flows(), (0, 0));
        assert_eq!(world.egress(&direct.reply()).packet(), direct.reply());
    }
}

#[test]
fn datagrams_are_answered_by_whom_the_last_of_their_port_was_sent_to() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        let sent = Packet::udp(client, frontend);
        let direct = Packet::udp(client, backend);
        for _ in 0..3 {
            let translated = world.ingress(&sent).packet();
            assert_eq!(translated, direct);
            assert_eq!(world.egress(&translated.reply()).packet(), sent.reply());
            let outcome = world.ingress(&direct);
            assert_eq!((outcome.verdict, outcome.packet()), (NEXT, direct.clone()));
            assert_eq!(world.flows(), (0, 0));
            assert_eq!(world.egress(&direct.reply()).packet(), direct.reply());
        }
    }
}
