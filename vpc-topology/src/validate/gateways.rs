//! The way to the outside: gateway nodes, internet gateways, elastic IPs, NAT gateways, port forwards.

use super::{Unique, links::Resolved, names::Names, rules};
use crate::{
    compile::nat_gateway_ids,
    diagnostics::{Problem, Span, Spanned},
    document::Record,
    model::{
        Address, EgressRule, ElasticIp, File, InternetGateway, NatGateway, Node, NodeGateway, Port, Protocol, Range,
        Vpc,
    },
    topology::{At, ElasticLinks, Links, NatLinks},
};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use vpc_common::limits::{GATEWAYS, NAT_GATEWAYS};

/// What could be resolved.
pub(super) struct Outside {
    pub(super) internet_gateways: Vec<Option<At<Vpc>>>,
    elastic_ips: Vec<Option<Option<At<Port>>>>,
    nat_gateways: Vec<ResolvedNat>,
}

struct ResolvedNat {
    vpc: Option<At<Vpc>>,
    elastic_ips: Vec<Option<At<ElasticIp>>>,
    forwards: Vec<Option<At<Port>>>,
}

pub(super) fn resolve<'f>(file: &'f File, names: &mut Names<'f>, problems: &mut Vec<Problem>) -> Outside {
    let internet_gateways = file.internet_gateways.iter();
    let elastic_ips = file.elastic_ips.iter();
    Outside {
        internet_gateways: internet_gateways.map(|gateway| names.vpcs.resolve(&gateway.vpc, problems)).collect(),
        elastic_ips: elastic_ips
            .map(|elastic| match &elastic.port {
                Some(port) => names.ports.resolve(port, problems).map(Some),
                None => Some(None),
            })
            .collect(),
        nat_gateways: file
            .nat_gateways
            .iter()
            .map(|gateway| ResolvedNat {
                vpc: names.vpcs.resolve(&gateway.vpc, problems),
                elastic_ips: (gateway.elastic_ips.iter())
                    .map(|name| names.elastic_ips.resolve(name, problems))
                    .collect(),
                forwards: (gateway.port_forwards.iter())
                    .map(|forward| names.ports.resolve(&forward.port, problems))
                    .collect(),
            })
            .collect(),
    }
}

impl Outside {
    /// The VPC of a NAT gateway.
    pub(super) fn vpc_of(&self, gateway: At<NatGateway>) -> Option<At<Vpc>> {
        self.nat_gateways[gateway.index()].vpc
    }

    /// All links, if every one of them was resolved.
    pub(super) fn link(&self, file: &File, links: &mut Links) -> Option<()> {
        self.internet_gateways.iter().copied().collect::<Option<Vec<_>>>()?;
        let elastic_ips = self.elastic_ips.iter().map(|port| Some(ElasticLinks { port: (*port)? }));
        links.elastic_ips = elastic_ips.collect::<Option<_>>()?;
        let ids = nat_gateway_ids(file);
        let gateways = self.nat_gateways.iter().zip(ids).map(|(gateway, id)| {
            Some(NatLinks {
                vpc: gateway.vpc?,
                id,
                elastic_ips: gateway.elastic_ips.iter().copied().collect::<Option<_>>()?,
                forwards: gateway.forwards.iter().copied().collect::<Option<_>>()?,
            })
        });
        links.nat_gateways = gateways.collect::<Option<_>>()?;
        Some(())
    }
}

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    check_nodes(file, problems);
    check_internet_gateways(file, resolved, problems);
    check_elastic_ips(file, resolved, problems);
    check_nat_gateways(file, resolved, problems);
    check_global(file, resolved, problems);
    let first = (file.internet_gateways.iter().map(|gateway| (&gateway.name, InternetGateway::NOUN)))
        .chain(file.nat_gateways.iter().map(|gateway| (&gateway.name, NatGateway::NOUN)))
        .next();
    let unread = file.lacks("nodes") || file.nodes.iter().any(|node| node.lacks("gateway"));
    if let Some((name, noun)) = first
        && !unread
        && file.nodes.iter().all(|node| node.gateway.is_none())
    {
        let problem =
            Problem::new(name.span(), format!("there is the {noun} `{}` but no node is a gateway", name.value));
        problems.push(problem.label("leads nowhere").help("give a node a `gateway`"));
    }
}

fn check_nodes(file: &File, problems: &mut Vec<Problem>) {
    let gateways: Vec<(&Node, &NodeGateway)> =
        file.nodes.iter().filter_map(|node| Some((node, node.gateway.as_ref()?))).collect();
    for (node, gateway) in &gateways {
        if let Some(uplink) = node.uplink.iter().find(|uplink| uplink.value == gateway.external.value) {
            let message = format!("the external interface `{}` of `{}` is its uplink", uplink.value, node.name.value);
            let problem = Problem::new(gateway.external.span(), message).label("must be another interface");
            problems.push(problem.also(uplink.span(), "the uplink"));
        }
        if !node.runs_agent() {
            let message = format!("`{}` is a plain VTEP, which cannot be a gateway", node.name.value);
            problems.push(Problem::new(gateway.span, message).label("needs an agent"));
        }
        check_next_hops(gateway, problems);
    }
    if let Some((node, gateway)) = gateways.get(GATEWAYS) {
        let message = format!("node `{}` is one gateway too many: {GATEWAYS} are possible", node.name.value);
        problems.push(Problem::new(gateway.span, message).label("one too many"));
    }
}

/// One next hop for each family that the gateway has addresses of, and IPv4 is one of these.
fn check_next_hops(gateway: &NodeGateway, problems: &mut Vec<Problem>) {
    if gateway.lacks("addresses") || gateway.lacks("next_hop") {
        return;
    }
    let unread = gateway.addresses.iter().any(|own| own.given().is_none());
    for (place, hop) in gateway.next_hop.iter().enumerate() {
        let Some(Address(address)) = hop.given() else { return };
        // A router's link-local address is on every link (RFC 4861 §6.3.4).
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !unread && !link_local && !gateway.addresses.iter().any(|own| own.value.0.contains(address)) {
            let message = format!("the next hop {} is in no network of the gateway's addresses", **hop);
            problems.push(Problem::new(hop.span(), message).label("not on the external link"));
        }
        if let Some(first) = gateway.next_hop.iter().take(place).find(|other| other.is_ipv4() == address.is_ipv4()) {
            let problem = Problem::new(hop.span(), "a gateway has one next hop of each family").label("one too many");
            problems.push(problem.also(first.span(), "the first one"));
        }
    }
    for (v4, family) in [(true, "IPv4"), (false, "IPv6")] {
        let own = gateway.addresses.iter().find(|own| own.value.0.addr().is_ipv4() == v4);
        match (own, gateway.next_hop(v4)) {
            (None, None) if v4 && !unread => {
                let message = format!("the gateway has no {family} address");
                problems.push(Problem::new(gateway.span, message).label("one is needed, and a next hop"));
            }
            (Some(own), None) => {
                let message = format!("the gateway has an {family} address but no next hop of {family}");
                problems.push(Problem::new(own.span(), message).label("leads nowhere"));
            }
            (None, Some(hop)) if !unread => {
                let message = format!("the gateway has no {family} address");
                problems.push(Problem::new(hop.span(), message).label(format!("a next hop of {family}")));
            }
            _ => {}
        }
    }
}

/// What leaves with its own address needs gateways that have IPv6, and an address that nobody else has.
fn check_global(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let routes = file.route_tables.iter().flat_map(|table| &table.routes);
    let mut global = routes.filter(|route| {
        route.internet_gateway.is_some() && route.destination.given().is_some_and(|destination| !destination.is_v4())
    });
    if let Some(route) = global.next() {
        let without = |node: &&Node| {
            let complete = |gateway: &&NodeGateway| !gateway.lacks("addresses") && !gateway.lacks("next_hop");
            node.gateway.as_ref().filter(complete).is_some_and(|gateway| {
                gateway.addresses.iter().all(|own| own.given().is_some_and(|own| own.0.addr().is_ipv4()))
            })
        };
        for node in file.nodes.iter().filter(without) {
            let message = format!("the gateway of node `{}` has no IPv6 address", node.name.value);
            let problem = Problem::new(node.name.span(), message).label("every flow may take any gateway");
            problems.push(problem.also(route.destination.span(), "an IPv6 route to the outside"));
        }
    }
    let mut blocks = Vec::new();
    let mut seen = Vec::new();
    for (gateway, vpc) in file.internet_gateways.iter().zip(&resolved.outside.internet_gateways) {
        let Some(vpc) = vpc.filter(|vpc| !seen.contains(vpc)) else { continue };
        seen.push(vpc);
        let global = vpc.of(file).cidr_blocks.iter().filter(|block| block.is_global());
        blocks.extend(global.map(|block| (vpc, block.value.range(), block.span(), gateway)));
    }
    blocks.sort_by_key(|(_, range, span, _)| (*range, *span));
    let mut widest: Option<&(At<Vpc>, Range, Span, &InternetGateway)> = None;
    for block in &blocks {
        let Some(before) = widest.replace(block) else { continue };
        if before.1.last > block.1.last {
            widest = Some(before);
        }
        let ((a, first, first_span, _), (b, second, second_span, gateway)) = (before, block);
        if a != b && first.overlaps(*second) {
            let (a, b) = (&a.of(file).name.value, &b.of(file).name.value);
            let message = format!("VPC `{b}` has global addresses of VPC `{a}`, and both have an internet gateway");
            let problem = Problem::new(*second_span, message).label("whose they are could not be told outside");
            problems.push(problem.also(*first_span, "the other VPC").also(gateway.name.span(), "the gateway"));
        }
    }
}

fn check_internet_gateways(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let mut of_vpc: FxHashMap<At<Vpc>, Span> = FxHashMap::default();
    for (gateway, vpc) in file.internet_gateways.iter().zip(&resolved.outside.internet_gateways) {
        let Some(vpc) = vpc else { continue };
        if let Some(first) = of_vpc.insert(*vpc, gateway.vpc.span()) {
            let message = format!("VPC `{}` has two internet gateways", vpc.of(file).name.value);
            problems.push(Problem::new(gateway.vpc.span(), message).label("again here").also(first, "first here"));
        }
    }
}

fn check_elastic_ips(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let mut addresses = Unique::with_capacity(file.elastic_ips.len());
    let mut ports: FxHashMap<At<Port>, Span> = FxHashMap::default();
    let own = file.nodes.iter().filter_map(|node| node.gateway.as_ref()).flat_map(|gateway| &gateway.addresses);
    let own: FxHashMap<IpAddr, Span> = own.map(|address| (address.value.0.addr(), address.span())).collect();
    for (elastic, port) in file.elastic_ips.iter().zip(&resolved.outside.elastic_ips) {
        addresses.check(&elastic.address, problems, |address| format!("two elastic IPs are {address}"));
        match elastic.address.value.0 {
            IpAddr::V6(v6) if elastic.address.given().is_some() => {
                let message = format!("the elastic IP `{}` is the IPv6 address {v6}", elastic.name.value);
                let problem = Problem::new(elastic.address.span(), message).label("IPv4 is needed");
                problems.push(problem.help("IPv6 leaves with the port's own address"));
            }
            IpAddr::V4(v4) => {
                if let Some(first) = own.get(&IpAddr::V4(v4)) {
                    let message = format!("the elastic IP {v4} is a gateway node's own address");
                    problems
                        .push(Problem::new(elastic.address.span(), message).label("again here").also(*first, "here"));
                }
            }
            IpAddr::V6(_) => {}
        }
        let (Some(Some(port)), Some(name)) = (*port, &elastic.port) else { continue };
        if let Some(first) = ports.insert(port, name.span()) {
            let message = format!("port `{}` has two elastic IPs", name.value);
            problems.push(Problem::new(name.span(), message).label("again here").also(first, "first here"));
        }
        check_target(file, resolved, port, name, problems);
        let vpc = resolved.vpc_of(&resolved.ports[port.index()]);
        let of_vpc = file.internet_gateways.iter().zip(&resolved.outside.internet_gateways);
        if let Some((gateway, _)) = of_vpc.clone().find(|(_, of)| of.is_some() && **of == vpc)
            && gateway.is_egress_only()
        {
            let message =
                format!("the internet gateway `{}` of port `{}` is egress-only", gateway.name.value, name.value);
            let problem = Problem::new(name.span(), message).label("cannot have an elastic IP");
            problems.push(problem.also(gateway.name.span(), "this gateway").help("egress-only gateways are for IPv6"));
        }
        if let Some(vpc) = vpc
            && !resolved.outside.internet_gateways.contains(&Some(vpc))
            && !file.lacks("internet_gateways")
        {
            let vpc = &vpc.of(file).name.value;
            let message = format!("VPC `{vpc}` of port `{}` has no internet gateway", name.value);
            problems.push(Problem::new(name.span(), message).label("cannot be reached from outside"));
        }
    }
}

/// A port that is reached from outside has an IPv4 address, and an agent that translates.
fn check_target(
    file: &File,
    resolved: &Resolved,
    port: At<Port>,
    name: &Spanned<crate::model::Name>,
    problems: &mut Vec<Problem>,
) {
    if !port.of(file).private_ips.iter().any(|address| address.is_ipv4()) && !port.of(file).lacks("private_ips") {
        let message = format!("port `{}` has no IPv4 address", name.value);
        problems.push(Problem::new(name.span(), message).label("there is nothing to stand for"));
    }
    if let Some(node) = resolved.ports[port.index()].node
        && !node.of(file).runs_agent()
    {
        let message = format!("port `{}` is on a plain VTEP, which does not translate", name.value);
        problems.push(Problem::new(name.span(), message).label("its node needs an agent"));
    }
}

fn check_nat_gateways(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    if let Some(over) = file.nat_gateways.get(NAT_GATEWAYS as usize) {
        let message =
            format!("the topology has {} NAT gateways, the map holds {NAT_GATEWAYS}", file.nat_gateways.len());
        problems.push(Problem::new(over.name.span(), message).label("one too many"));
    }
    let mut users: FxHashMap<At<ElasticIp>, Span> = FxHashMap::default();
    let mut sockets = FxHashMap::default();
    for (gateway, links) in file.nat_gateways.iter().zip(&resolved.outside.nat_gateways) {
        for (name, elastic) in gateway.elastic_ips.iter().zip(&links.elastic_ips) {
            let Some(elastic) = elastic else { continue };
            if let Some(port) = &elastic.of(file).port {
                let message = format!("the elastic IP `{}` of a NAT gateway is that of a port", name.value);
                problems
                    .push(Problem::new(name.span(), message).label("cannot be shared").also(port.span(), "this port"));
            }
            if let Some(first) = users.insert(*elastic, name.span()) {
                let message = format!("the elastic IP `{}` is used twice", name.value);
                problems.push(Problem::new(name.span(), message).label("again here").also(first, "first here"));
            }
        }
        check_slices(file, resolved, gateway, links, problems);
        for rule in gateway.egress_allow.get().into_iter().flatten() {
            check_egress(gateway, rule, problems);
        }
        for (forward, port) in gateway.port_forwards.iter().zip(&links.forwards) {
            if ![Protocol::TCP, Protocol::UDP].contains(&forward.protocol.value) && forward.protocol.given().is_some() {
                let problem = Problem::new(forward.protocol.span(), "only TCP and UDP have ports to forward");
                problems.push(problem.label("write `tcp` or `udp`"));
            }
            let socket = forward.external.value.0;
            let key = (forward.protocol.value, socket);
            if let Some(first) = sockets.insert(key, forward.external.span()) {
                let message = format!("{socket} is forwarded twice");
                let problem = Problem::new(forward.external.span(), message).label("again here");
                problems.push(problem.also(first, "first here"));
            }
            let own = |elastic: &Option<At<ElasticIp>>| {
                elastic.is_none_or(|elastic| elastic.of(file).address.value.0 == IpAddr::V4(*socket.ip()))
            };
            if !links.elastic_ips.iter().any(own) && !gateway.lacks("elastic_ips") {
                let message = format!("{} is no address of NAT gateway `{}`", socket.ip(), gateway.name.value);
                let problem = Problem::new(forward.external.span(), message).label("not one of its elastic IPs");
                problems.push(problem.also(gateway.name.span(), "this gateway"));
            }
            let Some(port) = *port else { continue };
            check_target(file, resolved, port, &forward.port, problems);
            let vpc = resolved.vpc_of(&resolved.ports[port.index()]);
            if let (Some(vpc), Some(own)) = (vpc, links.vpc)
                && vpc != own
            {
                let message = format!(
                    "port `{}` is in another VPC than NAT gateway `{}`",
                    forward.port.value, gateway.name.value
                );
                let problem =
                    Problem::new(forward.port.span(), message).label(format!("VPC `{}`", vpc.of(file).name.value));
                problems.push(problem.also(gateway.vpc.span(), "the gateway's VPC"));
            }
        }
    }
}

fn check_egress(gateway: &NatGateway, rule: &EgressRule, problems: &mut Vec<Problem>) {
    for block in rule.cidr_blocks.iter().filter(|block| block.given().is_some_and(|block| !block.is_v4())) {
        let message = format!("the NAT gateway `{}` takes IPv4 only", gateway.name.value);
        problems.push(Problem::new(block.span(), message).label("an IPv6 block"));
    }
    // Of a protocol that is of IPv6 only its name is to be complained of.
    if rule.protocol.value == Protocol::ICMPV6 {
        let message = format!("the NAT gateway `{}` takes IPv4 only", gateway.name.value);
        problems.push(Problem::new(rule.protocol.span(), message).label("write `icmp`"));
        return;
    }
    rules::check_service(rule, &rule.service(), &[], problems);
}

/// Every node with ports of the VPC has a slice of the gateway's ports.
fn check_slices(
    file: &File,
    resolved: &Resolved,
    gateway: &NatGateway,
    links: &ResolvedNat,
    problems: &mut Vec<Problem>,
) {
    if gateway.lacks("elastic_ips") || gateway.lacks("ports_per_node") {
        return;
    }
    let most = gateway.slices() * gateway.elastic_ips.len() as u32;
    let Some(vpc) = links.vpc else { return };
    let nodes = resolved.ports.iter().filter(|port| resolved.vpc_of(port) == Some(vpc)).filter_map(|port| port.node);
    let highest = nodes.map(|node| node.of(file)).filter(|node| node.runs_agent()).max_by_key(|node| node.id.value);
    if let Some(node) = highest
        && u32::from(node.id.value.0) > most
    {
        let message = format!(
            "NAT gateway `{}` has ports for nodes up to id {most}, node `{}` has id {}",
            gateway.name.value, node.name.value, node.id.value.0
        );
        let help = format!(
            "each address serves {} nodes of {} ports: add an elastic IP, or lower `ports_per_node`",
            gateway.slices(),
            gateway.ports_per_node()
        );
        let problem = Problem::new(gateway.name.span(), message).label("too few ports");
        problems.push(problem.also(node.id.span(), "this node").help(help));
    }
}
