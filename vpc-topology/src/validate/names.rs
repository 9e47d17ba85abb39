//! Names: unique within their kind, and found by those who refer to them.

use crate::{
    diagnostics::{Problem, Span, Spanned, nearest},
    document::{Broken, Record, article},
    model::{
        DEFAULT_GROUP, ElasticIp, File, InternetGateway, Name, NatGateway, NetworkAcl, Node, Peering, PolicyGroup,
        Port, RouteTable, SecurityGroup, Subnet, Vpc,
    },
    topology::At,
};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;

/// The names of a file, by kind.
pub(super) struct Names<'f> {
    pub(super) nodes: Kind<'f, Node>,
    pub(super) vpcs: Kind<'f, Vpc>,
    pub(super) subnets: Kind<'f, Subnet>,
    pub(super) route_tables: Kind<'f, RouteTable>,
    pub(super) peerings: Kind<'f, Peering>,
    pub(super) internet_gateways: Kind<'f, InternetGateway>,
    pub(super) nat_gateways: Kind<'f, NatGateway>,
    pub(super) elastic_ips: Kind<'f, ElasticIp>,
    pub(super) ports: Kind<'f, Port>,
    /// Without default groups, whose name is not theirs alone.
    pub(super) security_groups: Kind<'f, SecurityGroup>,
    pub(super) policy_groups: Kind<'f, PolicyGroup>,
    pub(super) network_acls: Kind<'f, NetworkAcl>,
}

impl<'f> Names<'f> {
    pub(super) fn new(file: &'f File, broken: &'f Broken, problems: &mut Vec<Problem>) -> Self {
        Self {
            nodes: Kind::new(file.nodes.iter().map(|node| &node.name), broken, problems),
            vpcs: Kind::new(file.vpcs.iter().map(|vpc| &vpc.name), broken, problems),
            subnets: Kind::new(file.subnets.iter().map(|subnet| &subnet.name), broken, problems),
            route_tables: Kind::new(file.route_tables.iter().map(|table| &table.name), broken, problems),
            internet_gateways: Kind::new(file.internet_gateways.iter().map(|gateway| &gateway.name), broken, problems),
            nat_gateways: Kind::new(file.nat_gateways.iter().map(|gateway| &gateway.name), broken, problems),
            elastic_ips: Kind::new(file.elastic_ips.iter().map(|elastic| &elastic.name), broken, problems),
            peerings: Kind::new(file.peerings.iter().map(|peering| &peering.name), broken, problems),
            ports: Kind::new(file.ports.iter().map(|port| &port.name), broken, problems),
            policy_groups: Kind::new(file.policy_groups.iter().map(|group| &group.name), broken, problems),
            network_acls: Kind::new(file.network_acls.iter().map(|acl| &acl.name), broken, problems),
            security_groups: Kind::numbered(
                file.security_groups.iter().map(|group| &group.name).enumerate().filter(|(_, name)| !is_default(name)),
                broken,
                problems,
            ),
        }
    }
}

/// The names of one kind.
pub(super) struct Kind<'f, T> {
    /// Where each is, in its list and in the file.
    by_name: FxHashMap<&'f str, (At<T>, Span)>,
    broken: &'f Broken,
    /// A name that is wrong in a thousand places is compared with all others once.
    hints: FxHashMap<&'f str, Option<&'f str>>,
}

impl<'f, T: Record> Kind<'f, T> {
    fn new(names: impl Iterator<Item = &'f Spanned<Name>>, broken: &'f Broken, problems: &mut Vec<Problem>) -> Self {
        Self::numbered(names.enumerate(), broken, problems)
    }

    /// Names with the positions of their records.
    fn numbered(
        names: impl Iterator<Item = (usize, &'f Spanned<Name>)>,
        broken: &'f Broken,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut by_name: FxHashMap<&str, (At<T>, Span)> =
            FxHashMap::with_capacity_and_hasher(names.size_hint().0, rustc_hash::FxBuildHasher);
        for (index, name) in names.filter(|(_, name)| name.given().is_some()) {
            match by_name.entry(&*name.value) {
                Entry::Vacant(vacant) => {
                    vacant.insert((At::new(index), name.span));
                }
                Entry::Occupied(first) => {
                    let problem = Problem::new(name.span, format!("two {}s are named `{}`", T::NOUN, name.value));
                    problems.push(problem.label("again here").also(first.get().1, "first here"));
                }
            }
        }
        Self { by_name, broken, hints: FxHashMap::default() }
    }

    /// The record of a name. A name that belongs to no record is reported.
    pub(super) fn resolve(&mut self, name: &'f Spanned<Name>, problems: &mut Vec<Problem>) -> Option<At<T>> {
        name.given()?;
        if let Some((at, _)) = self.by_name.get(&*name.value) {
            return Some(*at);
        }
        if !self.broken.contains(T::NOUN, &name.value) {
            let known = &self.by_name;
            let hint = self.hints.entry(&name.value).or_insert_with(|| nearest(&name.value, known.keys().copied()));
            let problem = Problem::new(name.span, format!("there is no {} `{}`", T::NOUN, name.value));
            let problem = problem.label(format!("not the name of {} {}", article(T::NOUN), T::NOUN));
            problems.push(match hint {
                Some(hint) => problem.help(format!("did you mean `{hint}`?")),
                None => problem,
            });
        }
        None
    }
}

/// Whether a name is that of a VPC's default group.
pub(super) fn is_default(name: &Spanned<Name>) -> bool {
    &*name.value == DEFAULT_GROUP
}
