//! Routers that plain VTEPs send to: one per VNI, so one route table per VNI.

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
        if first.links(links).route_table == subnet.route_table {
            continue;
        }
        let (a, b) = (&first.of(file).name, &at.of(file).name);
        let message = format!(
            "subnets `{}` and `{}` share the VNI {}, have ports on plain VTEPs, and route differently",
            a.value, b.value, subnet.vni.0
        );
        problems.push(
            Problem::new(b.span, message)
                .label("its router cannot be told from the other's")
                .also(a.span, "the other one")
                .help("give one of them its own `vni`, or both the same route table"),
        );
    }
}
