//! Programs that others continue in (tail calls), by their index in [`crate::name::TAILS`].
//!
//! The agent loads each and puts it into the array before it attaches a program. A program of which a continuation is
//! missing leaves the packet as it is.

/// Defines the continuations once: index and name, for IPv4 and IPv6.
macro_rules! tails {
    ($($(#[doc = $doc:literal])+ $name:ident = $four:literal, $six:literal;)+) => {
        /// A continuation.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Tail {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Tail {
            /// Names of the IPv4 and the IPv6 form of each, in the order of their indexes.
            pub const ALL: &'static [[&'static str; 2]] = &[$([$four, $six]),+];

            /// Index in the array of the form for IP `version`.
            pub const fn index(self, version: u8) -> u32 {
                self as u32 * 2 + if version == 4 { 0 } else { 1 }
            }
        }
    };
}

tails! {
    /// A packet to what may be a frontend, of a client's port that has no flow.
    Consider = "shunt_consider4", "shunt_consider6";
    /// A packet to what may be a frontend, of a client's port that may have flows, or to a Service that asks for more than
    /// a backend.
    Decide = "shunt_decide4", "shunt_decide6";
    /// A packet of which that was decided, and whose flow is to be stored.
    Store = "shunt_store4", "shunt_store6";
    /// A translated packet that needs more than that.
    Special = "shunt_special4", "shunt_special6";
    /// A packet from a backend to this host, or to the backend itself.
    Return = "shunt_return4", "shunt_return6";
    /// A packet to a port that no frontend has.
    Unknown = "shunt_unknown4", "shunt_unknown6";
    /// A packet that is to be rejected.
    Reject = "shunt_reject4", "shunt_reject6";
    /// A fragment or ICMP message that enters.
    UnusualIngress = "shunt_unusual_in4", "shunt_unusual_in6";
    /// A fragment or ICMP message that leaves.
    UnusualEgress = "shunt_unusual_out4", "shunt_unusual_out6";
    /// A packet that begins a connection to a backend itself.
    Direct = "shunt_direct4", "shunt_direct6";
    /// A fragment or ICMP message that enters from a backend; of accelerated flows only.
    UnusualReply = "shunt_unusual_reply4", "shunt_unusual_reply6";
}

/// Elements of the array.
#[expect(clippy::cast_possible_truncation, reason = "a dozen")]
pub const TAILS: u32 = Tail::ALL.len() as u32 * 2;
