//! What the interface of a port can do, and so which way frames are delivered to it.

use crate::netlink::links::Link;
use vpc_bpf::XdpFeatures;
use vpc_common::port::flags;

/// Frames of one buffer on receipt: a page less the kernel's own room in it.
const ONE_BUFFER: u32 = 3_000;

/// How frames are delivered to a port's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// [`flags::XDP_DELIVERY`] and [`flags::PEER_DELIVERY`].
    pub flags: u32,
    /// How, and why so, for the operator.
    pub reason: String,
}

/// Decides the delivery. `features` is none where the kernel does not tell; `uplink_mtu` is the largest of all uplinks.
pub fn delivery(link: &Link, features: Option<XdpFeatures>, uplink_mtu: u32) -> Delivery {
    let (xdp, why) = match features {
        None => (false, "the kernel does not tell whether XDP may redirect to it (Linux 6.3 does)".to_owned()),
        Some(features) if !features.has(XdpFeatures::NDO_XMIT) => {
            let why = if link.kind == "veth" {
                "no NAPI on its peer: switch GRO on there for XDP delivery".to_owned()
            } else {
                "its driver takes no frames from XDP".to_owned()
            };
            (false, why)
        }
        Some(features) if uplink_mtu > ONE_BUFFER && !features.has(XdpFeatures::NDO_XMIT_SG) => {
            (false, format!("its driver takes no frames of several buffers, which an uplink MTU of {uplink_mtu} has"))
        }
        Some(_) => (true, "its driver takes frames from XDP".to_owned()),
    };
    // The kernel's redirect to a peer insists on another network namespace.
    let peer = link.peer.is_some_and(|peer| peer.namespace.is_some());
    let by_tc = if peer { "TC redirect to the peer" } else { "TC redirect" };
    let reason = if xdp { format!("XDP and {by_tc}: {why}") } else { format!("{by_tc} only: {why}") };
    let flag = |on, bit| if on { bit } else { 0 };
    Delivery { flags: flag(xdp, flags::XDP_DELIVERY) | flag(peer, flags::PEER_DELIVERY), reason }
}

#[cfg(test)]
mod tests {
    use super::delivery;
    use crate::netlink::links::{Link, Peer};
    use vpc_bpf::XdpFeatures;
    use vpc_common::port::flags::{PEER_DELIVERY, XDP_DELIVERY};

    fn link(kind: &str, namespace: Option<i32>) -> Link {
        Link {
            index: 3,
            name: "x".to_owned(),
            kind: kind.to_owned(),
            mtu: 1_500,
            max_mtu: 0,
            running: true,
            all_multicast: false,
            mac: None,
            peer: (kind == "veth").then_some(Peer { index: 4, namespace }),
            vxlan: Vec::new(),
        }
    }

    #[test]
    fn a_veth_without_napi_gets_nothing_by_xdp() {
        let delivery = delivery(&link("veth", Some(0)), Some(XdpFeatures::BASIC), 1_500);
        assert_eq!(delivery.flags, PEER_DELIVERY);
        assert!(delivery.reason.contains("GRO"), "{}", delivery.reason);
    }

    #[test]
    fn a_veth_with_napi_gets_both() {
        let both = XdpFeatures(XdpFeatures::NDO_XMIT.0 | XdpFeatures::NDO_XMIT_SG.0);
        assert_eq!(delivery(&link("veth", Some(0)), Some(both), 9_000).flags, PEER_DELIVERY | XDP_DELIVERY);
        assert_eq!(delivery(&link("veth", None), Some(both), 9_000).flags, XDP_DELIVERY);
    }

    #[test]
    fn a_tap_takes_no_jumbo_frames_by_xdp() {
        assert_eq!(delivery(&link("tun", None), Some(XdpFeatures::NDO_XMIT), 1_500).flags, XDP_DELIVERY);
        assert_eq!(delivery(&link("tun", None), Some(XdpFeatures::NDO_XMIT), 9_000).flags, 0);
    }

    #[test]
    fn an_old_kernel_delivers_by_tc() {
        assert_eq!(delivery(&link("tun", None), None, 1_500).flags, 0);
    }
}
