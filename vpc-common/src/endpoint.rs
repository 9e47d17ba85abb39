//! Endpoints: every address of the VPCs that this node takes part in, local and remote. The same on every node.

use crate::{Ip, Mac, Vni};
use bytemuck::{Pod, Zeroable};

/// Key of the `ENDPOINTS` hash.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// L3 VNI of the VPC.
    pub vpc: Vni,
    /// The address.
    pub address: Ip,
}

/// Bits of [`Endpoint::flags`].
pub mod flags {
    /// The gateway address of a subnet: answered by the router itself on every node.
    pub const GATEWAY: u32 = 1 << 0;
    /// The network or broadcast address of a subnet's IPv4 block: nothing is ever there.
    pub const BROADCAST: u32 = 1 << 1;
    /// Its node is a plain VTEP: nobody asks its groups there, so it is reached inside its VPC and not from outside.
    pub const PLAIN: u32 = 1 << 2;
}

/// Who has an address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Endpoint {
    /// Its MAC.
    pub mac: Mac,
    /// Id of its node, which is also its VTEP's index.
    pub node: u16,
    /// Effective VNI of its subnet.
    pub l2_vni: Vni,
    /// Id of its subnet.
    pub subnet: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Id of the set of groups that its port is in; [`crate::policy::NOBODY`] where no port has the address.
    pub identity: u32,
}

/// Key of the `MACS` hash: endpoints by MAC, for frames that stay inside a subnet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct MacKey {
    /// Effective VNI of the subnet.
    pub l2_vni: Vni,
    /// Its MAC.
    pub mac: Mac,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Where a MAC is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct MacEntry {
    /// Id of its node.
    pub node: u16,
    /// Zero.
    pub reserved: u16,
    /// Id of its subnet.
    pub subnet: u32,
}

const _: () = {
    assert!(size_of::<EndpointKey>() == 20 && size_of::<Endpoint>() == 24);
    assert!(size_of::<MacKey>() == 12 && size_of::<MacEntry>() == 8);
};
