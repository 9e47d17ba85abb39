//! Route tables: one target each, of the table's own VPC, and no route that leads to itself.

use super::{
    Unique,
    links::{Resolved, ResolvedHop},
};
use crate::{
    diagnostics::{Problem, Spanned},
    document::{Record, article},
    model::{File, Route, RouteTable, Target},
    topology::At,
};

/// Instances that one route can lead to.
const INSTANCES: usize = 16;

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    for (subnet, links) in file.subnets.iter().zip(&resolved.subnets) {
        if let (Some(vpc), Some(Some(table))) = (links.vpc, links.table)
            && resolved.tables[table.index()].vpc.is_some_and(|of| of != vpc)
            && let Some(reference) = &subnet.route_table
        {
            let message = format!("subnet `{}` uses a route table of another VPC", subnet.name.value);
            let problem = Problem::new(reference.span(), message).label(format!("VPC `{}`", table.of(file).vpc.value));
            problems.push(problem.also(subnet.vpc.span(), "the subnet's VPC"));
        }
    }
    for (index, table) in file.route_tables.iter().enumerate() {
        let mut unique = Unique::with_capacity(table.routes.len());
        for (number, route) in table.routes.iter().enumerate() {
            unique.check(&route.destination, problems, |destination| {
                format!("two routes of table `{}` are for {destination}", table.name.value)
            });
            if check_targets(route, problems) {
                check_hop(file, resolved, At::new(index), number, problems);
            }
        }
    }
}

/// Whether there is exactly one target.
fn check_targets(route: &Route, problems: &mut Vec<Problem>) -> bool {
    let flags = [("local", route.local), ("blackhole", route.blackhole)];
    let off = flags.into_iter().find_map(|(name, flag)| flag.filter(|flag| !flag.value).map(|flag| (name, flag)));
    if let Some((name, flag)) = off {
        let problem = Problem::new(flag.span(), format!("`{name}: false` is no target of a route"));
        problems.push(problem.label("write `true`, or leave it out"));
        return false;
    }
    let count = route.targets().count();
    let unread = route.partial
        || ["local", "port", "ports", "blackhole", "peering", "internet_gateway", "nat_gateway"]
            .iter()
            .any(|target| route.lacks(target));
    if count == 1 || (count == 0 && unread) {
        return count == 1;
    }
    let of = route.destination.given().map_or_else(|| "a route".to_owned(), |to| format!("the route for {to}"));
    let message = match count {
        0 => format!("{of} has no target"),
        _ => format!("{of} has {count} targets"),
    };
    let help = "exactly one of `local: true`, `port`, `ports`, `blackhole: true`, `peering`, `internet_gateway`, `nat_gateway`";
    problems.push(Problem::new(route.destination.span(), message).label("one target is needed").help(help));
    false
}

fn check_hop(file: &File, resolved: &Resolved, at: At<RouteTable>, number: usize, problems: &mut Vec<Problem>) {
    let table = at.of(file);
    let route = &table.routes[number];
    let links = &resolved.tables[at.index()];
    let (Some(vpc), Some(hop)) = (links.vpc, &links.hops[number]) else { return };
    let vpc_name = &vpc.of(file).name.value;
    let destination = route.destination.given();
    let own_block = vpc.of(file).cidr_blocks.iter().find(|block| Some(&block.value) == destination);
    match (hop, own_block) {
        (ResolvedHop::Local, _) => {
            let unread = destination.is_none() || vpc.of(file).lacks("cidr_blocks");
            if !unread
                && !vpc.of(file).cidr_blocks.iter().any(|block| block.range().contains(route.destination.range()))
            {
                let message = format!("the local route for {} is outside VPC `{vpc_name}`", *route.destination);
                problems.push(Problem::new(route.destination.span(), message).label("in no block of the VPC"));
            }
            return;
        }
        (_, Some(block)) => {
            let message = format!("the route for {} replaces the local route of VPC `{vpc_name}`", *route.destination);
            let problem = Problem::new(route.destination.span(), message).label("always local");
            problems.push(problem.also(block.span(), "this block").help("routes for parts of the block are possible"));
            return;
        }
        _ => {}
    }
    match (hop, route.targets().next()) {
        (ResolvedHop::Peering(peering), Some(Target::Peering(name))) => {
            let peering = *peering;
            let ends = resolved.peerings[peering.index()];
            if ends.requester.is_some() && ends.accepter.is_some() && resolved.peer(peering, vpc).is_none() {
                let message = format!("peering `{}` does not join VPC `{vpc_name}`", name.value);
                problems.push(Problem::new(name.span(), message).label("a peering of other VPCs"));
            }
        }
        (ResolvedHop::Port(port), Some(Target::Port(name))) => {
            check_instance(file, resolved, (at, number), *port, name, problems);
        }
        (ResolvedHop::Ports(ports), Some(Target::Ports(names))) => {
            check_instances(file, resolved, (at, number), (ports, names), problems);
        }
        (ResolvedHop::Internet(gateway), Some(Target::InternetGateway(name))) => {
            let of = resolved.outside.internet_gateways[gateway.index()];
            check_gateway(file, table, name, (of, vpc), problems);
            let record = gateway.of(file);
            if record.is_egress_only() && destination.is_some_and(|destination| destination.is_v4()) {
                let message = format!("the internet gateway `{}` is egress-only, which is for IPv6", name.value);
                let problem = Problem::new(route.destination.span(), message).label("an IPv4 destination");
                problems.push(
                    problem
                        .also(record.name.span(), "this gateway")
                        .help("IPv4 that only opens flows takes a `nat_gateway`"),
                );
            }
        }
        (ResolvedHop::Nat(gateway), Some(Target::NatGateway(name))) => {
            check_gateway(file, table, name, (resolved.outside.vpc_of(*gateway), vpc), problems);
            if destination.is_some_and(|destination| !destination.is_v4()) {
                let message = format!("the NAT gateway `{}` takes IPv4 only", name.value);
                let problem = Problem::new(route.destination.span(), message).label("an IPv6 destination");
                problems
                    .push(problem.help("IPv6 leaves with the port's own address: route it to an `internet_gateway`"));
            }
        }
        _ => {}
    }
}

/// An instance that takes a route's packets is in the table's VPC. `place`: the table and the number of the route.
fn check_instance(
    file: &File,
    resolved: &Resolved,
    place: (At<RouteTable>, usize),
    port: At<crate::model::Port>,
    name: &Spanned<crate::model::Name>,
    problems: &mut Vec<Problem>,
) {
    let (at, number) = place;
    let links = &resolved.tables[at.index()];
    let of = resolved.vpc_of(&resolved.ports[port.index()]);
    if of.is_some_and(|of| links.vpc.is_some_and(|vpc| of != vpc)) {
        let noun = "port";
        let message = format!("the next hop `{}` is {} {noun} of another VPC", name.value, article(noun));
        let problem = Problem::new(name.span(), message).label("not in the table's VPC");
        problems.push(problem.also(at.of(file).vpc.span(), "the table's VPC"));
        return;
    }
    if at.of(file).routes[number].destination.given().is_some() {
        check_next_hop(file, links, at, number, port, problems);
    }
}

/// Several instances: each once, and each one that routes for others.
fn check_instances(
    file: &File,
    resolved: &Resolved,
    place: (At<RouteTable>, usize),
    (ports, names): (&[Option<At<crate::model::Port>>], &[Spanned<crate::model::Name>]),
    problems: &mut Vec<Problem>,
) {
    if let Some(over) = names.get(INSTANCES) {
        let problem = Problem::new(over.span(), format!("a route has {} next hops", names.len()));
        problems.push(problem.label("one too many").help(format!("{INSTANCES} are possible")));
    }
    let mut unique = Unique::with_capacity(names.len());
    for (port, name) in ports.iter().zip(names) {
        unique.check(name, problems, |name| format!("`{name}` is twice among the next hops"));
        let Some(port) = *port else { continue };
        check_instance(file, resolved, place, port, name, problems);
        let record = port.of(file);
        if !record.routes_for_others() && !record.lacks("source_dest_check") {
            let message = format!("the next hop `{}` does not route for others", name.value);
            let problem = Problem::new(name.span(), message).label("would drop what is not for itself");
            problems.push(problem.also(record.name.span(), "needs `source_dest_check: false`"));
        }
    }
}

/// A gateway is of the table's VPC.
fn check_gateway(
    file: &File,
    table: &RouteTable,
    name: &Spanned<crate::model::Name>,
    (of, own): (Option<At<crate::model::Vpc>>, At<crate::model::Vpc>),
    problems: &mut Vec<Problem>,
) {
    if let Some(of) = of.filter(|of| *of != own) {
        let message = format!("the gateway `{}` is of VPC `{}`", name.value, of.of(file).name.value);
        let problem = Problem::new(name.span(), message).label("not of the table's VPC");
        problems.push(problem.also(table.vpc.span(), "the table's VPC"));
    }
}

/// A next hop has an address of the destination's family, and is not reached by the very route that names it.
fn check_next_hop(
    file: &File,
    links: &super::links::ResolvedTable,
    at: At<RouteTable>,
    number: usize,
    port: At<crate::model::Port>,
    problems: &mut Vec<Problem>,
) {
    let table = at.of(file);
    let route = &table.routes[number];
    let v4 = route.destination.is_v4();
    let Some(next_hop) = port.of(file).private_ips.iter().find(|address| address.is_ipv4() == v4) else {
        if port.of(file).lacks("private_ips") {
            return;
        }
        let family = if v4 { "IPv4" } else { "IPv6" };
        let message = format!("the next hop `{}` has no {family} address", port.of(file).name.value);
        let problem = Problem::new(route.destination.span(), message).label(format!("an {family} destination"));
        problems.push(problem.also(port.of(file).name.span(), "this port"));
        return;
    };
    let prefix = |route: &Route| route.destination.net().prefix_len();
    let blocks = links.vpc.map(|vpc| &vpc.of(file).cidr_blocks).into_iter().flatten();
    let longest_local =
        blocks.filter(|block| block.contains(next_hop.value.0)).map(|block| block.net().prefix_len()).max();
    let longest_route = table
        .routes
        .iter()
        .filter(|other| other.destination.contains(next_hop.value.0))
        .map(prefix)
        .max()
        .filter(|longest| longest_local.is_none_or(|local| *longest >= local));
    let unread = table.routes.iter().any(|other| other.destination.given().is_none())
        || links.vpc.is_some_and(|vpc| vpc.of(file).lacks("cidr_blocks"));
    if !unread && route.destination.contains(next_hop.value.0) && longest_route == Some(prefix(route)) {
        let name = &port.of(file).name.value;
        let message = format!("the route for {} leads to its own next hop `{name}`", *route.destination);
        let problem = Problem::new(route.destination.span(), message).label(format!("contains {}", **next_hop));
        problems.push(problem.also(next_hop.span(), "the next hop's address").help(format!(
            "add a more specific route `{{destination: {}, local: true}}`",
            crate::model::Cidr::host(next_hop.value.0)
        )));
    }
}
