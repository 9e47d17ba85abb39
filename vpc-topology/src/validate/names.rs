//! Names: unique within their kind, and found by those who refer to them.

use crate::{
    diagnostics::{Problem, Spanned, nearest},
    document::{Broken, Record, article},
    model::{
        DEFAULT_GROUP, ElasticIp, File, InternetGateway, Name, NatGateway, NetworkAcl, Node, Peering, PolicyGroup,
        Port, RouteTable, SecurityGroup, Subnet, Vpc,
    },
    topology::At,
};
use hashbrown::hash_table::{Entry, HashTable};
use rustc_hash::FxHashMap;
use std::{hash::BuildHasher, ops::Deref};

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
    /// Every name, with the position of its record.
    all: Vec<(&'f Spanned<Name>, At<T>)>,
    /// Indices of `all` by name; of a name that is there twice, of the first one.
    by_name: HashTable<u32>,
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
        let given = names.filter(|(_, name)| name.given().is_some());
        let all: Vec<_> = given.map(|(index, name)| (name, At::new(index))).collect();
        let mut by_name = HashTable::with_capacity(all.len());
        for (index, (name, _)) in all.iter().enumerate() {
            let is_same = |other: &u32| all[*other as usize].0.value == name.value;
            match by_name.entry(hash(&name.value), is_same, |other| hash(&all[*other as usize].0.value)) {
                Entry::Vacant(vacant) => {
                    vacant.insert(index as u32);
                }
                Entry::Occupied(first) => {
                    let first = all[*first.get() as usize].0.span();
                    let problem = Problem::new(name.span(), format!("two {}s are named `{}`", T::NOUN, name.value));
                    problems.push(problem.label("again here").also(first, "first here"));
                }
            }
        }
        Self { all, by_name, broken, hints: FxHashMap::default() }
    }

    /// The record of a name. A name that belongs to no record is reported.
    pub(super) fn resolve<N: Deref<Target = str>>(
        &mut self,
        name: &'f Spanned<N>,
        problems: &mut Vec<Problem>,
    ) -> Option<At<T>> {
        let (text, span) = (&**name.given()?, name.span());
        let all = &self.all;
        if let Some(index) = self.by_name.find(hash(text), |index| *all[*index as usize].0.value == *text) {
            return Some(all[*index as usize].1);
        }
        if !self.broken.contains(T::NOUN, text) {
            let known = all.iter().map(|(name, _)| &*name.value);
            let hint = self.hints.entry(text).or_insert_with(|| nearest(text, known));
            let problem = Problem::new(span, format!("there is no {} `{text}`", T::NOUN));
            let problem = problem.label(format!("not the name of {} {}", article(T::NOUN), T::NOUN));
            problems.push(match hint {
                Some(hint) => problem.help(format!("did you mean `{hint}`?")),
                None => problem,
            });
        }
        None
    }
}

fn hash(name: &str) -> u64 {
    rustc_hash::FxBuildHasher.hash_one(name)
}

/// Whether a name is that of a VPC's default group.
pub(super) fn is_default(name: &Spanned<Name>) -> bool {
    &*name.value == DEFAULT_GROUP
}
