//! VNIs: one namespace for the VPCs' and the subnets' own.

use super::{Unique, again};
use crate::{
    diagnostics::Problem,
    model::{File, VniNumber},
};

pub(super) fn check(file: &File, problems: &mut Vec<Problem>) {
    let mut unique = Unique::with_capacity(file.vpcs.len());
    let message = |vni: &VniNumber| format!("two networks have the VNI {}", vni.0.0);
    for vpc in &file.vpcs {
        unique.check(&vpc.vni, problems, message);
    }
    for (subnet, vni) in file.subnets.iter().filter_map(|subnet| Some((subnet, subnet.vni.as_ref()?))) {
        if let Some(first) = vni.given().and_then(|given| unique.first(given, vni.span())) {
            let problem = again(vni.span(), first, message(vni));
            let own_vpc = file.vpcs.iter().any(|vpc| vpc.name.value == subnet.vpc.value && vpc.vni.value == vni.value);
            problems.push(if own_vpc {
                problem.help("leave `vni` out: the subnet rides on its VPC's then")
            } else {
                problem
            });
        }
    }
}
