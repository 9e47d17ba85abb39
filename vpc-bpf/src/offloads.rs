//! What an interface does for its senders, by ethtool's generic netlink family (Linux 5.6).

use crate::{generic::Family, netlink::put_attribute};
use std::io;

const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
/// `NLA_F_NESTED`, without which the family takes no nested attribute.
const NESTED: u16 = 1 << 15;

/// What a sender may leave to an interface and the kernel does instead where it is off, of IP, TCP, UDP and SCTP. The names
/// are `ethtool`'s.
pub const TRANSMIT_OFFLOADS: &[&str] = &[
    "tx-checksum-ip-generic",
    "tx-checksum-sctp",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-sctp-segmentation",
];

/// What puts segments together again on receipt.
pub const RECEIVE_OFFLOADS: &[&str] = &["rx-gro"];

/// Switches features of an interface off, by the names that `ethtool -k` shows. Nothing happens to those that are off.
///
/// # Errors
/// The interface is gone, or has no feature of such a name.
pub fn switch_off(ifindex: u32, names: &[&str]) -> io::Result<()> {
    let mut bits = Vec::new();
    for name in names {
        let mut bit = Vec::new();
        // A bit without a value is one to be cleared.
        put_attribute(&mut bit, ETHTOOL_A_BITSET_BIT_NAME, &[name.as_bytes(), b"\0"].concat());
        put_attribute(&mut bits, NESTED | ETHTOOL_A_BITSET_BITS_BIT, &bit);
    }
    let (mut header, mut wanted) = (Vec::new(), Vec::new());
    put_attribute(&mut header, ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
    put_attribute(&mut wanted, NESTED | ETHTOOL_A_BITSET_BITS, &bits);
    let (family, _) = Family::open(b"ethtool\0")?;
    let attributes = [(NESTED | ETHTOOL_A_FEATURES_HEADER, &*header), (NESTED | ETHTOOL_A_FEATURES_WANTED, &*wanted)];
    family.ask(ETHTOOL_MSG_FEATURES_SET, &attributes).map(drop)
}
