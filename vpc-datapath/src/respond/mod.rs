//! Answers that the router gives itself, in the kernel: ARP, neighbour discovery, ICMP.

pub mod arp;
pub mod icmp;
pub mod nd;

/// What a sender is to be told by an ICMP error. Without payload: a register that is only set in some variants is one
/// that the verifier refuses to see passed on ("R5 !read_ok", Linux 6.18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
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

impl Trouble {
    /// The inverse of `as u32`.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::TtlExceeded,
            1 => Self::NetUnreachable,
            2 => Self::HostUnreachable,
            3 => Self::PortUnreachable,
            4 => Self::TooBig,
            _ => Self::NatExhausted,
        }
    }
}
