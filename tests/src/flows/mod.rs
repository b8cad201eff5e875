//! Packet-flow cases.
