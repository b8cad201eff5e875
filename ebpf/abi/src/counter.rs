//! What happened to packets and sockets: a per-CPU array of `u64`, indexed by [`Counter`].

/// Defines the counters once: index, name, and whether the packet ended there.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal, $drop:literal;)+) => {
        /// An index into the counters.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Counter {
            /// Every counter, in the order of their indexes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The names of all, likewise.
            pub(crate) const LABELS: &'static [&'static str] = &[$($label),+];

            /// Name in metrics and dumps.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),+ }
            }

            /// Whether the packet was dropped for this reason.
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$name => $drop),+ }
            }

            /// Index in the map.
            pub const fn index(self) -> u32 {
                self as u32
            }
        }
    };
}

counters! {
    /// A packet from a client was translated.
    Forward = "forward", false;
    /// A packet from a backend was translated.
    Reverse = "reverse", false;
    /// A backend was chosen for a new flow.
    FlowNew = "flow_new", false;
    /// A flow was taken over in its middle.
    FlowAdopted = "flow_adopted", false;
    /// A flow was established.
    FlowEstablished = "flow_established", false;
    /// There are as many established flows as there may be: the flow stays half-open.
    FlowsFull = "flows_full", false;
    /// A half-open flow gave way to one that began.
    FlowEvicted = "flow_evicted", false;
    /// A flow can be stored nowhere.
    DropFlowsFull = "drop_flows_full", true;
    /// A flow left a backend that is gone.
    FlowMoved = "flow_moved", false;
    /// A flow got another client port towards its backend: another flow has the client's own.
    FlowRemapped = "flow_remapped", false;
    /// A packet in the middle of a connection that no entry knows was left alone.
    MidstreamLeft = "midstream_left", false;
    /// A frame for another host was left alone.
    OtherHost = "other_host", false;
    /// A packet was marked for masquerading.
    Masqueraded = "masqueraded", false;
    /// A backend talks to itself.
    Hairpin = "hairpin", false;
    /// A packet of a client on this node was sent on to its backend.
    HostRedirect = "host_redirect", false;
    /// A packet was sent on to its receiver past the host's stack.
    Accelerated = "accelerated", false;
    /// The backend of a client was chosen by affinity.
    AffinityHit = "affinity_hit", false;
    /// An ICMP error was translated.
    IcmpError = "icmp_error", false;
    /// A fragment was translated by what is known of the first.
    Fragment = "fragment", false;
    /// A fragment that came before its first was translated like the last packet between the same hosts.
    FragmentEarly = "fragment_early", false;
    /// A socket was connected to a backend.
    SocketConnect = "socket_connect", false;
    /// A datagram of an unconnected socket was sent to a backend.
    SocketSend = "socket_send", false;
    /// A datagram was received, and the frontend shown as its source.
    SocketReceive = "socket_receive", false;
    /// A socket was refused: nobody serves the frontend.
    SocketRefused = "socket_refused", false;
    /// The client was told that nobody serves the frontend.
    Rejected = "rejected", true;
    /// The client was told that the cluster IP has no such port.
    RejectedPort = "rejected_port", true;
    /// Endpoints exist, but the policy leaves none here.
    DropNoLocal = "drop_no_local", true;
    /// The source is in none of the source ranges.
    DropSourceRange = "drop_source_range", true;
    /// The address belongs to no Service.
    DropUnallocated = "drop_unallocated", true;
    /// A fragment whose first one was not seen, or was dropped.
    DropFragment = "drop_fragment", true;
    /// Other flows have the same client and backend with every client port that was tried.
    DropConflict = "drop_conflict", true;
    /// The pool names a backend that is not there.
    DropNoBackend = "drop_no_backend", true;
    /// There is no way to the backend from here.
    DropNoRoute = "drop_no_route", true;
    /// The kernel refused to change the packet.
    DropRewrite = "drop_rewrite", true;
    /// A new flow has to be masqueraded, and the rule is not there yet.
    DropUnmasqueraded4 = "drop_unmasqueraded4", true;
    /// The same, IPv6.
    DropUnmasqueraded6 = "drop_unmasqueraded6", true;
}

/// Elements of the map.
#[expect(clippy::cast_possible_truncation, reason = "a few dozen")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;
