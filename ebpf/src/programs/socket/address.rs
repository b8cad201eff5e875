//! The address that a process named, and the one that it gets.

use core::{
    mem::offset_of,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_socket_cookie, programs::SockAddrContext,
};
use shunt_abi::{
    address::{TCP, UDP, Words, map_word},
    known::Role,
};

use crate::family::{V4, V6, known};

/// A pointer to the program's context; `IPV6` says how addresses are written there. (A type for each: of a choice at run
/// time the compiler makes one access at a computed offset, which verifiers refuse.)
#[derive(Clone, Copy)]
pub(crate) struct Call<const IPV6: bool>(*mut bpf_sock_addr);

/// A peer: IPv4 mapped (in either kind of socket), network order.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: Words,
    pub(super) port: u16,
}

impl Peer {
    /// Whether the bitmap has it in a role: without, there is nothing in a map about it.
    #[inline]
    pub(super) fn is_known_as<const IPV6: bool>(&self, role: Role, protocol: u8) -> bool {
        match self.mapped::<IPV6>() {
            Some(address) => known::<V4>(role, address, self.port, protocol),
            None => known::<V6>(role, self.address, self.port, protocol),
        }
    }

    /// Its IPv4 address: of an IPv4 socket's peer always, of an IPv6 socket's if it is mapped.
    #[inline]
    pub(super) fn mapped<const IPV6: bool>(&self) -> Option<u32> {
        let [a, b, c, d] = self.address;
        (!IPV6 || map_word(d) == [a, b, c, d]).then_some(d)
    }
}

impl<const IPV6: bool> Call<IPV6> {
    pub(crate) fn new(ctx: &SockAddrContext) -> Self {
        Self(ctx.sock_addr)
    }

    /// TCP or UDP; `None` for other protocols.
    #[inline]
    pub(super) fn protocol(self) -> Option<u8> {
        // SAFETY: the kernel hands the program a valid context, whose field it lets the program read.
        match unsafe { (*self.0).protocol } {
            6 => Some(TCP),
            17 => Some(UDP),
            _ => None,
        }
    }

    /// The peer as the context has it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "16 bits, widened")]
    pub(super) fn peer(self) -> Peer {
        // SAFETY: as above.
        let port = unsafe { (*self.0).user_port } as u16;
        Peer { address: self.address(), port }
    }

    #[inline]
    fn address(self) -> Words {
        if !IPV6 {
            // SAFETY: as above.
            return map_word(unsafe { (*self.0).user_ip4 });
        }
        [self.read_word(0), self.read_word(1), self.read_word(2), self.read_word(3)]
    }

    /// Where a word of the IPv6 address is.
    #[inline]
    fn word(self, index: usize) -> *mut u32 {
        self.0.cast::<u32>().wrapping_add(offset_of!(bpf_sock_addr, user_ip6) / size_of::<u32>() + index)
    }

    #[inline]
    fn read_word(self, index: usize) -> u32 {
        // SAFETY: within the context that the kernel hands the program, and readable there. Volatile: word by word,
        // which is how the kernel lets programs read it.
        unsafe { read_volatile(self.word(index)) }
    }

    #[inline]
    fn write_word(self, index: usize, word: u32) {
        // SAFETY: as above, and writable.
        unsafe { write_volatile(self.word(index), word) };
    }

    /// Puts another peer in its place.
    #[inline]
    pub(super) fn replace(self, peer: &Peer) {
        // SAFETY: the kernel hands the program a valid context, whose field it lets the program write.
        unsafe { (*self.0).user_port = u32::from(peer.port) };
        let [a, b, c, d] = peer.address;
        if !IPV6 {
            // SAFETY: as above.
            unsafe { (*self.0).user_ip4 = d };
            return;
        }
        self.write_word(0, a);
        self.write_word(1, b);
        self.write_word(2, c);
        self.write_word(3, d);
    }

    /// The socket's cookie.
    #[inline]
    pub(super) fn cookie(self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    /// For helpers that are used in one place.
    #[inline]
    pub(super) fn raw(self) -> *mut bpf_sock_addr {
        self.0
    }
}
