//! Keys, values and maps of flows, affinity and fragments, whose types differ between the families, and nothing else.

/// The part of an `impl Family` that concerns them.
macro_rules! storage {
    (
        $flow_key:ident, $flow_value:ident, $flows:ident, $half_open:ident,
        $affinity_key:ident, $affinity:ident,
        $fragment_key:ident, $fragment_value:ident, $fragments:ident,
        $work:ident
    ) => {
        type FlowKey = $flow_key;
        type FlowValue = $flow_value;
        type AffinityKey = $affinity_key;
        type FragmentKey = $fragment_key;
        type FragmentValue = $fragment_value;

        #[inline]
        fn flow_key(client: Self::Address, client_port: u16, protocol: u8) -> $flow_key {
            $flow_key { client, client_port, protocol, slot: 0 }
        }

        #[inline]
        fn twin(key: &$flow_key, value: &$flow_value) -> Option<$flow_key> {
            key.twin(value)
        }

        #[inline]
        fn flow_value(flow: &$crate::family::Flow<Self>) -> $flow_value {
            let [by_client, by_backend, chain, pad] = $crate::family::zero().to_ne_bytes();
            $flow_value {
                frontend: flow.frontend,
                backend: flow.backend,
                frontend_port: flow.frontend_port,
                backend_port: flow.backend_port,
                flags: flow.flags,
                client_port: u16::from_ne_bytes([by_client, by_backend]),
                by_client,
                by_backend,
                chain,
                pad,
                last_seen: flow.last_seen,
                id: flow.id,
                generation: flow.generation,
                service: flow.service,
                interface: flow.interface,
                place: 0,
                client: Default::default(),
                backend_interface: 0,
            }
        }

        #[inline]
        fn affinity_key(client: Self::Address, service: u32) -> $affinity_key {
            $affinity_key { client, service }
        }

        #[inline]
        fn fragment_value(first: &$crate::family::First<Self>) -> $fragment_value {
            $fragment_value {
                source: first.source,
                destination: first.destination,
                flags: first.flags,
                service: first.service,
                last_seen: first.last_seen,
                interface: first.interface,
            }
        }

        #[inline]
        fn flows() -> &'static aya_ebpf::maps::HashMap<$flow_key, $flow_value> {
            &$flows
        }

        #[inline]
        fn half_open() -> &'static aya_ebpf::maps::Array<$flow_key> {
            &$half_open
        }

        #[inline]
        fn affinity() -> &'static aya_ebpf::maps::LruHashMap<$affinity_key, shunt_abi::affinity::AffinityValue>
        {
            &$affinity
        }

        #[inline]
        fn fragments() -> &'static aya_ebpf::maps::LruHashMap<$fragment_key, $fragment_value> {
            &$fragments
        }

        #[inline]
        fn work() -> &'static aya_ebpf::maps::PerCpuArray<$crate::flow::Work<Self>> {
            &$work
        }
    };
}
