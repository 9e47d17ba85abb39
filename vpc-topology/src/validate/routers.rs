//! Routers that plain VTEPs send to: one per VNI, so one route table and one network ACL per VNI.

use crate::{
    diagnostics::Problem,
    model::{File, Subnet},
    topology::{At, Links},
};
use std::collections::BTreeMap;
use vpc_common::Vni;

pub(super) fn check(file: &File, links: &Links, problems: &mut Vec<Problem>) {
    let mut first_of: BTreeMap<Vni, At<Subnet>> = BTreeMap::new();
    for (index, subnet) in links.subnets.iter().enumerate().filter(|(_, subnet)| subnet.on_plain_vtep) {
        let at = At::<Subnet>::new(index);
        let first = *first_of.entry(subnet.vni).or_insert(at);
        let other = first.links(links);
        let (differently, same) = match () {
            () if other.route_table != subnet.route_table => ("route differently", "route table"),
            () if other.network_acl != subnet.network_acl => ("have other network ACLs", "network ACL"),
            () => continue,
        };
        let (a, b) = (&first.of(file).name, &at.of(file).name);
        let message = format!(
            "subnets `{}` and `{}` share the VNI {}, have ports on plain VTEPs, and {differently}",
            a.value, b.value, subnet.vni.0
        );
        problems.push(
            Problem::new(b.span(), message)
                .label("its router cannot be told from the other's")
                .also(a.span(), "the other one")
                .help(format!("give one of them its own `vni`, or both the same {same}")),
        );
    }
}
