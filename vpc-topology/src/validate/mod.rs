//! Everything that can be wrong with a topology beyond the form of its fields. All checks run, whatever the others find.

mod blocks;
mod links;
mod names;
mod nodes;
mod ports;
mod routers;
mod routes;
mod sizes;
mod vnis;

use crate::{
    Limits,
    diagnostics::{Problem, Span},
    document::Broken,
    model::File,
    topology::Links,
};
use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Checks a file and resolves its names. `None`: a name could not be resolved.
pub(crate) fn validate(file: &File, broken: &Broken, limits: &Limits, problems: &mut Vec<Problem>) -> Option<Links> {
    let names = names::Names::new(file, broken, problems);
    let resolved = links::resolve(file, names, problems);
    nodes::check(file, problems);
    vnis::check(file, problems);
    blocks::check(file, &resolved, problems);
    ports::check(file, &resolved, problems);
    routes::check(file, &resolved, problems);
    // Sizes say nothing while parts are missing.
    if !problems.is_empty() {
        return None;
    }
    let links = resolved.complete(file)?;
    routers::check(file, &links, problems);
    sizes::check(file, &links, limits, problems);
    Some(links)
}

/// Finds what is there twice.
struct Unique<K>(FxHashMap<K, Span>);

impl<K: Eq + Hash> Unique<K> {
    fn with_capacity(capacity: usize) -> Self {
        Self(FxHashMap::with_capacity_and_hasher(capacity, rustc_hash::FxBuildHasher))
    }

    /// Where the key was first, if this is not the first time.
    fn first(&mut self, key: K, span: Span) -> Option<Span> {
        match self.0.entry(key) {
            std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(span);
                None
            }
        }
    }

    /// Reports the key if this is not the first time.
    fn check(&mut self, key: K, span: Span, problems: &mut Vec<Problem>, message: impl FnOnce() -> String) {
        if let Some(first) = self.first(key, span) {
            problems.push(Problem::new(span, message()).label("again here").also(first, "first here"));
        }
    }
}
