//! Address blocks: disjoint inside a VPC and across a peering, subnets inside their VPC, routers inside their subnet.

use super::links::Resolved;
use crate::{
    diagnostics::{Problem, Span, Spanned},
    document::Record,
    model::{Cidr, File, Range, Subnet, Vpc},
    topology::At,
};
use std::net::IpAddr;

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let mut subnet_blocks: Vec<Vec<Placed<'_>>> = vec![Vec::new(); file.vpcs.len()];
    for (subnet, links) in file.subnets.iter().zip(&resolved.subnets) {
        check_gateways(subnet, problems);
        let mut blocks = placed(&subnet.name.value, &subnet.cidr_blocks);
        match links.vpc {
            Some(vpc) => {
                check_inside(subnet, vpc.of(file), problems);
                subnet_blocks[vpc.index()].extend(blocks);
            }
            None => overlaps(&mut blocks, problems, own_overlap),
        }
    }
    for (vpc, mut blocks) in file.vpcs.iter().zip(subnet_blocks) {
        for block in &vpc.cidr_blocks {
            check_unicast(vpc, *block, problems);
        }
        overlaps(&mut placed(&vpc.name.value, &vpc.cidr_blocks), problems, |a, b| {
            format!("the blocks {} and {} of VPC `{}` overlap", a.block, b.block, vpc.name.value)
        });
        overlaps(&mut blocks, problems, |a, b| match (a.owner, b.owner) {
            // Two subnets may go by one name, which is another problem.
            (a_owner, b_owner) if std::ptr::eq(a_owner, b_owner) => own_overlap(a, b),
            (a_owner, b_owner) => format!(
                "the blocks {} of subnet `{a_owner}` and {} of subnet `{b_owner}` overlap in VPC `{}`",
                a.block, b.block, vpc.name.value
            ),
        });
    }
    check_peerings(file, resolved, problems);
}

fn own_overlap(a: &Placed<'_>, b: &Placed<'_>) -> String {
    format!("the blocks {} and {} of subnet `{}` overlap", a.block, b.block, a.owner)
}

/// A block with whose it is.
#[derive(Clone, Copy)]
struct Placed<'f> {
    owner: &'f str,
    block: Cidr,
    range: Range,
    span: Span,
}

fn placed<'f>(owner: &'f str, blocks: &'f [Spanned<Cidr>]) -> Vec<Placed<'f>> {
    blocks.iter().map(|b| Placed { owner, block: b.value, range: b.value.range(), span: b.span() }).collect()
}

/// Reports each block that overlaps one before it in the order of addresses.
fn overlaps(
    blocks: &mut [Placed<'_>],
    problems: &mut Vec<Problem>,
    message: impl Fn(&Placed<'_>, &Placed<'_>) -> String,
) {
    blocks.sort_by_key(|block| (block.range, block.span));
    let mut widest: Option<Placed<'_>> = None;
    for block in blocks.iter() {
        match widest {
            Some(before) if before.range.overlaps(block.range) => {
                // The later one in the file is the one to be pointed at.
                let (first, second) = if before.span < block.span { (&before, block) } else { (block, &before) };
                let problem = Problem::new(second.span, message(first, second)).label("overlaps");
                problems.push(problem.also(first.span, "the other one"));
                if block.range.last > before.range.last {
                    widest = Some(*block);
                }
            }
            _ => widest = Some(*block),
        }
    }
}

fn check_unicast(vpc: &Vpc, block: Spanned<Cidr>, problems: &mut Vec<Problem>) {
    let range = block.range();
    let never = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/8", "fe80::/10", "ff00::/8"];
    let never = never.iter().filter_map(|never| Cidr::of(never.parse().ok()?)).find(|n| n.range().overlaps(range));
    if let Some(never) = never {
        let message = format!("the block {} of VPC `{}` has addresses that hosts cannot have", *block, vpc.name.value);
        problems.push(Problem::new(block.span(), message).label(format!("overlaps {never}")));
    }
}

fn check_inside(subnet: &Subnet, vpc: &Vpc, problems: &mut Vec<Problem>) {
    if vpc.lacks("cidr_blocks") {
        return;
    }
    for block in &subnet.cidr_blocks {
        if vpc.cidr_blocks.iter().any(|outer| outer.range().contains(block.range())) {
            continue;
        }
        let message =
            format!("the block {} of subnet `{}` is outside VPC `{}`", **block, subnet.name.value, vpc.name.value);
        let mut problem = Problem::new(block.span(), message).label("in no block of the VPC");
        for outer in &vpc.cidr_blocks {
            problem = problem.also(outer.span(), "a block of the VPC");
        }
        problems.push(problem);
    }
}

fn check_gateways(subnet: &Subnet, problems: &mut Vec<Problem>) {
    let name = &subnet.name.value;
    let mut taken: Vec<(Cidr, Span)> = Vec::new();
    for gateway in &subnet.gateway_ips {
        let Some(block) = subnet.cidr_blocks.iter().find(|block| block.contains(gateway.value.0)) else {
            if subnet.lacks("cidr_blocks") {
                continue;
            }
            let message = format!("the gateway {} is outside subnet `{name}`", **gateway);
            let problem = Problem::new(gateway.span(), message).label("in no block of the subnet");
            problems.push(
                subnet.cidr_blocks.iter().fold(problem, |problem, b| problem.also(b.span(), "a block of the subnet")),
            );
            continue;
        };
        if let Some(what) = reserved(block.value, gateway.value.0) {
            let message = format!("the gateway {} is the {what} of {}", **gateway, **block);
            problems.push(Problem::new(gateway.span(), message).label(what));
        }
        match taken.iter().find(|(other, _)| *other == block.value) {
            Some((_, first)) => problems.push(
                Problem::new(gateway.span(), format!("two gateways for the block {} of subnet `{name}`", **block))
                    .label("one too many")
                    .also(*first, "first here"),
            ),
            None => taken.push((block.value, gateway.span())),
        }
    }
}

/// What an address of a block is, if no host may have it.
pub(super) fn reserved(block: Cidr, address: IpAddr) -> Option<&'static str> {
    if block.is_point_to_point() {
        return None;
    }
    match address {
        _ if address == block.net().network() && address.is_ipv4() => Some("network address"),
        _ if address == block.net().network() => Some("subnet-router anycast address (RFC 4291)"),
        IpAddr::V4(_) if address == block.net().broadcast() => Some("broadcast address"),
        _ => None,
    }
}

fn check_peerings(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let mut pairs: Vec<(At<Vpc>, At<Vpc>, Span)> = Vec::new();
    for (peering, ends) in file.peerings.iter().zip(&resolved.peerings) {
        let (Some(requester), Some(accepter)) = (ends.requester, ends.accepter) else { continue };
        let name = &peering.name.value;
        if requester == accepter {
            let message = format!("peering `{name}` joins VPC `{}` to itself", peering.accepter.value);
            let problem = Problem::new(peering.accepter.span(), message).label("the same VPC");
            problems.push(problem.also(peering.requester.span(), "as here"));
            continue;
        }
        let pair = (requester.min(accepter), requester.max(accepter));
        match pairs.iter().find(|(a, b, _)| (*a, *b) == pair) {
            Some((.., first)) => {
                let message =
                    format!("VPC `{}` and VPC `{}` are peers already", peering.requester.value, peering.accepter.value);
                problems
                    .push(Problem::new(peering.name.span(), message).label("again here").also(*first, "first here"));
                continue;
            }
            None => pairs.push((pair.0, pair.1, peering.name.span())),
        }
        let (a, b) = (requester.of(file), accepter.of(file));
        for (x, y) in a.cidr_blocks.iter().flat_map(|x| b.cidr_blocks.iter().map(move |y| (x, y))) {
            if x.range().overlaps(y.range()) {
                let message = format!(
                    "the peers `{}` and `{}` have overlapping blocks {} and {}",
                    a.name.value, b.name.value, **x, **y
                );
                let problem = Problem::new(peering.name.span(), message).label("cannot be peers");
                problems.push(problem.also(x.span(), "one block").also(y.span(), "the other"));
            }
        }
    }
}
