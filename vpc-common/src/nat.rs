//! External addresses and who stands behind them. The same on every node, but for the node's own slice of ports.
//!
//! State is at the edge only: a mapping is made on the guest's node, from the slice of the gateway's ports that the
//! topology gives to that node, so that every gateway can compute who is to have a packet from outside.

use crate::{Be16, Vni, session::V4};
use bytemuck::{Pod, Zeroable};

/// Values of [`External::kind`].
pub mod kind {
    /// An elastic IP: it stands for one private address.
    pub const ELASTIC: u16 = 1;
    /// An address of a NAT gateway: its ports belong to nodes in slices.
    pub const NAT: u16 = 2;
}

/// Value of the `EXTERNALS` hash, whose key is the external address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct External {
    /// See [`kind`].
    pub kind: u16,
    /// The node of an elastic IP; the node that has the first slice of a NAT gateway's address.
    pub node: u16,
    /// L3 VNI of the VPC.
    pub vpc: Vni,
    /// The private address of an elastic IP.
    pub private: V4,
    /// Id of the NAT gateway.
    pub gateway: u32,
    /// First port of the first slice, host order.
    pub first_port: u16,
    /// Ports of each slice.
    pub slice_ports: u16,
    /// How many slices there are.
    pub slices: u32,
    /// Number of the VPC in the fabric: its fragments have room of their own, see [`crate::datagram::Share`].
    pub vpc_number: u32,
    /// How many ports of the address are forwarded; 0: `FORWARDS` has none of them.
    pub forwards: u32,
}

impl External {
    /// The node that has a port of the address (an identifier of ICMP queries likewise); 0: none has.
    #[inline(always)]
    pub const fn owner(&self, port: Be16) -> u16 {
        if self.kind == kind::ELASTIC {
            return self.node;
        }
        let port = port.get();
        if port < self.first_port || self.slice_ports == 0 {
            return 0;
        }
        let slice = ((port - self.first_port) / self.slice_ports) as u32;
        if slice < self.slices { self.node + slice as u16 } else { 0 }
    }
}

/// Key of the `ELASTIC_IPS` hash, whose value is the external address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct ElasticKey {
    /// L3 VNI of the VPC.
    pub vpc: Vni,
    /// The private address.
    pub private: V4,
}

/// This node's slice of a NAT gateway's ports: value of the `NAT_GATEWAYS` hash, whose key is the gateway's id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct NatSlice {
    /// The external address.
    pub external: V4,
    /// First port, host order.
    pub first_port: u16,
    /// How many there are.
    pub ports: u16,
    /// How many of them are forwarded, and so no ports for mappings.
    pub forwards: u32,
}

impl NatSlice {
    /// Whether another slice has the same external ports.
    pub fn same_ports(&self, other: &Self) -> bool {
        (self.external, self.first_port, self.ports) == (other.external, other.first_port, other.ports)
    }

    /// Whether an external port is one of these.
    pub fn contains(&self, external: &ExternalPort) -> bool {
        let port = external.port.get();
        external.address == self.external && port >= self.first_port && port - self.first_port < self.ports
    }
}

/// An external address with protocol and port, or identifier of an ICMP query: key of `FORWARDS` and `NAT_IN`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct ExternalPort {
    /// The address.
    pub address: V4,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The port.
    pub port: Be16,
}

/// Value of the `FORWARDS` hash: who is to have what comes from outside to that port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Forward {
    /// The private address.
    pub private: V4,
    /// Its node.
    pub node: u16,
    /// The private port.
    pub port: Be16,
}

/// Value of the `NAT_IN` hash: for whom an external port of this node's slice stands.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct NatIn {
    /// Id of the NAT gateway.
    pub gateway: u32,
    /// The guest's address.
    pub private: V4,
    /// The guest's slot.
    pub slot: u16,
    /// The guest's port.
    pub port: Be16,
    /// When a session was opened with it last, in ticks of [`crate::session::TICK_SHIFT`].
    pub last_used: u16,
    /// Nonzero: the guest's state was given away, and the guest is wherever the endpoint of its address is now. Without a
    /// packet the entry is kept for so many ticks when it is gone. Zero: the guest is in `slot`.
    pub kept: u16,
}

impl NatIn {
    /// Whether it is that of a guest's address and port.
    #[inline(always)]
    pub fn is_of(&self, guest: &NatOutKey) -> bool {
        let &Self { gateway, private, slot, port, .. } = self;
        (gateway, private, slot, port) == (guest.gateway, guest.private, guest.slot, guest.port)
    }

    /// The entry of `NAT_OUT` that leads the guest to this mapping of an external port.
    pub const fn way_out(&self, external: &ExternalPort) -> (NatOutKey, NatOut) {
        let &Self { gateway, private, slot, port, .. } = self;
        let key = NatOutKey { gateway, private, slot, port, protocol: external.protocol, reserved: [0; 3] };
        (key, NatOut { address: external.address, port: external.port, reserved: 0 })
    }
}

/// Key of the `NAT_OUT` hash: a guest's address and port. The mapping does not depend on the peer (RFC 4787 REQ-1). Most
/// mappings are found without: see `vpc_datapath::mapping`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct NatOutKey {
    /// Id of the NAT gateway.
    pub gateway: u32,
    /// The guest's address.
    pub private: V4,
    /// The guest's slot.
    pub slot: u16,
    /// The guest's port.
    pub port: Be16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

impl NatOutKey {
    /// The key of the mapping in `NAT_IN`, where it is that external address and port.
    #[inline(always)]
    pub const fn external(&self, address: V4, port: Be16) -> ExternalPort {
        ExternalPort { address, protocol: self.protocol, reserved: 0, port }
    }
}

/// Value of the `NAT_OUT` hash: where the mapping is, if it is not at its home.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct NatOut {
    /// The external address.
    pub address: V4,
    /// The external port.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
}

impl NatOut {
    /// The mapping at the guest's home is being removed: a packet takes another place instead.
    pub const LEAVING: Self = Self { address: [0], port: Be16::from_raw(0), reserved: 0 };
}

const _: () = {
    assert!(size_of::<External>() == 32 && size_of::<ElasticKey>() == 8 && size_of::<NatSlice>() == 12);
    assert!(size_of::<ExternalPort>() == 8 && size_of::<Forward>() == 8 && size_of::<NatIn>() == 16);
    assert!(size_of::<NatOutKey>() == 16 && size_of::<NatOut>() == 8);
};
