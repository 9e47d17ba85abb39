//! Large topologies.

use std::fmt::Write as _;

/// How large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Ports.
    pub(super) ports: usize,
    /// Nodes.
    pub(super) nodes: usize,
    /// VPCs, of four subnets each.
    pub(super) vpcs: usize,
}

/// Whether a port has moved to the next node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    /// None has.
    Before,
    /// One has, in a subnet that [`NODE`] takes part in.
    After,
}

/// The node that is compiled for.
pub(super) const NODE: &str = "hv1";

/// The text of a topology. Ports are scattered over all nodes, so that a node takes part in many VPCs.
pub(super) fn text(size: Size, version: Version) -> String {
    let mut text = String::with_capacity(size.ports * 160);
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{arguments}");
    };
    line(format_args!("version: 1\nnodes:"));
    for node in 1..=size.nodes {
        line(format_args!(
            "  - {{name: hv{node}, id: {node}, vtep: 192.0.{}.{}, uplink: eth1}}",
            node >> 8,
            node & 255
        ));
    }
    line(format_args!("vpcs:"));
    for vpc in 0..size.vpcs {
        line(format_args!("  - {{name: vpc-{vpc}, vni: {}, cidr_blocks: [10.0.0.0/8]}}", 5_000 + vpc));
    }
    line(format_args!("subnets:"));
    let subnets = size.vpcs * 4;
    for subnet in 0..subnets {
        let (vpc, block) = (subnet / 4, subnet % 4 * 4);
        line(format_args!("  - {{name: subnet-{subnet}, vpc: vpc-{vpc}, cidr_blocks: [10.{block}.0.0/14]}}"));
    }
    line(format_args!("ports:"));
    for port in 0..size.ports {
        let (subnet, host, mac) = (port % subnets, port / subnets + 2, port + 1);
        // The first port is on the first node, so the next one of its subnet matters there.
        let moved = usize::from(version == Version::After && port == subnets);
        let node = ((port.wrapping_mul(2_654_435_761) >> 16) + moved) % size.nodes + 1;
        line(format_args!(
            "  - {{name: port-{port}, subnet: subnet-{subnet}, node: hv{node}, device: tap-{port}, \
             mac: \"02:01:{:02x}:{:02x}:{:02x}:{:02x}\", private_ips: [10.{}.{}.{}]}}",
            mac >> 24 & 255,
            mac >> 16 & 255,
            mac >> 8 & 255,
            mac & 255,
            subnet % 4 * 4 + (host >> 16),
            host >> 8 & 255,
            host & 255,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_changes() {
        let size = Size { ports: 40, nodes: 5, vpcs: 2 };
        let (before, after) = (text(size, Version::Before), text(size, Version::After));
        assert!(vpc_topology::load(&before, "before.yaml").is_ok() && vpc_topology::load(&after, "after.yaml").is_ok());
        assert_eq!(before.lines().zip(after.lines()).filter(|(old, new)| old != new).count(), 1);
    }
}
