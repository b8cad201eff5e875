//! The elements of the flows that a world has, both families alike.

use shunt_abi::{
    flow::{ALIAS, FlowKey4, FlowKey6, FlowValue4, FlowValue6},
    name,
};

use crate::world::World;

impl World {
    /// Flows: established, half-open; both families. The established ones are as many as were counted.
    pub(crate) fn flows(&mut self) -> (usize, usize) {
        let is_flow = |value: &FlowValue4| !value.is_vacant() && value.flags & ALIAS == 0;
        let flows: Vec<_> = self.elements().into_iter().map(|(_, value)| value).filter(is_flow).collect();
        let established = flows.iter().filter(|value| value.is_established()).count();
        let counted: i64 =
            (0..2).map(|family| self.array::<i64>(name::ESTABLISHED).get(&family, 0).unwrap()).sum();
        assert_eq!(usize::try_from(counted).unwrap(), established, "what was counted");
        (established, flows.len() - established)
    }

    /// Every element of both families' flows, in the order of ports and slots; of IPv6 addresses, only the last word.
    pub(crate) fn elements(&mut self) -> Vec<(FlowKey4, FlowValue4)> {
        let four = self.hash::<FlowKey4, FlowValue4>(name::FLOWS4).iter().collect::<Result<Vec<_>, _>>();
        let six = self.hash::<FlowKey6, FlowValue6>(name::FLOWS6).iter().collect::<Result<Vec<_>, _>>();
        let narrow = six.unwrap().into_iter().map(|(key, value)| (narrow_key(&key), narrow_value(&value)));
        let mut all: Vec<_> = four.unwrap().into_iter().chain(narrow).collect();
        all.sort_by_key(|(key, _)| (key.client_port.swap_bytes(), key.slot));
        all
    }

    /// Makes all flows those of clients whose packets leave by that interface.
    pub(crate) fn set_interface_of_flows(&mut self, interface: u32) {
        let mut four = self.hash::<FlowKey4, FlowValue4>(name::FLOWS4);
        let all: Vec<_> = four.iter().collect::<Result<_, _>>().unwrap();
        for (key, value) in all {
            four.insert(key, FlowValue4 { interface, ..value }, 0).unwrap();
        }
        let mut six = self.hash::<FlowKey6, FlowValue6>(name::FLOWS6);
        let all: Vec<_> = six.iter().collect::<Result<_, _>>().unwrap();
        for (key, value) in all {
            six.insert(key, FlowValue6 { interface, ..value }, 0).unwrap();
        }
    }

    /// Lets so many flows of each family be established.
    pub(crate) fn limit_established(&mut self, flows: u32) {
        self.configure(|config| config.established = flows);
    }
}

fn narrow_key(key: &FlowKey6) -> FlowKey4 {
    FlowKey4 { client: key.client[3], client_port: key.client_port, protocol: key.protocol, slot: key.slot }
}

fn narrow_value(value: &FlowValue6) -> FlowValue4 {
    FlowValue4 {
        frontend: value.frontend[3],
        backend: value.backend[3],
        frontend_port: value.frontend_port,
        backend_port: value.backend_port,
        flags: value.flags,
        client_port: value.client_port,
        by_client: value.by_client,
        by_backend: value.by_backend,
        chain: value.chain,
        pad: value.pad,
        last_seen: value.last_seen,
        id: value.id,
        generation: value.generation,
        service: value.service,
        interface: value.interface,
        place: value.place,
        client: value.client[3],
        backend_interface: value.backend_interface,
    }
}
