//! Keys, values and maps of flows, affinity and fragments, whose types differ between the families, and nothing else.

/// The part of an `impl Family` that concerns them.
macro_rules! storage {
    (
        $flow_key:ident, $flow_value:ident, $flows:ident, $opening:ident,
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
        fn flow_key(tuple: &Tuple<Self>, direction: u8) -> $flow_key {
            $flow_key {
                source: tuple.source,
                destination: tuple.destination,
                source_port: tuple.source_port,
                destination_port: tuple.destination_port,
                protocol: tuple.protocol,
                direction,
                pad: 0,
            }
        }

        #[inline]
        fn other_half(key: &$flow_key, value: &$flow_value, hairpin: Self::Address) -> $flow_key {
            key.other_half(value, hairpin)
        }

        #[inline]
        fn flow_value(flow: &$crate::family::Flow<Self>) -> $flow_value {
            $flow_value {
                address: flow.address,
                port: flow.port,
                flags: flow.flags,
                backend: flow.backend,
                generation: flow.generation,
                service: flow.service,
                last_seen: flow.last_seen,
                interface: flow.interface,
                client_port: flow.client_port,
                pad: 0,
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
            }
        }

        #[inline]
        fn flows() -> &'static aya_ebpf::maps::HashMap<$flow_key, $flow_value> {
            &$flows
        }

        #[inline]
        fn opening() -> &'static aya_ebpf::maps::LruHashMap<$flow_key, $flow_value> {
            &$opening
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
