//! Network ACLs: rules with one number each, for subnets of their VPC.

use super::{Unique, links::Resolved, rules};
use crate::{
    diagnostics::Problem,
    model::{AclRule, File, NetworkAcl},
};

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    for acl in &file.network_acls {
        check_direction(acl, "ingress", &acl.ingress, problems);
        check_direction(acl, "egress", &acl.egress, problems);
    }
    for (subnet, links) in file.subnets.iter().zip(&resolved.subnets) {
        if let (Some(vpc), Some(Some(acl)), Some(name)) = (links.vpc, links.acl, subnet.network_acl.get())
            && resolved.network_acls[acl.index()].is_some_and(|of| of != vpc)
        {
            let message = format!("subnet `{}` uses a network ACL of another VPC", subnet.name.value);
            let problem = Problem::new(name.span(), message).label(format!("VPC `{}`", acl.of(file).vpc.value));
            problems.push(problem.also(subnet.vpc.span(), "the subnet's VPC"));
        }
    }
}

fn check_direction(acl: &NetworkAcl, direction: &str, rules: &[AclRule], problems: &mut Vec<Problem>) {
    let mut unique = Unique::with_capacity(rules.len());
    for rule in rules {
        unique.check(&rule.rule_number, problems, |number| {
            format!("two {direction} rules of network ACL `{}` have the number {}", acl.name.value, number.0)
        });
        rules::check_service(rule, &rule.service(), std::slice::from_ref(&rule.cidr_block), problems);
    }
}
