//! Uplinks: XDP in the driver where that loses nothing and gains something, TC ingress otherwise.

use crate::{
    attach::{AttachError, LinkName, UplinkHook},
    control::report::Attachment,
    datapath::Datapath,
    machine::{Machine, Observer},
    netlink::links::Link,
    reconcile::{Outcome, chain},
};
use vpc_bpf::XdpFeatures;
use vpc_topology::compile::{Desired, DesiredPort, ReceiveMode};

/// Attaches the programs of all uplinks.
pub fn attach(
    desired: &Desired,
    machine: &Machine,
    datapath: &mut Datapath,
    observer: &Observer,
    outcome: &mut Outcome,
) {
    let node = &desired.node;
    for device in &node.uplinks {
        let mut row = Attachment {
            role: "uplink".to_owned(),
            name: device.clone(),
            device: device.clone(),
            mode: "absent".to_owned(),
            reason: format!("there is no interface {device}"),
            ..Attachment::default()
        };
        match machine.links.get(device) {
            Some(link) => {
                (row.ifindex, row.mtu) = (link.index, link.mtu);
                let lacks = lacks(link, observer.features(link.index), desired);
                match one(link, node.receive_mode, lacks, datapath) {
                    Ok(attached) => {
                        row.mode = attached.mode.to_owned();
                        row.reason = attached.reason;
                        outcome.problems.extend(attached.problem.map(|text| format!("uplink {device}: {text}")));
                    }
                    Err(error) => {
                        row.mode = "failed".to_owned();
                        row.reason = failure(&error);
                        outcome.problems.push(format!("uplink {device}: {}", row.reason));
                    }
                }
            }
            None => outcome.problems.push(format!("uplink {device}: {}", row.reason)),
        }
        outcome.attachments.push(row);
    }
}

struct Attached {
    mode: &'static str,
    reason: String,
    problem: Option<String>,
}

/// Why XDP would lose something.
fn lacks(link: &Link, features: Option<XdpFeatures>, desired: &Desired) -> Option<String> {
    let driver = driver(link);
    match features {
        Some(features) if !features.has(XdpFeatures::BASIC) => Some(format!("{driver} has no native XDP")),
        Some(features) if link.mtu > 3_000 && !features.has(XdpFeatures::RX_SG) => {
            Some(format!("{driver} has no XDP for frames of several buffers, which an MTU of {} has", link.mtu))
        }
        // Answers go back by redirection. Into a veth whose peer has no NAPI that succeeds, and nothing arrives.
        Some(features) if is_asked(desired) && !features.has(XdpFeatures::NDO_XMIT) => {
            let help = if link.kind == "veth" { " (switch GRO on at the veth's peer)" } else { "" };
            Some(format!("its answers to liveness probes get lost: {driver} takes no frames from XDP{help}"))
        }
        None if is_asked(desired) && link.kind == "veth" => {
            Some("the kernel does not tell whether its answers to liveness probes arrive".to_owned())
        }
        _ => None,
    }
}

/// Why XDP would lose nothing and yet be the slower way. A veth hands over what its peer's stack sent: XDP takes the peer's
/// segmentation away and copies what lies in several pieces.
fn gains_nothing(link: &Link) -> Option<String> {
    (link.kind == "veth").then(|| "XDP on a veth copies frames and leaves its peer without segmentation".to_owned())
}

/// Whether other nodes ask this one, for itself or for a port of it. What they ask only as a witness may get lost.
fn is_asked(desired: &Desired) -> bool {
    let is_next_hop = |port: &DesiredPort| desired.next_hops.contains_key(&port.record.uid);
    desired.outside.outlet.is_some() || desired.ports.values().any(is_next_hop)
}

fn driver(link: &Link) -> &str {
    if link.kind.is_empty() { "its driver" } else { &link.kind }
}

fn one(
    link: &Link,
    mode: ReceiveMode,
    lacks: Option<String>,
    datapath: &mut Datapath,
) -> Result<Attached, AttachError> {
    let driver = driver(link);
    let by_tc = |datapath: &mut Datapath, reason: String, problem| {
        switch(datapath, link, UplinkHook::Tc)?;
        let way = datapath.way();
        Ok(Attached { mode: way.mode(), reason: way.explain(&reason), problem })
    };
    if mode == ReceiveMode::Tc {
        return by_tc(datapath, "the topology says `receive_mode: tc`".to_owned(), None);
    }
    if let (Some(reason), ReceiveMode::Auto) = (lacks.clone().or_else(|| gains_nothing(link)), mode) {
        return by_tc(datapath, reason, None);
    }
    match switch(datapath, link, UplinkHook::Xdp) {
        Ok(()) => Ok(Attached { mode: "xdp", reason: format!("{driver} has native XDP"), problem: lacks }),
        Err(error) if mode == ReceiveMode::Xdp => Err(error),
        Err(error) if error.number() == Some(libc::EBUSY) => {
            let foreign = failure(&error);
            by_tc(datapath, foreign.clone(), Some(foreign))
        }
        Err(error) => by_tc(datapath, format!("native XDP was refused: {}", chain(&error)), None),
    }
}

/// Attaches by one hook and gives up the other one after that.
fn switch(datapath: &mut Datapath, link: &Link, hook: UplinkHook) -> Result<(), AttachError> {
    let other = match hook {
        UplinkHook::Xdp => UplinkHook::Tc,
        UplinkHook::Tc => UplinkHook::Xdp,
    };
    datapath.attach(&LinkName::Uplink(link.name.clone(), hook), link.index)?;
    datapath.attachments.remove(&LinkName::Uplink(link.name.clone(), other))
}

/// What an operator reads of it.
fn failure(error: &AttachError) -> String {
    match error.number() {
        Some(libc::EBUSY) => "another XDP program is attached there; it is left in place".to_owned(),
        _ => chain(error),
    }
}
