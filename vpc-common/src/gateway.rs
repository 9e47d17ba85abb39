//! Gateways: the nodes that send to the outside and receive from there. They hold no state of flows.

use crate::{Mac, limits::GATEWAYS, port::Port};
use bytemuck::{Pod, Zeroable};

/// The one element of the `GATEWAYS` array: the nodes that can be sent to now.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Gateways {
    /// How many of `nodes` are valid.
    pub count: u32,
    /// Their ids; a flow takes number (hash mod count).
    pub nodes: [u16; GATEWAYS],
}

impl Gateways {
    /// Whether a node is one of them.
    #[inline(always)]
    pub fn contains(&self, node: u16) -> bool {
        let mut i = 0;
        while i < GATEWAYS {
            if i < self.count as usize && self.nodes[i] == node {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// The one element of the `OUTLET` array: how a gateway reaches the outside. All zero on other nodes.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Outlet {
    /// In whose name the gateway answers: `gateway_v4` and `gateway_v6` are its external addresses. No port of a workload.
    pub router: Port,
    /// Index of the external interface; 0: there is none.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: u32,
    /// MAC of the next hop; all zero while it is not known.
    pub next_hop: Mac,
    /// MAC of the external interface.
    pub own: Mac,
    /// MAC of the next hop for IPv6; all zero while it is not known, or where there is none.
    pub next_hop_v6: Mac,
    /// Zero.
    pub reserved: [u16; 3],
}

impl Outlet {
    /// Whether something can be sent to the outside now.
    #[inline(always)]
    pub fn is_usable(&self) -> bool {
        self.ifindex != 0 && self.next_hop != Mac::default()
    }
}

const _: () = assert!(size_of::<Gateways>() == 68 && size_of::<Outlet>() == 160);
