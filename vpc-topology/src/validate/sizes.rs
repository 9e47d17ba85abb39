//! What the maps can hold, for every node of the topology.

use crate::{
    Limits,
    compile::{Excess, Policies, Scope, upper_bounds},
    diagnostics::Problem,
    model::File,
    topology::{At, Links},
};

pub(super) fn check(file: &File, links: &Links, limits: &Limits, problems: &mut Vec<Problem>) {
    if let Some(over) = file.vpcs.get(limits.vpcs as usize) {
        let message = Excess { what: "VPCs", needed: file.vpcs.len(), limit: limits.vpcs }.to_string();
        problems.push(Problem::new(over.name.span(), format!("the topology has {message}")).label("one too many"));
    }
    for ((index, node), bound) in file.nodes.iter().enumerate().zip(upper_bounds(file, links)) {
        let id = u32::from(node.id.value.0);
        if id >= limits.vteps {
            let excess = Excess { what: "VTEPs", needed: id as usize + 1, limit: limits.vteps };
            let message = format!("the id {id} of node `{}` needs {excess}", node.name.value);
            problems.push(Problem::new(node.id.span(), message).label("too large for the map"));
        }
        if !node.runs_agent() || bound.excesses(limits).next().is_none() {
            continue;
        }
        let scope = Scope::new(file, links, At::new(index));
        let exact = scope.sizes(&Policies::new(&scope));
        for excess in exact.excesses(limits) {
            let message = format!("node `{}` needs {excess}", node.name.value);
            problems.push(Problem::new(node.name.span(), message).label("more than a map can hold"));
        }
    }
}
