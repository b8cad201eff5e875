//! The packet as the kernel hands it over.

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};

/// A pointer to the program's context: small enough to be passed by value into every function.
#[derive(Clone, Copy)]
pub(crate) struct Skb(*mut __sk_buff);

/// No byte that is read directly lies behind this one.
const FURTHEST: u32 = 1024;

/// Reads one field of the context.
macro_rules! field {
    ($($(#[doc = $doc:literal])+ $method:ident = $field:ident;)+) => {
        $($(#[doc = $doc])+
        #[inline]
        pub(crate) fn $method(self) -> u32 {
            // SAFETY: the kernel hands the program a valid context, whose field it lets classifiers read.
            unsafe { (*self.0).$field }
        })+
    };
}

impl EbpfContext for Skb {
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.0.cast()
    }
}

impl Skb {
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    field! {
        /// Bytes of the packet, link-layer header included.
        length = len;
        /// Packets that this one is to become (GSO); 0 for most.
        segments = gso_segs;
        /// `PACKET_*` of linux/if_packet.h.
        packet_type = pkt_type;
        /// EtherType as the kernel understood it: 16 bits in network order, widened.
        protocol = protocol;
        /// Interface whose hook runs.
        interface = ifindex;
        /// Interface by which the packet came to this host; 0 for one that was sent here.
        ingress_interface = ingress_ifindex;
        /// Payload bytes of each packet that this one is to become (GSO); 0 for most.
        segment_payload = gso_size;
        /// 16 bits of which the kernel makes no use.
        note = tc_index;
        /// First byte that direct access can reach.
        data = data;
        /// End of direct access.
        data_end = data_end;
    }

    /// A copy of the `T`, of two bytes at least, at `offset`, if it is within direct reach. (Verifiers do not follow the
    /// comparison that the compiler makes of a single byte's.)
    #[inline]
    pub(crate) fn header<T: Copy>(self, offset: u32) -> Option<T> {
        const { assert!(size_of::<T>() > 1) };
        // Bounds that the verifier has lost sight of: no header begins further in.
        if offset > FURTHEST {
            return None;
        }
        let start = self.data() as usize + offset as usize;
        if start + size_of::<T>() > self.data_end() as usize {
            return None;
        }
        // SAFETY: the bytes are within the packet, as just checked, and any bytes are a `T` (headers hold integers
        // only). BPF loads need no alignment on the architectures that tc programs meet packets on.
        Some(unsafe { *(start as *const T) })
    }

    /// A copy of the `T` at `offset`, wherever in the packet.
    #[inline]
    pub(crate) fn load<T: Copy>(self, offset: u32) -> Option<T> {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        let length = u32::try_from(size_of::<T>()).ok()?;
        // SAFETY: the helper writes all `length` bytes of `value`, or answers an error.
        let result = unsafe { bpf_skb_load_bytes(self.0.cast(), offset, value.as_mut_ptr().cast(), length) };
        // SAFETY: written by the helper; any bytes are a `T` (headers hold integers only).
        (result == 0).then(|| unsafe { value.assume_init() })
    }

    /// Writes `value` at `offset`. `recompute` keeps a checksum over the whole packet (`CHECKSUM_COMPLETE`) right:
    /// wanted where no checksum within the packet changes by the opposite.
    #[inline]
    pub(crate) fn store<T: Copy>(self, offset: u32, value: &T, recompute: bool) -> bool {
        let Ok(length) = u32::try_from(size_of::<T>()) else { return false };
        let value = core::ptr::from_ref(value);
        // SAFETY: the helper reads `length` bytes of `value`.
        unsafe { bpf_skb_store_bytes(self.0.cast(), offset, value.cast(), length, u64::from(recompute)) == 0 }
    }

    /// Adds `difference` to the transport checksum at `offset`; `flags` are the helper's.
    #[inline]
    pub(crate) fn add_to_checksum(self, offset: u32, difference: u32, flags: u64) -> bool {
        // SAFETY: the helper takes the program's own context and plain numbers.
        unsafe { bpf_l4_csum_replace(self.0, offset, 0, u64::from(difference), flags) == 0 }
    }

    /// Brings the first `length` bytes within direct reach, if the packet has them.
    #[inline]
    pub(crate) fn reach(self, length: u32) {
        let linear = self.data_end().wrapping_sub(self.data());
        if linear < length && linear < self.length() {
            // SAFETY: the helper takes the program's own context and a plain number. That it may fail shows in the
            // length of the linear part, which every access checks.
            unsafe { bpf_skb_pull_data(self.0, core::cmp::min(length, self.length())) };
        }
    }

    /// Cuts the packet off, or makes it longer.
    #[inline]
    pub(crate) fn resize(self, length: u32) -> bool {
        // SAFETY: the helper takes the program's own context and plain numbers.
        unsafe { bpf_skb_change_tail(self.0, length, 0) == 0 }
    }

    /// Inserts bytes in front of the IP header.
    #[inline]
    pub(crate) fn make_room(self, length: u32) -> bool {
        // SAFETY: the helper takes the program's own context and plain numbers.
        unsafe { bpf_skb_adjust_room(self.0, length.cast_signed(), BPF_ADJ_ROOM_MAC, 0) == 0 }
    }

    /// Notes that the node with this number translated the packet: in a field that the kernel keeps and does not use
    /// (`tc_index`), so that other interfaces of the node know it again.
    #[inline]
    pub(crate) fn note_translated(self, node: u16) {
        // SAFETY: the kernel hands the program a valid context, whose field it lets classifiers write.
        unsafe { (*self.0).tc_index = u32::from(node) };
    }

    /// Whether [`Self::note_translated`] was called with that number.
    #[inline]
    pub(crate) fn was_translated(self, node: u16) -> bool {
        self.note() == u32::from(node)
    }

    /// Whether nobody has marked the packet, and it came without a VLAN tag: routes may depend on either.
    #[inline]
    pub(crate) fn has_no_marks(self) -> bool {
        // SAFETY: the kernel hands the program a valid context, whose fields it lets classifiers read.
        unsafe { (*self.0).mark | (*self.0).vlan_present == 0 }
    }

    /// Sets bits of the packet's mark.
    #[inline]
    pub(crate) fn mark(self, bits: u32) {
        // SAFETY: the kernel hands the program a valid context, whose mark it lets classifiers write.
        unsafe { (*self.0).mark |= bits };
    }

    /// For helpers that are used in one place.
    #[inline]
    pub(crate) fn raw(self) -> *mut __sk_buff {
        self.0
    }
}
