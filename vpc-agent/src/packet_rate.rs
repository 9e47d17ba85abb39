//! Packet-rate mode of ports: an XDP program in front of the port's own, where no frame gets lost by it.

use crate::{
    attach::LinkName,
    datapath::Datapath,
    devices,
    machine::{Machine, Observer},
    netlink::links::Link,
    reconcile::chain,
};
use vpc_bpf::XdpFeatures;
use vpc_common::port::flags;
use vpc_topology::compile::{Desired, DesiredPort};

/// Attaches the program of a port that is in the mode, and removes it where it may not be.
///
/// # Errors
/// Why the port is not in the mode although it should be, for the operator. Its frames go by TC then.
pub fn settle(
    port: &DesiredPort,
    link: &Link,
    (desired, machine, observer): (&Desired, &Machine, &Observer),
    datapath: &mut Datapath,
) -> Result<(), String> {
    let name = LinkName::PortXdp(port.record.uid);
    let wanted = if port.packet_rate { lacks(link, desired, machine, observer).map_or(Ok(()), Err) } else { Ok(()) };
    if port.packet_rate && wanted.is_ok() {
        return datapath.attach(&name, link.index).map_err(|error| match error.number() {
            Some(libc::EBUSY) => "another XDP program is attached there; it is left in place".to_owned(),
            _ => chain(&error),
        });
    }
    datapath.attachments.remove(&name).map_err(|error| chain(&error))?;
    wanted
}

/// What stands against it: the port's interface must have XDP, and every uplink must take what XDP sends.
fn lacks(link: &Link, desired: &Desired, machine: &Machine, observer: &Observer) -> Option<String> {
    let needs = XdpFeatures(XdpFeatures::BASIC.0 | XdpFeatures::REDIRECT.0);
    if observer.features(link.index).is_some_and(|features| !features.has(needs)) {
        let driver = if link.kind.is_empty() { "its driver" } else { &link.kind };
        return Some(format!("{driver} has no native XDP"));
    }
    desired.node.uplinks.iter().filter_map(|name| machine.links.get(name)).find_map(|uplink| {
        let delivery = devices::delivery(uplink, observer.features(uplink.index), uplink.mtu.max(link.mtu));
        (delivery.flags & flags::XDP_DELIVERY == 0).then(|| format!("uplink {}: {}", uplink.name, delivery.reason))
    })
}
