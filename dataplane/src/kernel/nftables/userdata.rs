//! What `nft` keeps beside an object in order to print it: comments, byte orders, the expressions of `typeof`.
//!
//! The kernel stores these bytes and does not look at them. The format is libnftnl's: type, length, value, nested.

use crate::domain::{IpFamily, Protocol};

const TABLE_COMMENT: u8 = 0;
const SET_KEY_BYTE_ORDER: u8 = 0;
const SET_DATA_BYTE_ORDER: u8 = 1;
const SET_KEY_TYPEOF: u8 = 3;
const SET_DATA_TYPEOF: u8 = 4;
const SET_DATA_INTERVAL: u8 = 6;

const BYTE_ORDER_NONE: u32 = 0;
const BYTE_ORDER_HOST: u32 = 1;
const BYTE_ORDER_BIG: u32 = 2;

/// nft's numbers of its kinds of expression.
const VERDICT: u32 = 1;
const PAYLOAD: u32 = 7;
const CONCATENATION: u32 = 13;
const RANDOM: u32 = 23;

fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[kind, length], bytes].concat()
}

fn word(kind: u8, number: u32) -> Vec<u8> {
    value(kind, &number.to_ne_bytes())
}

/// An expression as `typeof` stores it: which kind, and what is special about this one.
fn expression(kind: u32, special: &[u8]) -> Vec<u8> {
    [word(0, kind), value(1, special)].concat()
}

fn payload(header: u32, field: u32) -> Vec<u8> {
    expression(PAYLOAD, &[word(0, header), word(1, field)].concat())
}

/// `ip daddr`, `ip6 daddr`.
pub(super) fn destination(family: IpFamily) -> Vec<u8> {
    match family {
        IpFamily::V4 => payload(12, 12),
        IpFamily::V6 => payload(13, 9),
    }
}

/// `tcp dport`, `udp dport`, `sctp dport`.
pub(super) fn port(protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => payload(8, 2),
        Protocol::Udp => payload(6, 2),
        Protocol::Sctp => payload(10, 2),
    }
}

/// `numgen random mod 1`: a number whatever the modulus.
pub(super) fn slot() -> Vec<u8> {
    expression(RANDOM, &[word(0, 1), word(1, 1), word(2, 0)].concat())
}

/// The expressions one after the other.
pub(super) fn concatenation(parts: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<_> = parts.iter().zip(0..).map(|(part, index)| value(index, part)).collect();
    expression(CONCATENATION, &parts.concat())
}

/// For a table with a comment.
pub(super) fn table(comment: &str) -> Vec<u8> {
    value(TABLE_COMMENT, &[comment.as_bytes(), &[0]].concat())
}

/// For a set whose key is a single address.
pub(super) fn set_of_addresses() -> Vec<u8> {
    word(SET_KEY_BYTE_ORDER, BYTE_ORDER_BIG)
}

/// For a set or (verdict) map with a concatenated key of ordinary types.
pub(super) fn plain(map: bool) -> Vec<u8> {
    let key = value(SET_KEY_TYPEOF, &concatenation(&[]));
    if map {
        [map_orders(BYTE_ORDER_NONE), key, word(SET_DATA_INTERVAL, 0)].concat()
    } else {
        [word(SET_KEY_BYTE_ORDER, BYTE_ORDER_NONE), key].concat()
    }
}

/// For a map declared with `typeof key : data`.
pub(super) fn typed(key: &[u8], data: &[u8]) -> Vec<u8> {
    typeof_map(BYTE_ORDER_NONE, key, data)
}

/// For the verdict map `typeof numgen random mod 1 : verdict`.
pub(super) fn verdict_by_slot() -> Vec<u8> {
    typeof_map(BYTE_ORDER_HOST, &slot(), &expression(VERDICT, &[]))
}

fn typeof_map(order: u32, key: &[u8], data: &[u8]) -> Vec<u8> {
    [map_orders(order), value(SET_KEY_TYPEOF, key), value(SET_DATA_TYPEOF, data), word(SET_DATA_INTERVAL, 0)]
        .concat()
}

fn map_orders(key: u32) -> Vec<u8> {
    [word(SET_KEY_BYTE_ORDER, key), word(SET_DATA_BYTE_ORDER, BYTE_ORDER_NONE)].concat()
}
