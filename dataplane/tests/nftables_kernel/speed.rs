//! Figures; nothing here fails for being slow.

use std::sync::Arc;
use std::time::Instant;

use shunt::domain::Protocol;
use shunt::kernel::Dataplane as _;
use shunt::plan::{Policy, Table};

use crate::fixtures::{change, dataplane, frontend, in_namespace, nft, pool, spec};

#[test]
fn many_services_load_at_once_and_change_alone() {
    in_namespace(|| {
        let mut table = Table::default();
        for n in 0..20_000_u32 {
            let at = |base: u32| std::net::Ipv4Addr::from_bits(base + n / 2);
            let protocol = if n % 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
            let backends = [1_u32, 2].map(|k| format!("{}:8080", at(0x0a00_0000 + (k << 20))));
            let target = pool(&[&backends[0], &backends[1]]);
            let spec = spec(Policy::Internal, target);
            table.frontends.insert(frontend(&format!("{}:80", at(0xac1e_0000)), protocol), Arc::new(spec));
        }
        let mut dataplane = dataplane();
        let took = |what: &str, since: Instant| eprintln!("{what}: {:?}", since.elapsed());
        let start = Instant::now();
        dataplane.restore(&table).unwrap();
        took("load 20,000 frontends", start);
        let start = Instant::now();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        took("audit", start);
        let frontends: Vec<_> = table.frontends.keys().copied().take(1000).collect();
        let start = Instant::now();
        for (n, at) in frontends.iter().enumerate() {
            let moved = spec(Policy::Internal, pool(&["10.9.9.8:8080", &format!("10.9.9.9:{}", n + 1)]));
            let changes = change(&mut table, *at, Some(moved));
            dataplane.apply(&changes).unwrap();
        }
        took("1,000 changes, one at a time", start);
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let start = Instant::now();
        nft(&["add element ip shunt cluster-ips { 1.2.3.4 }"]);
        took("one element through nft", start);
        let start = Instant::now();
        dataplane.cleanup().unwrap();
        took("cleanup", start);
    });
}
