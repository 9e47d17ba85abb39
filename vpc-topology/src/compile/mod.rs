//! Compilation: a validated topology to the state that one node needs.
//!
//! [`compile`] is a pure function: the same topology, node and previous slots give the same state. Each room of the
//! state has its file here.

mod desired;
mod endpoints;
mod flood;
mod global;
mod ids;
mod liveness;
mod nat;
mod policy;
mod ports;
mod routes;
mod scope;
mod sessions;
mod sizes;
mod sources;
mod vteps;

pub use desired::*;
pub(crate) use endpoints::count as endpoint_count;
pub use endpoints::whereabouts;
pub use ids::port_uid;
pub(crate) use ids::{Ids, subnet_ids};
pub(crate) use nat::nat_gateway_ids;
pub(crate) use policy::{Policies, group_key};
pub(crate) use scope::Scope;
pub use sessions::session_share;
pub use sizes::Excess;
pub(crate) use sizes::upper_bounds;

use crate::{Limits, Topology, both::both, diagnostics::nearest, model::Port, topology::At};
use std::{collections::BTreeSet, sync::Arc};
use thiserror::Error;

/// Why a topology cannot be compiled for a node.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CompileError {
    /// The topology has no node of that name.
    #[error("compile for node `{node}`: the topology has no such node{}", hint(.nearest))]
    UnknownNode {
        /// The name.
        node: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The node is a plain VTEP.
    #[error("compile for node `{node}`: the topology says that it runs no agent (`agent: false`)")]
    PlainVtep {
        /// Its name.
        node: String,
    },
    /// A map is too small.
    #[error("compile for node `{node}`: it needs {}", list(.excesses))]
    TooLarge {
        /// Its name.
        node: String,
        /// What is too large, and by how much.
        excesses: Vec<Excess>,
    },
    /// Two ports have the same uid.
    #[error("compile for node `{node}`: the names `{first}` and `{second}` have the same hash; rename one")]
    UidCollision {
        /// Name of the node.
        node: String,
        /// One port.
        first: String,
        /// The other.
        second: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

fn list(excesses: &[Excess]) -> String {
    excesses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Compiles what one node needs. Ports that had a slot before keep it.
///
/// # Errors
/// [`CompileError`]: no such node, or its state does not fit into the maps; with the numbers.
pub fn compile(topology: &Topology, node: &str, previous: &Slots, limits: &Limits) -> Result<Desired, CompileError> {
    compile_without(topology, node, previous, limits, BTreeSet::new())
}

/// The same while some ports cannot be next hops, by their uids: those that are beside them take over.
///
/// # Errors
/// As for [`compile`].
pub fn compile_without(
    topology: &Topology,
    node: &str,
    previous: &Slots,
    limits: &Limits,
    gone: BTreeSet<u64>,
) -> Result<Desired, CompileError> {
    let (file, links) = (topology.file(), topology.links());
    let index = file.nodes.iter().position(|n| &*n.name.value == node).ok_or_else(|| CompileError::UnknownNode {
        node: node.to_owned(),
        nearest: nearest(node, file.nodes.iter().map(|n| &*n.name.value)).map(str::to_owned),
    })?;
    if !file.nodes[index].runs_agent() {
        return Err(CompileError::PlainVtep { node: node.to_owned() });
    }
    let scope = Scope { gone, ..Scope::new(file, links, At::new(index)) };
    let policies = policy::Policies::new(&scope);
    let excesses: Vec<_> = scope.sizes(&policies).excesses(limits).collect();
    if !excesses.is_empty() {
        return Err(CompileError::TooLarge { node: node.to_owned(), excesses });
    }
    let tables = routes::Tables::new(&scope, &policies);
    let ports = ports::ports(&scope, &tables, &policies, previous, limits)?;
    let (macs, endpoints) = both(|| endpoints::macs(&scope), || endpoints::endpoints(&scope));
    let mut desired = Desired {
        node: vteps::this(&scope),
        vteps: vteps::others(&scope),
        endpoints: Arc::new(endpoints),
        macs: Arc::new(macs),
        routes: tables.into_entries(),
        sources: sources::sources(&scope, &ports),
        flood: Arc::new(flood::flood(&scope, &ports)),
        hosts: Vec::new(),
        subjects: Vec::new(),
        identities: Vec::new(),
        rules: Vec::new(),
        outside: nat::outside(&scope),
        next_hops: routes::next_hops(&scope).into_iter().map(|port| named(&scope, port)).collect(),
        names: scope.names(),
        ports,
    };
    policies.write(&mut desired);
    desired.outside.segment = liveness::segment(&scope);
    desired.outside.probes = liveness::probes(&scope, &desired.routes, &desired.outside.segment);
    Ok(desired)
}

/// A port's uid and name.
fn named(scope: &Scope<'_>, port: At<Port>) -> (u64, String) {
    let name = port.of(scope.file).name.to_string();
    (port_uid(&name), name)
}
