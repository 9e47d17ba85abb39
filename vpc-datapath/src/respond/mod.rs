//! Answers that the router gives itself, in the kernel: ARP, neighbour discovery, ICMP.

pub mod arp;
pub mod icmp;
pub mod nd;

/// What a sender is to be told by an ICMP error. Without payload: a register that is only set in some variants is one
/// that the verifier refuses to see passed on ("R5 !read_ok", Linux 6.18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// TTL or hop limit used up.
    TtlExceeded,
    /// No route.
    NetUnreachable,
    /// A route, but nobody at that address.
    HostUnreachable,
    /// The router serves no such port.
    PortUnreachable,
    /// Larger than `scratch.path_mtu`.
    TooBig,
    /// No port of the NAT gateway is left.
    NatExhausted,
}
