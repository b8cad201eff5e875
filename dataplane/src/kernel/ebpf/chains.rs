//! Elements of the flow maps that stand with others: in slots of one client port, and aliases. What goes of them. Pure.
//!
//! What is in a slot leads to the next one, so nothing is taken out of the middle: the highest slots go first, and an
//! element that others follow becomes nobody's. Programs may have added elements while the maps were looked through, so
//! whoever carries this out looks again.

use std::collections::{BTreeMap, HashMap};

use super::flows::{Key, State};
use super::patience::Judge;

/// What becomes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Keep,
    Delete,
    /// It becomes nobody's, and stays for those that follow it.
    Vacate,
}

/// An element, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged<K> {
    pub(super) key: K,
    pub(super) state: State,
    pub(super) deed: Deed,
}

/// Whether others have to be known to tell what becomes of the element.
pub(super) fn has_company<K: Key>(key: &K, state: &State) -> bool {
    key.slot() > 0 || state.chain != 0 || state.is_alias() || state.has_alias()
}

/// What becomes of elements with company, of which all that there are must be known. Those of one client port are next to
/// each other, the highest slot first.
pub(super) fn judge<K: Key>(elements: &[(K, State)], judge: &Judge) -> Vec<Judged<K>> {
    let chains = Chains::new(elements);
    let judged = chains.0.iter().flat_map(|(first, chain)| chains.judge(first, chain, judge));
    judged.collect()
}

/// The elements of one client port, by slot.
type Chain = BTreeMap<u8, State>;

/// By the key of the first slot.
struct Chains<K>(HashMap<K, Chain>);

impl<K: Key> Chains<K> {
    fn new(elements: &[(K, State)]) -> Self {
        let mut chains: HashMap<K, Chain> = HashMap::new();
        for (key, state) in elements {
            chains.entry(key.in_slot(0)).or_default().insert(key.slot(), *state);
        }
        Self(chains)
    }

    fn judge(&self, first: &K, chain: &Chain, judge: &Judge) -> Vec<Judged<K>> {
        let reachable = reachable(chain);
        let mut is_followed = false;
        let mut judged = Vec::with_capacity(chain.len());
        for (slot, state) in chain.iter().rev() {
            let key = first.in_slot(*slot);
            let goes = match state {
                state if state.is_vacant() => true,
                state if *slot >= reachable => judge.is_quiet(state),
                state => self.is_over(&key, state, judge),
            };
            let deed = match (goes, is_followed) {
                (true, false) => Deed::Delete,
                (true, true) if !state.is_vacant() => Deed::Vacate,
                _ => Deed::Keep,
            };
            is_followed |= deed != Deed::Delete;
            judged.push(Judged { key, state: *state, deed });
        }
        judged
    }

    fn is_over(&self, key: &K, state: &State, judge: &Judge) -> bool {
        let (main, alias) = match (self.twin(key, state), state.is_alias()) {
            (Some(main), true) => (main, state),
            (Some(alias), false) => (state, alias),
            // Nothing is known of its flow any more.
            (None, true) => return judge.is_quiet(state),
            (None, false) => (state, state),
        };
        judge.is_over(key.protocol(), &judge.whole(main, alias))
    }

    /// The other element of a remapped flow.
    fn twin(&self, key: &K, state: &State) -> Option<&State> {
        let there = key.twin(state)?;
        let leads_back = |twin: &&State| {
            let is_other = if state.is_alias() { twin.has_alias() } else { twin.is_alias() };
            is_other && !twin.is_vacant() && there.twin(twin) == Some(key.in_slot(0))
        };
        self.0.get(&there)?.values().find(leads_back)
    }
}

/// Packets find the elements in slots below this one.
fn reachable(chain: &Chain) -> u8 {
    let leading = (0..).map_while(|slot| chain.get(&slot));
    let mut slots = 0;
    for state in leading {
        slots += 1;
        if !state.has_more() {
            break;
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use shunt_abi::address::TCP;
    use shunt_abi::flow::{ALIAS, ESTABLISHED, FINISHED, FlowKey4, HAIRPIN, MORE, REMAPPED, RESET, VACANT};

    use super::*;
    use crate::kernel::ebpf::patience::tests::judge as judge_at;

    const NOW: u32 = 1_000;

    fn key(client_port: u16, slot: u8) -> FlowKey4 {
        FlowKey4 { client: 1, client_port, protocol: TCP, slot }
    }

    /// Seen a second ago.
    fn live() -> State {
        State { by_client: ESTABLISHED, last_seen: NOW - 1, ..State::default() }
    }

    /// Over.
    fn over() -> State {
        State { by_client: ESTABLISHED | RESET, last_seen: NOW - 100, ..State::default() }
    }

    fn more(state: State) -> State {
        State { chain: MORE, ..state }
    }

    fn vacant() -> State {
        State { last_seen: NOW, ..State::default() }.vacated()
    }

    fn deeds(elements: &[(FlowKey4, State)]) -> BTreeMap<(u16, u8), Deed> {
        let judged = judge(elements, &judge_at(NOW));
        assert_eq!(judged.len(), elements.len());
        judged.iter().map(|judged| ((judged.key.client_port, judged.key.slot), judged.deed)).collect()
    }

    /// What becomes of the slots of one port.
    fn of_slots(states: &[State]) -> Vec<Deed> {
        let elements: Vec<_> = (0..).zip(states).map(|(slot, state)| (key(5, slot), *state)).collect();
        deeds(&elements).into_values().collect()
    }

    #[test]
    fn one_flow_of_a_port_needs_no_company() {
        assert!(!has_company(&key(5, 0), &live()));
        assert!(!has_company(&key(5, 0), &State { flags: HAIRPIN, ..live() }));
        assert!(has_company(&key(5, 1), &live()));
        assert!(has_company(&key(5, 0), &more(live())));
        assert!(has_company(&key(5, 0), &State { flags: REMAPPED, ..live() }));
        assert!(has_company(&key(5, 0), &State { flags: REMAPPED | ALIAS, ..live() }));
    }

    #[test]
    fn slots_go_from_the_highest_down_to_one_that_is_in_use() {
        use Deed::{Delete, Keep, Vacate};
        assert_eq!(of_slots(&[more(live()), more(over()), over()]), [Keep, Delete, Delete]);
        assert_eq!(of_slots(&[more(over()), more(over()), over()]), [Delete, Delete, Delete]);
        assert_eq!(of_slots(&[more(over()), live()]), [Vacate, Keep]);
        assert_eq!(of_slots(&[more(over()), more(live()), over()]), [Vacate, Keep, Delete]);
        // What was above went earlier.
        assert_eq!(of_slots(&[more(over())]), [Delete]);
    }

    #[test]
    fn the_highest_slot_is_judged_first() {
        let elements = [(key(5, 0), more(over())), (key(5, 2), over()), (key(5, 1), more(over()))];
        let slots: Vec<u8> = judge(&elements, &judge_at(NOW)).iter().map(|judged| judged.key.slot).collect();
        assert_eq!(slots, [2, 1, 0]);
    }

    #[test]
    fn what_is_vacant_goes_as_soon_as_nothing_follows_it() {
        use Deed::{Delete, Keep};
        assert_eq!(of_slots(&[vacant(), live()]), [Keep, Keep]);
        assert_eq!(of_slots(&[vacant(), vacant()]), [Delete, Delete]);
        assert_eq!(of_slots(&[more(live()), vacant()]), [Keep, Delete]);
    }

    #[test]
    fn an_element_that_nothing_leads_to_goes_when_it_is_quiet() {
        let quiet = State { last_seen: NOW - 12, ..live() };
        assert_eq!(deeds(&[(key(5, 1), quiet)])[&(5, 1)], Deed::Delete);
        assert_eq!(deeds(&[(key(5, 1), live())])[&(5, 1)], Deed::Keep, "it may just have come");
        // The slot before says that nothing follows.
        assert_eq!(of_slots(&[live(), quiet]), [Deed::Keep, Deed::Delete]);
        assert_eq!(
            of_slots(&[more(live()), quiet]),
            [Deed::Keep, Deed::Keep],
            "idle, and found by its packets"
        );
    }

    #[test]
    fn both_elements_of_a_remapped_flow_go_together() {
        let main = |state: State| (key(5, 1), State { flags: REMAPPED, client_port: 9, ..state });
        let alias = |state: State| (key(9, 0), State { flags: REMAPPED | ALIAS, client_port: 5, ..state });
        let other = (key(5, 0), more(live()));
        let of = |main: State, alias_state: State| {
            let deeds = deeds(&[other, (key(5, 1), main), alias(alias_state)]);
            [deeds[&(5, 1)], deeds[&(9, 0)]]
        };
        let idle = State { last_seen: NOW - 200, ..live() };
        // Each direction's FIN is in the element that its packets find.
        let closed = State { by_client: ESTABLISHED | FINISHED, ..idle };
        let answered = |last_seen| State { by_backend: FINISHED, last_seen, ..State::default() };
        assert_eq!(of(main(closed).1, answered(NOW - 200)), [Deed::Delete; 2]);
        assert_eq!(of(main(closed).1, answered(NOW - 5)), [Deed::Keep; 2], "a straggler came");
        assert_eq!(of(main(idle).1, State { last_seen: NOW - 200, ..State::default() }), [Deed::Keep; 2]);
        let reset = State { by_backend: RESET, last_seen: NOW - 30, ..State::default() };
        assert_eq!(of(main(idle).1, reset), [Deed::Delete; 2]);
    }

    #[test]
    fn an_alias_at_another_address_goes_with_its_flow_and_no_other() {
        let at = |client, port, slot| FlowKey4 { client, client_port: port, protocol: TCP, slot };
        let leading_to = |client: u32, flags, state: State| State {
            flags: REMAPPED | flags,
            client_port: 5,
            client: [0, 0, 0, client],
            ..state
        };
        let reset = State { by_client: ESTABLISHED | RESET, last_seen: NOW - 30, ..State::default() };
        let quiet = State { last_seen: NOW - 30, ..State::default() };
        // Two flows of one port with the same port at two addresses; one of them is over.
        let elements = [
            (at(1, 5, 0), more(leading_to(2, 0, reset))),
            (at(1, 5, 1), leading_to(3, 0, live())),
            (at(2, 5, 0), leading_to(1, ALIAS, quiet)),
            (at(3, 5, 0), leading_to(1, ALIAS, quiet)),
        ];
        let judged = judge(&elements, &judge_at(NOW));
        let deed = |key| judged.iter().find(|judged| judged.key == key).unwrap().deed;
        let deeds = elements.map(|(key, _)| deed(key));
        assert_eq!(deeds, [Deed::Vacate, Deed::Keep, Deed::Delete, Deed::Keep]);
    }

    #[test]
    fn an_alias_without_its_flow_goes_when_it_is_quiet() {
        let alias =
            |last_seen| State { flags: REMAPPED | ALIAS, client_port: 5, last_seen, ..State::default() };
        assert_eq!(deeds(&[(key(9, 0), alias(NOW - 12))])[&(9, 0)], Deed::Delete);
        assert_eq!(deeds(&[(key(9, 0), alias(NOW - 1))])[&(9, 0)], Deed::Keep);
        // A flow of that port which is another's, and one that has left.
        let others = State { flags: REMAPPED, client_port: 8, ..live() };
        assert_eq!(deeds(&[(key(9, 0), alias(NOW - 12)), (key(5, 0), others)])[&(9, 0)], Deed::Delete);
        let left = State { flags: REMAPPED, client_port: 9, chain: MORE | VACANT, ..live() };
        let deeds = deeds(&[(key(9, 0), alias(NOW - 12)), (key(5, 0), left), (key(5, 1), live())]);
        assert_eq!(deeds[&(9, 0)], Deed::Delete);
    }

    #[test]
    fn an_alias_that_others_follow_is_vacated() {
        let alias = State {
            flags: REMAPPED | ALIAS,
            client_port: 5,
            chain: MORE,
            last_seen: NOW - 12,
            ..State::default()
        };
        let deeds = deeds(&[(key(9, 0), alias), (key(9, 1), live())]);
        assert_eq!((deeds[&(9, 0)], deeds[&(9, 1)]), (Deed::Vacate, Deed::Keep));
    }
}
