//! What changes between two states of a node: per table, per port, and in words.

mod changes;
mod describe;
mod epochs;
mod outside;
mod rules;

pub use changes::{Changed, Changes};

use crate::compile::{Desired, DesiredNode, DesiredPort, DesiredVtep, Names, Outside};
use std::{collections::BTreeSet, sync::Arc};
use vpc_common::{
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, SourceKey},
    route::{Route, RouteKey},
};

/// The difference between two states of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What the topology says of the node, if that changed.
    pub node: Option<Box<DesiredNode>>,
    /// Local ports by slot.
    pub ports: Changes<u16, DesiredPort>,
    /// Other nodes by id.
    pub vteps: Changes<u16, DesiredVtep>,
    /// Endpoints.
    pub endpoints: Changes<EndpointKey, Endpoint>,
    /// MACs.
    pub macs: Changes<MacKey, MacEntry>,
    /// Routes.
    pub routes: Changes<RouteKey, Route>,
    /// Source prefixes.
    pub sources: Changes<SourceKey, u32>,
    /// Flood lists.
    pub flood: Changes<FloodKey, FloodMember>,
    /// Single addresses that rule sets tell apart.
    pub hosts: Changes<HostKey, Subject>,
    /// Blocks of addresses that they tell apart.
    pub subjects: Changes<SubjectKey, Subject>,
    /// Sets of groups that rule sets tell apart.
    pub identities: Changes<IdentityKey, Subject>,
    /// Compiled rules.
    pub rules: Changes<RuleKey, RuleVerdict>,
    /// The way to the outside, if it changed.
    pub outside: Option<Box<Outside>>,
    /// Slots of the new state whose epoch must move, so that the sessions of those ports are decided again.
    pub epochs: BTreeSet<u16>,
    /// Names of the new state, if they changed.
    pub names: Option<Names>,
}

impl Plan {
    /// What must change for `old` to become `new`.
    pub fn between(old: &Desired, new: &Desired) -> Self {
        let mut plan = Self {
            node: (old.node != new.node).then(|| Box::new(new.node.clone())),
            ports: Changes::between(&old.ports, &new.ports),
            vteps: Changes::between(old.vteps.iter().map(by_id), new.vteps.iter().map(by_id)),
            endpoints: Changes::between(pairs(&old.endpoints), pairs(&new.endpoints)),
            macs: Changes::between(pairs(&old.macs), pairs(&new.macs)),
            routes: Changes::between(pairs(&old.routes), pairs(&new.routes)),
            sources: Changes::between(pairs(&old.sources), pairs(&new.sources)),
            flood: Changes::between(pairs(&old.flood), pairs(&new.flood)),
            hosts: Changes::between(pairs(&old.hosts), pairs(&new.hosts)),
            subjects: Changes::between(pairs(&old.subjects), pairs(&new.subjects)),
            identities: Changes::between(pairs(&old.identities), pairs(&new.identities)),
            rules: Changes::between(pairs(&old.rules), pairs(&new.rules)),
            outside: (old.outside != new.outside).then(|| Box::new(new.outside.clone())),
            epochs: BTreeSet::new(),
            names: (old.names != new.names).then(|| new.names.clone()),
        };
        plan.epochs = epochs::epochs(&plan, new);
        plan
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many entries of all tables are added, changed or removed.
    pub fn len(&self) -> usize {
        self.ports.len()
            + self.vteps.len()
            + self.endpoints.len()
            + self.macs.len()
            + self.routes.len()
            + self.sources.len()
            + self.flood.len()
            + self.hosts.len()
            + self.subjects.len()
            + self.identities.len()
            + self.rules.len()
            + usize::from(self.outside.is_some())
    }

    /// Makes the state that the plan was made for of the one that it was made from.
    pub fn apply(&self, state: &mut Desired) {
        if let Some(node) = &self.node {
            state.node = (**node).clone();
        }
        state.ports = self.ports.apply(std::mem::take(&mut state.ports)).collect();
        let vteps = std::mem::take(&mut state.vteps).into_iter().map(|vtep| (vtep.id, vtep));
        state.vteps = self.vteps.apply(vteps).map(|(_, vtep)| vtep).collect();
        state.endpoints = Arc::new(self.endpoints.apply(taken(&mut state.endpoints)).collect());
        state.macs = Arc::new(self.macs.apply(taken(&mut state.macs)).collect());
        state.routes = self.routes.apply(std::mem::take(&mut state.routes)).collect();
        state.sources = self.sources.apply(std::mem::take(&mut state.sources)).collect();
        state.flood = Arc::new(self.flood.apply(taken(&mut state.flood)).collect());
        state.hosts = self.hosts.apply(std::mem::take(&mut state.hosts)).collect();
        state.subjects = self.subjects.apply(std::mem::take(&mut state.subjects)).collect();
        state.identities = self.identities.apply(std::mem::take(&mut state.identities)).collect();
        state.rules = self.rules.apply(std::mem::take(&mut state.rules)).collect();
        if let Some(outside) = &self.outside {
            state.outside = (**outside).clone();
        }
        if let Some(names) = &self.names {
            state.names = names.clone();
        }
    }

    /// The plan in words, one line for each change that an operator would name. `old` and `new` are the states that
    /// the plan was made of.
    pub fn describe(&self, old: &Desired, new: &Desired) -> Vec<String> {
        describe::describe(self, old, new)
    }
}

fn by_id(vtep: &DesiredVtep) -> (&u16, &DesiredVtep) {
    (&vtep.id, vtep)
}

fn taken<T: Clone>(table: &mut Arc<Vec<T>>) -> Vec<T> {
    Arc::unwrap_or_clone(std::mem::take(table))
}

fn pairs<K, V>(table: &[(K, V)]) -> impl Iterator<Item = (&K, &V)> {
    table.iter().map(|(key, value)| (key, value))
}
