//! Nodes: ids, VTEP addresses, uplinks.

use super::Unique;
use crate::{
    diagnostics::Problem,
    document::Record,
    model::{File, Node},
};
use std::net::IpAddr;
use vpc_common::limits::UNDERLAY_NEXT_HOPS;

pub(super) fn check(file: &File, problems: &mut Vec<Problem>) {
    let mut ids = Unique::with_capacity(file.nodes.len());
    let mut vteps = Unique::with_capacity(file.nodes.len());
    for node in &file.nodes {
        ids.check(&node.id, problems, |id| format!("two nodes have the id {}", id.0));
        vteps.check(&node.vtep, problems, |vtep| format!("two nodes have the VTEP {vtep}"));
        if let IpAddr::V6(v6) = node.vtep.value.0
            && v6.is_unicast_link_local()
        {
            let problem = Problem::new(node.vtep.span(), format!("the VTEP {v6} is a link-local address"));
            problems.push(problem.label("it must be reachable from other links"));
        }
        check_uplinks(node, problems);
    }
    check_families(file, problems);
}

/// All VTEPs have the family of the first one: a node has one address, and sends to all others from it.
fn check_families(file: &File, problems: &mut Vec<Problem>) {
    let mut nodes = file.nodes.iter().filter(|node| node.vtep.given().is_some());
    let Some(first) = nodes.next() else { return };
    let family = |node: &Node| if node.vtep.is_ipv4() { "IPv4" } else { "IPv6" };
    for node in nodes {
        if node.vtep.is_ipv4() != first.vtep.is_ipv4() {
            let message =
                format!("the VTEPs of `{}` and `{}` have different families", first.name.value, node.name.value);
            problems.push(
                Problem::new(node.vtep.span(), message)
                    .label(family(node))
                    .also(first.vtep.span(), family(first))
                    .help("the underlay is IPv4 or IPv6 for all nodes"),
            );
        }
    }
}

fn check_uplinks(node: &Node, problems: &mut Vec<Problem>) {
    let mut unique = Unique::with_capacity(node.uplink.len());
    for uplink in &node.uplink {
        unique.check(uplink, problems, |uplink| {
            format!("the uplink `{uplink}` of node `{}` is there twice", node.name.value)
        });
    }
    if node.uplink.is_empty() && node.runs_agent() && !node.lacks("uplink") && !node.lacks("agent") {
        let message = format!("node `{}` has no uplink", node.name.value);
        let help = "name its uplink, or write `agent: false` if it is a plain VTEP";
        problems.push(Problem::new(node.name.span(), message).label("runs an agent").help(help));
    }
    if let Some(over) = node.uplink.get(UNDERLAY_NEXT_HOPS) {
        let (count, most) = (node.uplink.len(), UNDERLAY_NEXT_HOPS);
        let message = format!("node `{}` has {count} uplinks, {most} are possible", node.name.value);
        problems.push(Problem::new(over.span(), message).label("one too many"));
    }
}
