//! What a driver can do with XDP, from the kernel's `netdev` generic netlink family (Linux 6.3).

use crate::{
    generic::{Family, invalid},
    netlink::Attributes,
};
use std::io;

/// Bits of `NETDEV_A_DEV_XDP_FEATURES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Native XDP with every plain verdict.
    pub const BASIC: Self = Self(1 << 0);
    /// `XDP_REDIRECT` from this interface.
    pub const REDIRECT: Self = Self(1 << 1);
    /// Redirection into this interface. On a veth: NAPI runs on its peer; without it frames vanish.
    pub const NDO_XMIT: Self = Self(1 << 2);
    /// Frames of several buffers on receipt.
    pub const RX_SG: Self = Self(1 << 5);
    /// Frames of several buffers in redirection into this interface.
    pub const NDO_XMIT_SG: Self = Self(1 << 6);

    /// Whether all of those bits are there.
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }
}

const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// Asks for the XDP features of interfaces of the current network namespace.
#[derive(Debug)]
pub struct FeatureQuery {
    family: Family,
    group: Option<u32>,
}

impl FeatureQuery {
    /// Opens the family.
    ///
    /// # Errors
    /// ENOENT where the kernel has no such family.
    pub fn new() -> io::Result<Self> {
        let (family, description) = Family::open(b"netdev\0")?;
        Ok(Self { family, group: management_group(&description) })
    }

    /// The features of an interface.
    ///
    /// # Errors
    /// ENODEV where it is gone.
    pub fn get(&self, ifindex: u32) -> io::Result<XdpFeatures> {
        let reply = self.family.ask(NETDEV_CMD_DEV_GET, &[(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes())])?;
        Attributes(&reply)
            .find(|(kind, _)| *kind == NETDEV_A_DEV_XDP_FEATURES)
            .and_then(|(_, value)| value.get(..8)?.try_into().ok())
            .map(|bytes| XdpFeatures(u64::from_ne_bytes(bytes)))
            .ok_or_else(|| invalid("no features in the kernel's answer"))
    }

    /// The multicast group of generic netlink that tells whenever the features of some interface change.
    pub fn change_group(&self) -> Option<u32> {
        self.group
    }
}

fn management_group(family: &[u8]) -> Option<u32> {
    let (_, groups) = Attributes(family).find(|(kind, _)| *kind == CTRL_ATTR_MCAST_GROUPS)?;
    Attributes(groups).find_map(|(_, group)| {
        Attributes(group).find(|(kind, name)| *kind == CTRL_ATTR_MCAST_GRP_NAME && name.starts_with(b"mgmt\0"))?;
        let (_, id) = Attributes(group).find(|(kind, _)| *kind == CTRL_ATTR_MCAST_GRP_ID)?;
        Some(u32::from_ne_bytes(id.get(..4)?.try_into().ok()?))
    })
}
