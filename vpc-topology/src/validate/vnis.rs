//! VNIs: one namespace for the VPCs' and the subnets' own.

use super::Unique;
use crate::{diagnostics::Problem, model::File};

pub(super) fn check(file: &File, problems: &mut Vec<Problem>) {
    let mut unique = Unique::with_capacity(file.vpcs.len());
    for vpc in &file.vpcs {
        unique.check(vpc.vni.value, vpc.vni.span, problems, || {
            format!("two networks have the VNI {}", vpc.vni.value.0.0)
        });
    }
    for (subnet, vni) in file.subnets.iter().filter_map(|subnet| Some((subnet, subnet.vni?))) {
        if let Some(first) = unique.first(vni.value, vni.span) {
            let message = format!("two networks have the VNI {}", vni.value.0.0);
            let problem = Problem::new(vni.span, message).label("again here").also(first, "first here");
            let own_vpc = file.vpcs.iter().any(|vpc| vpc.name.value == subnet.vpc.value && vpc.vni.value == vni.value);
            problems.push(if own_vpc {
                problem.help("leave `vni` out: the subnet rides on its VPC's then")
            } else {
                problem
            });
        }
    }
}
