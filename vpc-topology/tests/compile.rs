//! Compilation of small topologies, every table compared.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use vpc_common::{
    Ip, Mac, Vni,
    endpoint::{EndpointKey, flags},
    port::{FloodMember, flags as port_flags},
    route::{BUCKETS, RouteKey, kind},
};
use vpc_topology::{
    CompileError, Limits, Slots, Topology,
    compile::{Desired, ProbeRole, ReceiveMode, compile_without, port_uid},
};

fn load(text: &str) -> Topology {
    vpc_topology::load(text, "test.yaml").unwrap()
}

fn compile(topology: &Topology, node: &str) -> Desired {
    vpc_topology::compile(topology, node, &Slots::new(), &Limits::default()).unwrap()
}

fn ip(text: &str) -> Ip {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// The next hop of each bucket of the route to 10.0.2.0/24.
fn buckets(ports: &str) -> Vec<Ip> {
    let text = include_str!("../../tests/packets/instances.yaml");
    let (_, topology) = text.split_once("topology: |\n").unwrap();
    let (topology, _) = topology.split_once("\ncases:").unwrap();
    let topology = topology.replace("10.0.2.0/24, ports: [fw-1, fw-2]", &format!("10.0.2.0/24, ports: [{ports}]"));
    let desired = compile(
        &load(
            &topology.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect::<String>(),
        ),
        "hv1",
    );
    let (_, several) =
        desired.routes.iter().find(|(key, r)| r.kind == kind::PORTS && key.destination == ip("10.0.2.0")).unwrap();
    let of = desired.routes.iter().filter(|(key, _)| key.table == several.next_hop.low());
    let mut buckets: Vec<_> = of.map(|(key, route)| (key.destination, route.next_hop)).collect();
    buckets.sort_unstable();
    assert_eq!(buckets.len(), BUCKETS as usize);
    buckets.into_iter().map(|(_, next_hop)| next_hop).collect()
}

#[test]
fn an_instance_that_goes_leaves_the_others_where_they_are() {
    let (all, fewer) = (buckets("fw-1, fw-2, fw-3"), buckets("fw-3, fw-1"));
    for (before, after) in all.iter().zip(&fewer) {
        assert!(before == after || *before == ip("10.0.9.12"), "{before} gave way to {after}");
    }
    for instance in ["10.0.9.11", "10.0.9.12", "10.0.9.13"] {
        let share = all.iter().filter(|next_hop| **next_hop == ip(instance)).count();
        assert!((30..=56).contains(&share), "{instance} has {share} of 128");
    }
    assert_eq!(buckets("fw-2, fw-1"), buckets("fw-1, fw-2"));
}

#[test]
fn a_gateway_knows_whose_global_addresses_are() {
    let topology = load(include_str!("../../examples/ipv6.yaml"));
    let (hv1, gw1) = (compile(&topology, "hv1"), compile(&topology, "gw1"));
    let outside = |desired: &Desired| -> Vec<_> {
        let of = desired.routes.iter().filter(|(key, _)| key.table == RouteKey::OUTSIDE);
        of.map(|(key, route)| (key.prefix_len - 32, key.destination, route.kind, route.vpc.0)).collect()
    };
    let expected = [(64, ip("2001:db8:1:1::"), kind::LOCAL, 5001), (64, ip("2001:db8:2:1::"), kind::REPLIES, 5002)];
    assert_eq!((outside(&hv1), outside(&gw1)), (expected.to_vec(), expected.to_vec()));
    // Without a port of either VPC, the gateway knows nothing else of them.
    let known: Vec<_> = gw1.endpoints.iter().map(|(key, owner)| (key.vpc.0, key.address, owner.node)).collect();
    let own = [(5001, ip("fd00:1:0:1::10"), 1), (5001, ip("2001:db8:1:1::10"), 1), (5002, ip("2001:db8:2:1::10"), 1)];
    assert_eq!(known, own);
    let outlet = gw1.outside.outlet.unwrap();
    assert_eq!((outlet.address_v6, outlet.next_hop_v6), (ip("2001:db8:f::2"), Some("fe80::1".parse().unwrap())));
}

#[test]
fn a_port_whose_routes_lead_elsewhere_inside_its_vpc_needs_them_for_endpoints_too() {
    let topology = |routes: &str| {
        format!(
            "version: 1\n\
             nodes: [{{name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1}}]\n\
             vpcs: [{{name: prod, vni: 5001, cidr_blocks: [10.0.0.0/16, \"fd00:1::/56\"]}}]\n\
             subnets: [{{name: web, vpc: prod, cidr_blocks: [10.0.1.0/24, \"fd00:1:0:1::/64\"], route_table: rt}}]\n\
             route_tables: [{{name: rt, vpc: prod, routes: [{routes}]}}]\n\
             ports:\n\
             \x20 - {{name: w, subnet: web, node: hv1, device: tap-w, mac: \"02:00:00:00:01:10\", private_ips: [10.0.1.10]}}\n"
        )
    };
    let first = |routes: &str| {
        let desired = compile(&load(&topology(routes)), "hv1");
        desired.ports[&1].record.flags & port_flags::ENDPOINTS_FIRST != 0
    };
    for elsewhere in ["0.0.0.0/0", "10.1.0.0/16", "10.0.0.0/8", "\"::/0\""] {
        assert!(first(&format!("{{destination: {elsewhere}, blackhole: true}}")), "{elsewhere}");
    }
    for inside in ["10.0.2.0/24", "10.0.9.9/32", "\"fd00:1:0:7::/64\""] {
        assert!(!first(&format!("{{destination: {inside}, blackhole: true}}")), "{inside}");
    }
    assert!(first("{destination: 10.0.0.0/16, local: true}"));
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
    assert_eq!(members, [(0, member(1, 1)), (1, member(2, 0))]);
    assert_eq!(hv1.vteps.iter().map(|vtep| vtep.id).collect::<Vec<_>>(), [2]);
}

/// Gateways hv2, hv3 on one segment and hv4 on another, plain nodes hv1, hv5 to hv9, of which hv1 has a port that leads
/// outside and hv9 is a plain VTEP.
fn several_gateways() -> Topology {
    let gateway = |id: u16, block: &str| {
        format!(
            "gateway: {{external: eth2, addresses: [{block}.{id}/24], next_hop: {block}.254, bfd: {{interval: {id}0ms}}}}"
        )
    };
    let node = |id: u16| {
        let more = match id {
            2 | 3 => gateway(id, "203.0.113"),
            4 => gateway(id, "192.0.0"),
            9 => "agent: false".to_owned(),
            _ => "zone: az".to_owned(),
        };
        format!("  - {{name: hv{id}, id: {id}, vtep: 192.0.2.{id}, uplink: eth1, {more}}}\n")
    };
    let nodes: String = (1..=9).map(node).collect();
    load(&format!(
        "version: 1\nnodes:\n{nodes}vpcs: [{{name: v, vni: 5001, cidr_blocks: [10.0.0.0/16]}}]\n\
         subnets: [{{name: s, vpc: v, cidr_blocks: [10.0.1.0/24], route_table: out}}]\n\
         route_tables: [{{name: out, vpc: v, routes: [{{destination: 0.0.0.0/0, internet_gateway: igw}}]}}]\n\
         internet_gateways: [{{name: igw, vpc: v}}]\n\
         ports: [{{name: p, subnet: s, node: hv1, device: tap, mac: '02:00:00:00:00:01', private_ips: [10.0.1.10]}}]\n"
    ))
}

#[test]
fn gateways_are_asked_by_who_needs_them_and_by_each_other() {
    let topology = several_gateways();
    let asked = |node: &str| {
        let outside = compile(&topology, node).outside;
        let probes = outside.probes.iter().map(|probe| (probe.node, probe.role == ProbeRole::Gateway));
        (outside.segment.clone(), probes.collect::<Vec<_>>())
    };
    assert_eq!(asked("hv1"), (vec![], vec![(2, true), (3, true), (4, true)]));
    assert_eq!(asked("hv5"), (vec![], vec![]), "nothing of it leads outside");
    assert_eq!(asked("hv4"), (vec![4], vec![(2, true), (3, true)]), "alone on its segment");
    for (own, other) in [(2, 3), (3, 2)] {
        let (segment, probes) = asked(&format!("hv{own}"));
        assert_eq!(segment, [2, 3]);
        let gateways: Vec<u16> = probes.iter().filter(|(_, gateway)| *gateway).map(|(node, _)| *node).collect();
        let witnesses: Vec<u16> = probes.iter().filter(|(_, gateway)| !gateway).map(|(node, _)| *node).collect();
        assert_eq!(gateways, [other, 4]);
        assert!(witnesses.len() == 3 && witnesses.iter().all(|node| [1, 5, 6, 7, 8].contains(node)), "{witnesses:?}");
    }
    let probes = compile(&topology, "hv1").outside.probes;
    let timers: Vec<_> = probes.iter().map(|probe| (probe.interval.as_millis(), probe.multiplier)).collect();
    assert_eq!(timers, [(20, 3), (30, 3), (40, 3)]);
}

#[test]
fn a_next_hop_that_is_gone_leaves_its_flows_to_those_beside_it_and_no_others() {
    let port = |number: u8| {
        format!(
            "  - {{name: fw-{number}, subnet: s, node: hv{number}, device: tap, mac: '02:00:00:00:00:0{number}', \
             private_ips: [10.0.1.1{number}], source_dest_check: false}}\n"
        )
    };
    let topology = load(&format!(
        "version: 1\nnodes: [{{name: hv1, id: 1, vtep: 192.0.2.1, uplink: e}}, {{name: hv2, id: 2, vtep: 192.0.2.2, uplink: e}}, \
         {{name: hv3, id: 3, vtep: 192.0.2.3, uplink: e}}]\nvpcs: [{{name: v, vni: 5001, cidr_blocks: [10.0.0.0/16]}}]\n\
         subnets: [{{name: s, vpc: v, cidr_blocks: [10.0.1.0/24], route_table: t}}]\n\
         route_tables: [{{name: t, vpc: v, routes: [{{destination: 10.9.0.0/16, ports: [fw-1, fw-2, fw-3]}}]}}]\nports:\n{}",
        [1, 2, 3].map(port).concat()
    ));
    let without = |gone: &[&str]| {
        let gone = gone.iter().map(|name| port_uid(name)).collect();
        let desired = compile_without(&topology, "hv1", &Slots::new(), &Limits::default(), gone).unwrap();
        let table = desired.instances().into_keys().next().unwrap();
        let hops = desired.routes.iter().filter(|(key, _)| key.table.get() == table);
        (table, hops.map(|(_, route)| route.next_hop).collect::<Vec<_>>())
    };
    let (all, second) = (without(&[]), ip("10.0.1.12"));
    let (table, left) = without(&["fw-2"]);
    assert_ne!(table, all.0, "a changed table is another one");
    assert!(all.1.contains(&second) && !left.contains(&second));
    let moved = all.1.iter().zip(&left).filter(|(before, after)| before != after);
    assert!(moved.clone().count() > 0 && moved.clone().all(|(before, _)| *before == second));
    assert_eq!(without(&["fw-1", "fw-2", "fw-3"]), all, "where none is left all stay");

    let desired = compile(&topology, "hv1");
    let asked: Vec<_> = desired.outside.probes.iter().map(|p| (p.node, p.name.as_str(), p.role)).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.contains(&(2, "fw-2", ProbeRole::Instance)) && asked.contains(&(3, "fw-3", ProbeRole::Instance)));
    assert_eq!(desired.next_hops.len(), 3);
}

#[test]
fn a_node_has_its_slice_of_a_nat_gateway() {
    let topology = load(include_str!("../../examples/gateway.yaml"));
    let address = |text: &str| Ip::v4(ip(text).low()).0[3];
    let outside = |node: &str| compile(&topology, node).outside;
    let (hv1, hv2, gw1) = (outside("hv1"), outside("hv2"), outside("gw1"));
    assert_eq!((hv1.externals.len(), &hv1.externals), (2, &hv2.externals), "the same on every node");
    assert_eq!(hv1.elastic_ips[0].1, [address("203.0.113.20")]);
    let slice = |of: &vpc_topology::compile::Outside| (of.slices[0].1.first_port, of.slices[0].1.ports);
    assert_eq!([slice(&hv1), slice(&hv2), slice(&gw1)], [(1024, 2048), (3072, 2048), (5120, 2048)]);
    assert_eq!(hv1.forwards[0].1.private, [address("10.0.2.5")]);
    assert_eq!(hv1.gateways, [3]);
    assert!(hv1.outlet.is_none() && gw1.outlet.is_some_and(|outlet| outlet.device == "eth2"));
}

#[test]
fn peers_are_known_as_far_as_routes_lead() {
    let topology = load(include_str!("../../examples/peering.yaml"));
    let (hv1, hv2) = (compile(&topology, "hv1"), compile(&topology, "hv2"));
    let vpcs = |state: &Desired| state.endpoints.iter().map(|(key, _)| key.vpc.0).collect::<BTreeSet<_>>();
    assert_eq!(vpcs(&hv1), BTreeSet::from([5001, 5002, 5003]));
    assert_eq!(vpcs(&hv2), BTreeSet::from([5001, 5002]), "nothing of the third VPC on a node without a port of it");
    let reach = |name: &str| hv1.ports.values().find(|port| port.name == name).unwrap().reach.clone();
    assert_eq!(reach("app-1"), BTreeSet::from([Vni(5001), Vni(5002)]));
    assert_eq!(reach("test-1"), BTreeSet::from([Vni(5003)]));

    let table = hv1.ports.values().find(|port| port.name == "app-1").unwrap().record.route_table;
    let routes: Vec<_> = hv1.routes.iter().filter(|(key, _)| key.table.get() == table).collect();
    let shown: Vec<_> = routes.iter().map(|(k, r)| (k.prefix_len, k.destination.to_string(), r.kind, r.vpc)).collect();
    assert_eq!(
        shown,
        [(144, "10.0.0.0".into(), kind::LOCAL, Vni(5001)), (144, "10.1.0.0".into(), kind::LOCAL, Vni(5002)),]
    );
    assert!(hv2.macs.iter().all(|(key, _)| key.l2_vni == Vni(5002)), "no frame stays inside a peer's subnet");
}

#[test]
fn appliances_are_next_hops() {
    let topology = load(include_str!("../../examples/appliance.yaml"));
    let hv1 = compile(&topology, "hv1");
    let web = &hv1.ports[&1].record;
    assert_eq!((Ip::v4(web.gateway_v4), web.gateway_v6), (ip("10.0.1.254"), ip("fd00:1:0:1::1")));
    let shown: Vec<_> = hv1
        .routes
        .iter()
        .map(|(key, route)| (key.prefix_len - 32, key.destination.to_string(), route.kind, route.next_hop.to_string()))
        .collect();
    assert_eq!(
        shown,
        [
            (0, "::".into(), kind::PORT, "fd00:1:0:9::4".into()),
            (56, "fd00:1::".into(), kind::LOCAL, "::".into()),
            // Without it the route above would carry IPv4, which lies in ::ffff:0:0/96.
            (96, "0.0.0.0".into(), kind::UNREACHABLE, "::".into()),
            (96 + 12, "172.16.0.0".into(), kind::PORT, "10.0.9.4".into()),
            (96 + 16, "10.0.0.0".into(), kind::LOCAL, "::".into()),
            (96 + 24, "172.16.66.0".into(), kind::BLACKHOLE, "::".into()),
        ]
    );
    assert_eq!((hv1.node.flags, hv1.node.uplinks.as_slice()), (1, ["eth1".to_owned(), "eth2".to_owned()].as_slice()));

    let hv2 = compile(&topology, "hv2");
    assert_eq!((hv2.node.flags, hv2.node.receive_mode), (0, ReceiveMode::Tc));
    let port = |name: &str| hv2.ports.iter().find(|(_, port)| port.name == name).unwrap();
    let firewall = port("firewall-1").1.record.flags;
    assert_eq!(firewall, port_flags::ROUTES_FOR_OTHERS | port_flags::ENDPOINTS_FIRST);
    let (slot, _) = port("db-1");
    let sources = hv2.sources.iter().filter(|(key, _)| key.slot.get() == u32::from(*slot));
    let sources: Vec<_> = sources.map(|(key, _)| key.address.to_string()).collect();
    assert_eq!(sources, ["10.0.1.20", "10.0.1.99"]);
}

#[test]
fn plain_vteps_reach_a_router() {
    let topology = load(include_str!("../../examples/plain-vtep.yaml"));
    let hv1 = compile(&topology, "hv1");
    let (slot, router) = hv1.ports.iter().find(|(_, port)| port.name == "router/metal").unwrap();
    assert_eq!(
        (router.device.as_ref(), router.record.flags, router.record.mac),
        (None, port_flags::ROUTER | port_flags::ENDPOINTS_FIRST, Mac::ROUTER)
    );
    assert_eq!((router.record.vpc, router.record.l2_vni), (Vni(5001), Vni(6002)));
    assert_eq!(Ip::v4(router.record.gateway_v4), ip("10.0.2.1"));
    let sources = hv1.sources.iter().filter(|(key, _)| key.slot.get() == u32::from(*slot));
    let sources: Vec<_> = sources.map(|(key, _)| (key.prefix_len - 32 - 96, key.address.to_string())).collect();
    assert_eq!(sources, [(24, "10.0.2.0".to_owned())]);
    let floods = hv1.flood.iter().filter(|(key, _)| key.subnet == router.record.subnet);
    assert_eq!(floods.count(), 0, "no port of that subnet is here");
    let error = vpc_topology::compile(&topology, "rack-switch", &Slots::new(), &Limits::default()).unwrap_err();
    assert_eq!(error, CompileError::PlainVtep { node: "rack-switch".into() });
}

#[test]
fn refusals() {
    let topology = load(include_str!("../../examples/two-nodes.yaml"));
    let refuse = |node, limits| vpc_topology::compile(&topology, node, &Slots::new(), &limits).unwrap_err().to_string();
    assert_eq!(
        refuse("hv3", Limits::default()),
        "compile for node `hv3`: the topology has no such node (did you mean `hv1`?)"
    );
    assert_eq!(
        refuse("hv2", Limits { local_ports: 1, endpoints: 8, ..Limits::default() }),
        "compile for node `hv2`: it needs 2 local ports, the map holds 1; 12 endpoints, the map holds 8"
    );
}

#[test]
fn a_node_without_ports_needs_nothing() {
    let text = "version: 1\nnodes: [{name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1}]\n";
    let state = compile(&load(text), "hv1");
    assert!(state.ports.is_empty() && state.endpoints.is_empty() && state.routes.is_empty() && state.vteps.is_empty());
}
