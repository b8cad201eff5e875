//! Traffic of single Service ports is counted where somebody asked for it.

use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Ebpf, Settings, Sizes};
use shunt::plan::Policy;

use crate::fixtures::{change, frontend, in_namespace, services, settings, sizes, spec};
use crate::traffic::{Lab, open};

#[test]
fn packets_bytes_and_connections_of_a_service_port_are_counted_when_asked_for() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let mut table = services(2);
        change(&mut table, frontend("172.30.0.200:80"), Some(spec(Policy::Internal, &["10.2.0.2:8080"])));
        for counts in [false, true] {
            let sizes = Sizes { counted: if counts { sizes().services } else { 1 }, ..sizes() };
            let mut dataplane = Ebpf::new(Settings { sizes, ..settings(bpffs) }).unwrap();
            dataplane.restore(&table).unwrap();
            let connect = || (0..5).for_each(|_| drop(open("172.30.0.200:80".parse().unwrap())));
            lab.client.spawn(connect).join().unwrap();
            let seen = dataplane.observations().services;
            assert_eq!(seen.is_empty(), !counts);
            for (port, traffic) in seen {
                let is_asked = &*port.service.name == "web";
                assert_eq!(traffic.connections, if is_asked { 5 } else { 0 }, "{port:?}");
                assert_eq!(
                    (traffic.packets >= 40, traffic.bytes >= 40 * 66),
                    (is_asked, is_asked),
                    "{traffic:?}"
                );
            }
        }
    });
}
