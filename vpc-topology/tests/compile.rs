//! Compilation of small topologies, every table compared.
#![expect(clippy::unwrap_used, reason = "a test")]

use vpc_common::{
    Ip, Mac, Vni,
    endpoint::{EndpointKey, flags},
    port::FloodMember,
    route::kind,
};
use vpc_topology::{Limits, Slots, Topology, compile::Desired};

fn load(text: &str) -> Topology {
    vpc_topology::load(text, "test.yaml").unwrap()
}

fn compile(topology: &Topology, node: &str) -> Desired {
    vpc_topology::compile(topology, node, &Slots::new(), &Limits::default()).unwrap()
}

fn ip(text: &str) -> Ip {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

#[test]
fn two_nodes() {
    let topology = load(include_str!("../../examples/two-nodes.yaml"));
    let hv1 = compile(&topology, "hv1");
    assert_eq!(hv1.ports.len(), 1);
    let web = &hv1.ports[&1];
    assert_eq!((web.name.as_str(), web.device.as_deref()), ("web-1", Some("tap-web1")));
    assert_eq!(web.record.mac, Mac::new([2, 0, 0, 0, 1, 0x10]));
    assert_eq!((web.record.vpc, web.record.l2_vni), (Vni(5001), Vni(5001)));
    assert_eq!(Ip::v4(web.record.gateway_v4), ip("10.0.1.1"));
    assert_eq!(web.record.gateway_v6, ip("fd00:1:0:1::1"));

    let endpoint = |address| {
        let key = EndpointKey { vpc: Vni(5001), address: ip(address) };
        hv1.endpoints.iter().find(|(k, _)| *k == key).map(|(_, endpoint)| *endpoint)
    };
    assert_eq!(hv1.endpoints.len(), 4 + 1 + 3 + 4, "ports, link-local, gateways, broadcasts");
    assert_eq!(endpoint("10.0.2.5").map(|e| (e.node, e.flags)), Some((2, 0)));
    assert_eq!(endpoint("10.0.1.1").map(|e| (e.mac, e.flags)), Some((Mac::ROUTER, flags::GATEWAY)));
    assert_eq!(endpoint("10.0.2.255").map(|e| e.flags), Some(flags::BROADCAST));
    assert_eq!(endpoint("fe80::ff:fe00:110").map(|e| e.node), Some(1));

    assert_eq!(hv1.macs.len(), 3);
    assert_eq!(hv1.routes.len(), 2);
    assert!(hv1.routes.iter().all(|(key, route)| {
        route.kind == kind::LOCAL && route.vpc == Vni(5001) && key.table.get() == web.record.route_table
    }));
    let lengths: Vec<_> = hv1.sources.iter().map(|(key, _)| key.prefix_len).collect();
    assert_eq!(lengths, [160, 160, 160]);
    let members: Vec<_> = hv1.flood.iter().map(|(key, member)| (key.index, *member)).collect();
    let member = |target, local| FloodMember { target, local, l2_vni: Vni(5001) };
    assert_eq!(members, [(0, member(2, 0)), (1, member(1, 1))]);
    assert_eq!(hv1.vteps.iter().map(|vtep| vtep.id).collect::<Vec<_>>(), [2]);
}
