//! What a driver can do with XDP, from the kernel's `netdev` generic netlink family (Linux 6.3).

use crate::netlink::{Attributes, Request, Socket};
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

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// Bytes of the header of generic netlink.
const GENERIC_HEADER: usize = 4;

/// Asks for the XDP features of interfaces of the current network namespace.
#[derive(Debug)]
pub struct FeatureQuery {
    socket: Socket,
    family: u16,
    group: Option<u32>,
}

impl FeatureQuery {
    /// Opens the family.
    ///
    /// # Errors
    /// ENOENT where the kernel has no such family.
    pub fn new() -> io::Result<Self> {
        let socket = Socket::open(libc::NETLINK_GENERIC)?;
        let reply = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0")?;
        let family = Attributes(&reply)
            .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
            .and_then(|(_, value)| value.get(..2)?.try_into().ok())
            .map(u16::from_ne_bytes)
            .ok_or_else(|| invalid("no family id in the kernel's answer"))?;
        Ok(Self { socket, family, group: management_group(&reply) })
    }

    /// The features of an interface.
    ///
    /// # Errors
    /// ENODEV where it is gone.
    pub fn get(&self, ifindex: u32) -> io::Result<XdpFeatures> {
        let reply = ask(&self.socket, self.family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes())?;
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

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends a request with one attribute and returns the attributes of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let request = Request::new(family, 0, &[command, 1, 0, 0]).attribute(attribute, value);
    let message = socket.ask(request)?.into_iter().next().ok_or_else(|| invalid("no answer of the kernel"))?;
    message.body.get(GENERIC_HEADER..).map(<[u8]>::to_vec).ok_or_else(|| invalid("the kernel's answer is too short"))
}
