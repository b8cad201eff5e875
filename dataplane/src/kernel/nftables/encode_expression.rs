//! Expressions as netlink attributes (`NFTA_*` in `linux/netfilter/nf_tables.h`).
//!
//! Written by hand: of the expressions that are needed, netlink-bindings 0.3 lacks `dynset` and `masq`, has the
//! attributes of `lookup` in another order than the kernel, and those of `numgen` in another byte order.

use super::encode::{number, protocol_family};
use super::expression::{Comparison, Expression, LookupTarget, Register, Verdict, number::META_MARK};
use crate::kernel::netlink::Writer;

/// In lists, each entry is an attribute of this number.
const LIST_ELEMENT: u16 = 1;

/// Appends one expression to a list.
pub(super) fn expression(list: &mut Writer<'_>, expression: &Expression) {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    list.nested(LIST_ELEMENT, |item| {
        item.text(NAME, name(expression));
        item.nested(DATA, |data| attributes(data, expression));
    });
}

const fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Payload { .. } => "payload",
        Expression::Meta { .. } | Expression::SetMark { .. } => "meta",
        Expression::Ct { .. } => "ct",
        Expression::SourceRouteType { .. } => "fib",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Compare { .. } => "cmp",
        Expression::Lookup { .. } => "lookup",
        Expression::Random { .. } => "numgen",
        Expression::Immediate { .. } | Expression::Verdict(_) => "immediate",
        Expression::Dnat { .. } => "nat",
        Expression::Masquerade | Expression::MasqueradeWithin { .. } => "masq",
        Expression::Reject { .. } => "reject",
        Expression::Record { .. } => "dynset",
    }
}

fn attributes(data: &mut Writer<'_>, expression: &Expression) {
    match expression {
        Expression::Payload { base, offset, length, to } => {
            data.u32(1, to.number()).u32(2, *base).u32(3, *offset).u32(4, *length);
        }
        Expression::Meta { key, to } | Expression::Ct { key, to } => {
            data.u32(1, to.number()).u32(2, *key);
        }
        Expression::SetMark { from } => {
            data.u32(2, META_MARK).u32(3, from.number());
        }
        Expression::SourceRouteType { to } => {
            const ADDRESS_TYPE: u32 = 3;
            const SOURCE: u32 = 1;
            data.u32(1, to.number()).u32(2, ADDRESS_TYPE).u32(3, SOURCE);
        }
        Expression::Bitwise { register, mask, xor } => bitwise(data, *register, mask, xor),
        Expression::Compare { register, how, with } => compare(data, *register, *how, with),
        Expression::Lookup { set, key, to } => lookup(data, set, *key, *to),
        Expression::Random { modulus, to } => {
            const RANDOM: u32 = 1;
            data.u32(1, to.number()).u32(2, *modulus).u32(3, RANDOM).u32(4, 0);
        }
        Expression::Immediate { to, value } => {
            data.u32(1, to.number()).nested(2, |data| {
                data.bytes(number::VALUE, value);
            });
        }
        Expression::Verdict(chosen) => {
            data.u32(1, VERDICT_REGISTER).nested(2, |data| {
                data.nested(number::VERDICT, |inside| verdict(inside, chosen));
            });
        }
        Expression::Dnat { .. }
        | Expression::Masquerade
        | Expression::MasqueradeWithin { .. }
        | Expression::Reject { .. }
        | Expression::Record { .. } => {
            action(data, expression);
        }
    }
}

const VERDICT_REGISTER: u32 = 0;

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const FULLY_RANDOM: u32 = 0x10;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`: without, the kernel takes the ports and does not look at them.
const PORTS_GIVEN: u32 = 0x2;

fn action(data: &mut Writer<'_>, expression: &Expression) {
    match expression {
        Expression::Dnat { family, address, port } => {
            const DESTINATION: u32 = 1;
            data.u32(1, DESTINATION).u32(2, protocol_family(*family).into());
            data.u32(3, address.number()).u32(5, port.number());
        }
        Expression::Masquerade => {
            data.u32(1, FULLY_RANDOM);
        }
        Expression::MasqueradeWithin { first, last } => {
            data.u32(1, FULLY_RANDOM | PORTS_GIVEN).u32(2, first.number()).u32(3, last.number());
        }
        Expression::Reject { kind, code } => {
            data.u32(1, *kind);
            // The kernel does not dump the code of a reset.
            if let Some(code) = code {
                data.u8(2, *code);
            }
        }
        Expression::Record { set, key } => {
            const UPDATE: u32 = 1;
            data.text(1, set).u32(3, UPDATE).u32(4, key.number());
        }
        _ => {}
    }
}

fn bitwise(data: &mut Writer<'_>, register: Register, mask: &[u8], xor: &[u8]) {
    let length = u32::try_from(mask.len()).unwrap_or(0);
    data.u32(1, register.number()).u32(2, register.number()).u32(3, length);
    for (kind, value) in [(4, mask), (5, xor)] {
        data.nested(kind, |data| {
            data.bytes(number::VALUE, value);
        });
    }
}

fn compare(data: &mut Writer<'_>, register: Register, how: Comparison, with: &[u8]) {
    let operation = match how {
        Comparison::Equal => 0,
        Comparison::NotEqual => 1,
    };
    data.u32(1, register.number()).u32(2, operation).nested(3, |data| {
        data.bytes(number::VALUE, with);
    });
}

fn lookup(data: &mut Writer<'_>, set: &str, key: Register, to: LookupTarget) {
    const DESTINATION: u16 = 3;
    const FLAGS: u16 = 5;
    const INVERTED: u32 = 1;
    data.text(1, set).u32(2, key.number());
    match to {
        LookupTarget::Member => data.u32(FLAGS, 0),
        LookupTarget::NotMember => data.u32(FLAGS, INVERTED),
        LookupTarget::Verdict => data.u32(DESTINATION, VERDICT_REGISTER).u32(FLAGS, 0),
        LookupTarget::Data(register) => data.u32(DESTINATION, register.number()).u32(FLAGS, 0),
    };
}

/// The inside of a verdict.
pub(super) fn verdict(inside: &mut Writer<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (number::DROP, None),
        Verdict::Return => (number::RETURN, None),
        Verdict::Goto(chain) => (number::GOTO, Some(chain)),
        Verdict::Jump(chain) => (number::JUMP, Some(chain)),
    };
    inside.u32(number::VERDICT_CODE, code);
    if let Some(chain) = chain {
        inside.text(number::VERDICT_CHAIN, chain);
    }
}
