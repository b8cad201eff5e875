//! Rules as the kernel knows them: short programs over sixteen 4-byte registers.
//!
//! The shapes are those that `nft` generates for the same rule, so that it can list them and read its own listing back.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::domain::{IpFamily, Protocol};

/// `NFT_META_*` and friends, as far as they are used.
pub(super) mod number {
    pub(in super::super) const META_MARK: u32 = 3;
    pub(in super::super) const META_IIFNAME: u32 = 6;
    pub(in super::super) const META_L4PROTO: u32 = 16;
    pub(in super::super) const CT_STATE: u32 = 0;
    pub(in super::super) const CT_STATUS: u32 = 2;
    pub(in super::super) const CT_STATE_NEW: u32 = 8;
    pub(in super::super) const CT_STATUS_DNAT: u32 = 1 << 5;
    pub(in super::super) const PAYLOAD_NETWORK: u32 = 1;
    pub(in super::super) const PAYLOAD_TRANSPORT: u32 = 2;
    pub(in super::super) const REJECT_ICMP_UNREACHABLE: u32 = 0;
    pub(in super::super) const REJECT_TCP_RESET: u32 = 1;
    pub(in super::super) const RTN_LOCAL: u32 = 2;
}

/// A register: the index of its first 4-byte word, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(pub(super) u32);

impl Register {
    pub(super) const FIRST: Self = Self(0);

    /// The number the kernel uses in its dumps: registers on a 16-byte boundary keep their old names.
    pub(super) const fn number(self) -> u32 {
        if self.0.is_multiple_of(4) { 1 + self.0 / 4 } else { 8 + self.0 }
    }
}

/// Where a rule or a map element sends a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Verdict {
    Drop,
    Return,
    /// Continue in another chain, and come back to the base chain's end.
    Goto(Arc<str>),
    /// Continue in another chain, and come back here.
    Jump(Arc<str>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
}

/// One step of a rule. A step that does not hold ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        to: Register,
    },
    Meta {
        key: u32,
        to: Register,
    },
    SetMark {
        from: Register,
    },
    Ct {
        key: u32,
        to: Register,
    },
    /// The kind of route (`RTN_*`) to the source address.
    SourceRouteType {
        to: Register,
    },
    Bitwise {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        register: Register,
        how: Comparison,
        with: Vec<u8>,
    },
    /// Membership, or a map look-up into `to`.
    Lookup {
        set: Arc<str>,
        key: Register,
        to: LookupTarget,
    },
    Random {
        modulus: u32,
        to: Register,
    },
    Immediate {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// Destination NAT to address and port in two registers.
    Dnat {
        family: IpFamily,
        address: Register,
        port: Register,
    },
    /// With ports chosen at random.
    Masquerade,
    /// The same from the first to the last port, which are in two registers.
    MasqueradeWithin {
        first: Register,
        last: Register,
    },
    Reject {
        kind: u32,
        code: Option<u8>,
    },
    /// Record a key in a set with timeouts, or start its time anew.
    Record {
        set: Arc<str>,
        key: Register,
    },
}

/// What a look-up yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupTarget {
    /// Goes on if the key is there.
    Member,
    /// Goes on if it is not.
    NotMember,
    /// The verdict found for it.
    Verdict,
    /// The data found for it.
    Data(Register),
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) expressions: Vec<Expression>,
}

/// A part of a key, loaded from the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Source,
    Destination,
    Protocol,
    Port,
    /// A random number below this.
    Slot(u32),
}

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn equals(self, register: Register, with: impl Into<Vec<u8>>) -> Self {
        self.with(Expression::Compare { register, how: Comparison::Equal, with: with.into() })
    }

    pub(super) fn protocol_is(self, protocol: Protocol) -> Self {
        self.with(Expression::Meta { key: number::META_L4PROTO, to: Register::FIRST })
            .equals(Register::FIRST, [protocol.number()])
    }

    /// Holds if any of `bits` is set in a value that was just loaded.
    fn any_bit(self, bits: u32) -> Self {
        self.with(masked(bits, 0)).with(Expression::Compare {
            register: Register::FIRST,
            how: Comparison::NotEqual,
            with: vec![0; 4],
        })
    }

    pub(super) fn connection_is_new(self) -> Self {
        self.with(Expression::Ct { key: number::CT_STATE, to: Register::FIRST }).any_bit(number::CT_STATE_NEW)
    }

    pub(super) fn destination_was_translated(self) -> Self {
        self.with(Expression::Ct { key: number::CT_STATUS, to: Register::FIRST })
            .any_bit(number::CT_STATUS_DNAT)
    }

    pub(super) fn mark_has(self, bits: u32) -> Self {
        self.with(Expression::Meta { key: number::META_MARK, to: Register::FIRST }).any_bit(bits)
    }

    fn change_mark(self, mask: u32, xor: u32) -> Self {
        self.with(Expression::Meta { key: number::META_MARK, to: Register::FIRST })
            .with(masked(mask, xor))
            .with(Expression::SetMark { from: Register::FIRST })
    }

    pub(super) fn set_mark_bits(self, bits: u32) -> Self {
        self.change_mark(!bits, bits)
    }

    pub(super) fn clear_mark_bits(self, bits: u32) -> Self {
        self.change_mark(!bits, 0)
    }

    /// The source address belongs to this node.
    pub(super) fn source_is_this_node(self) -> Self {
        self.with(Expression::SourceRouteType { to: Register::FIRST })
            .equals(Register::FIRST, number::RTN_LOCAL.to_ne_bytes())
    }

    /// The source is inside (or outside) of a range: only the bytes that matter are loaded.
    pub(super) fn source_compared_to(self, how: Comparison, range: &IpNet) -> Self {
        let address = octets(range.network());
        let length = range.prefix_len();
        let whole = usize::from(length) / 8;
        if length == 0 {
            // Every address is inside: `source & 0 == 0`.
            let mask = Expression::Bitwise { register: Register::FIRST, mask: vec![0; 4], xor: vec![0; 4] };
            let load = payload_of_source(IpFamily::of(range.addr()), 4);
            let zero = Expression::Compare { register: Register::FIRST, how, with: vec![0; 4] };
            return self.with(load).with(mask).with(zero);
        }
        let rule = self.with(payload_of_source(
            IpFamily::of(range.addr()),
            if length.is_multiple_of(8) { whole } else { address.len() },
        ));
        if length.is_multiple_of(8) {
            let with = address.into_iter().take(whole).collect();
            return rule.with(Expression::Compare { register: Register::FIRST, how, with });
        }
        let mask = Expression::Bitwise {
            register: Register::FIRST,
            mask: octets(range.netmask()),
            xor: vec![0; address.len()],
        };
        rule.with(mask).with(Expression::Compare { register: Register::FIRST, how, with: address })
    }

    /// IPv4: the destination is in 127.0.0.0/8.
    pub(super) fn destination_is_loopback(self) -> Self {
        let offset = source_offset(IpFamily::V4) + 4;
        let load =
            Expression::Payload { base: number::PAYLOAD_NETWORK, offset, length: 1, to: Register::FIRST };
        self.with(load).equals(Register::FIRST, [127])
    }

    /// The interface the packet came in through has (or does not have) this name, or a name that starts so.
    pub(super) fn input_interface(self, how: Comparison, name: &str, prefix: bool) -> Self {
        let mut with: Vec<u8> = name.bytes().take(15).collect();
        if !prefix {
            with.resize(16, 0);
        }
        self.with(Expression::Meta { key: number::META_IIFNAME, to: Register::FIRST })
            .with(Expression::Compare { register: Register::FIRST, how, with })
    }

    /// Loads a key into consecutive registers and looks it up.
    pub(super) fn look_up(self, family: IpFamily, key: &[Load], set: &str, to: LookupTarget) -> Self {
        let lookup = Expression::Lookup { set: set.into(), key: Register::FIRST, to };
        self.load(family, key).with(lookup)
    }

    fn load(self, family: IpFamily, key: &[Load]) -> Self {
        let mut word = 0;
        key.iter().fold(self, |rule, part| {
            let to = Register(word);
            word += part.words(family);
            rule.with(part.expression(family, to))
        })
    }

    /// Translates to the address and port that a map has for the key.
    pub(super) fn dnat_to_map(self, family: IpFamily, key: &[Load], map: &str) -> Self {
        let port = Register(address_words(family));
        self.look_up(family, key, map, LookupTarget::Data(Register::FIRST)).with(Expression::Dnat {
            family,
            address: Register::FIRST,
            port,
        })
    }

    /// Translates to one address and port.
    pub(super) fn dnat_to(self, address: IpAddr, port: u16) -> Self {
        let second = Register(4);
        self.with(Expression::Immediate { to: Register::FIRST, value: octets(address) })
            .with(Expression::Immediate { to: second, value: port.to_be_bytes().into() })
            .with(Expression::Dnat { family: IpFamily::of(address), address: Register::FIRST, port: second })
    }

    pub(super) fn record_source(self, family: IpFamily, set: &str) -> Self {
        let record = Expression::Record { set: set.into(), key: Register::FIRST };
        self.load(family, &[Load::Source]).with(record)
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        self.with(Expression::Verdict(verdict))
    }

    pub(super) fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }
}

impl Load {
    const fn words(self, family: IpFamily) -> u32 {
        match self {
            Self::Source | Self::Destination => address_words(family),
            Self::Protocol | Self::Port | Self::Slot(_) => 1,
        }
    }

    fn expression(self, family: IpFamily, to: Register) -> Expression {
        match self {
            Self::Source => Expression::Payload {
                base: number::PAYLOAD_NETWORK,
                offset: source_offset(family),
                length: 4 * address_words(family),
                to,
            },
            Self::Destination => Expression::Payload {
                base: number::PAYLOAD_NETWORK,
                offset: source_offset(family) + 4 * address_words(family),
                length: 4 * address_words(family),
                to,
            },
            Self::Protocol => Expression::Meta { key: number::META_L4PROTO, to },
            Self::Port => Expression::Payload { base: number::PAYLOAD_TRANSPORT, offset: 2, length: 2, to },
            Self::Slot(modulus) => Expression::Random { modulus, to },
        }
    }
}

const fn address_words(family: IpFamily) -> u32 {
    match family {
        IpFamily::V4 => 1,
        IpFamily::V6 => 4,
    }
}

const fn source_offset(family: IpFamily) -> u32 {
    match family {
        IpFamily::V4 => 12,
        IpFamily::V6 => 8,
    }
}

fn payload_of_source(family: IpFamily, length: usize) -> Expression {
    Expression::Payload {
        base: number::PAYLOAD_NETWORK,
        offset: source_offset(family),
        length: u32::try_from(length).unwrap_or(16),
        to: Register::FIRST,
    }
}

/// Masks the number in the first register; host byte order, as marks and conntrack states are.
fn masked(mask: u32, xor: u32) -> Expression {
    Expression::Bitwise {
        register: Register::FIRST,
        mask: mask.to_ne_bytes().into(),
        xor: xor.to_ne_bytes().into(),
    }
}

/// The bytes of an address, in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
