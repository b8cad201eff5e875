//! nftables objects as netlink attributes.

use super::element::{Element, Extent, Value};
use super::encode_expression::{expression, verdict};
use super::expression::Rule;
use super::layout::{Chain, Hook};
use super::set::SetDefinition;
use super::userdata;
use crate::domain::IpFamily;
use crate::kernel::netlink::Writer;

/// Name of our tables, one in each family.
pub(super) const TABLE: &str = "shunt";
const TABLE_COMMENT: &str = "Kubernetes Services; owned by shunt, changes are undone";

/// Attribute numbers of elements (`NFTA_SET_ELEM_*`), of their list and of data.
pub(super) mod number {
    pub(in super::super) const LIST_TABLE: u16 = 1;
    pub(in super::super) const LIST_SET: u16 = 2;
    pub(in super::super) const LIST_ELEMENTS: u16 = 3;
    pub(in super::super) const LIST_ELEMENT: u16 = 1;
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const KEY_END: u16 = 10;
    pub(in super::super) const VALUE: u16 = 1;
    pub(in super::super) const VERDICT: u16 = 2;
    pub(in super::super) const VERDICT_CODE: u16 = 1;
    pub(in super::super) const VERDICT_CHAIN: u16 = 2;
    /// The end of a range (`NFT_SET_ELEM_INTERVAL_END`).
    pub(in super::super) const INTERVAL_END: u32 = 1;
    pub(in super::super) const DROP: u32 = 0;
    pub(in super::super) const JUMP: u32 = 0xffff_fffd;
    pub(in super::super) const GOTO: u32 = 0xffff_fffc;
    pub(in super::super) const RETURN: u32 = 0xffff_fffb;
}

/// `NFPROTO_*`.
pub(super) const fn protocol_family(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

/// Every object names its table first.
const IN_TABLE: u16 = 1;

pub(super) fn table_name(message: &mut Writer<'_>) {
    message.text(IN_TABLE, TABLE);
}

pub(super) fn table(message: &mut Writer<'_>) {
    const FLAGS: u16 = 2;
    const USERDATA: u16 = 6;
    table_name(message);
    message.u32(FLAGS, 0).bytes(USERDATA, &userdata::table(TABLE_COMMENT));
}

pub(super) fn chain_name(message: &mut Writer<'_>, name: &str) {
    message.text(IN_TABLE, TABLE).text(3, name);
}

pub(super) fn chain(message: &mut Writer<'_>, chain: &Chain) {
    chain_name(message, &chain.name);
    if let Some(hook) = &chain.hook {
        self::hook(message, *hook);
    }
}

fn hook(message: &mut Writer<'_>, hook: Hook) {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const ACCEPT: u32 = 1;
    message.nested(HOOK, |inside| {
        // Priorities are signed; their bits are sent as they are.
        inside.u32(1, hook.number).u32(2, hook.priority.cast_unsigned());
    });
    message.u32(POLICY, ACCEPT).text(TYPE, hook.kind);
}

/// All rules of a chain.
pub(super) fn rules_of(message: &mut Writer<'_>, chain: &str) {
    message.text(IN_TABLE, TABLE).text(2, chain);
}

pub(super) fn rule(message: &mut Writer<'_>, chain: &str, rule: &Rule) {
    const EXPRESSIONS: u16 = 4;
    rules_of(message, chain);
    message.nested(EXPRESSIONS, |list| expressions_into(list, rule));
}

/// Writes what a list of expressions holds.
pub(super) fn expressions_into(list: &mut Writer<'_>, rule: &Rule) {
    rule.expressions.iter().for_each(|item| expression(list, item));
}

/// What is inside the list of expressions: for comparing it with what the kernel dumps.
pub(super) fn expressions(rule: &Rule) -> Vec<u8> {
    let mut bytes = Vec::new();
    expressions_into(&mut Writer::new(&mut bytes), rule);
    bytes
}

pub(super) fn set_name(message: &mut Writer<'_>, name: &str) {
    message.text(IN_TABLE, TABLE).text(2, name);
}

/// A set, without the identifier that the kernel wants for new ones.
pub(super) fn set(message: &mut Writer<'_>, definition: &SetDefinition) {
    set_name(message, &definition.name);
    // The kernel does not dump flags that are zero.
    if definition.flags() != 0 {
        message.u32(3, definition.flags());
    }
    message.u32(4, definition.key_kind()).u32(5, definition.key_length());
    if let Some((kind, length)) = definition.data_kind() {
        message.u32(6, kind).u32(7, length);
    }
    message.nested(9, |inside| set_description(inside, definition));
    if let Some(timeout) = definition.timeout {
        message.u64(11, timeout);
    }
    message.bytes(13, &definition.userdata);
}

fn set_description(inside: &mut Writer<'_>, definition: &SetDefinition) {
    const SIZE: u16 = 1;
    const CONCATENATION: u16 = 2;
    const PART: u16 = 1;
    const PART_LENGTH: u16 = 1;
    if let Some(size) = definition.size() {
        inside.u32(SIZE, size);
    }
    let parts = definition.part_lengths();
    if !parts.is_empty() {
        inside.nested(CONCATENATION, |list| {
            for length in parts {
                list.nested(PART, |part| {
                    part.u32(PART_LENGTH, length);
                });
            }
        });
    }
}

/// The identifier of a set within a batch; nobody refers to it, but the kernel insists.
pub(super) fn set_identifier(message: &mut Writer<'_>, identifier: u32) {
    message.u32(10, identifier);
}

/// The start of a message about elements of a set.
pub(super) fn elements_of(message: &mut Writer<'_>, set: &str) {
    message.text(number::LIST_TABLE, TABLE).text(number::LIST_SET, set);
}

/// One element, inside a list of elements.
pub(super) fn element(list: &mut Writer<'_>, element: &Element) {
    list.nested(number::LIST_ELEMENT, |item| {
        if element.extent == Extent::Behind {
            item.u32(number::FLAGS, number::INTERVAL_END);
        }
        value(item, number::KEY, element.key.as_slice());
        if let Extent::UpTo(end) = &element.extent {
            value(item, number::KEY_END, end.as_slice());
        }
        match &element.value {
            Value::None | Value::Foreign => {}
            Value::Endpoint(endpoint) => value(item, number::DATA, endpoint.as_slice()),
            Value::Verdict(chosen) => {
                item.nested(number::DATA, |data| {
                    data.nested(number::VERDICT, |inside| verdict(inside, chosen));
                });
            }
        }
    });
}

fn value(item: &mut Writer<'_>, kind: u16, payload: &[u8]) {
    item.nested(kind, |data| {
        data.bytes(number::VALUE, payload);
    });
}
