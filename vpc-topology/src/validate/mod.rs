//! Everything that can be wrong with a topology beyond the form of its fields. All checks run, whatever the others find.

mod acls;
mod blocks;
mod gateways;
mod groups;
mod links;
mod names;
mod nodes;
mod ports;
mod routers;
mod routes;
mod rules;
mod sizes;
mod vnis;

use crate::{
    Limits,
    diagnostics::{Problem, Span, Spanned},
    document::{Broken, Gaps, Record},
    model::File,
    topology::Links,
};
use rustc_hash::FxHashMap;
use std::hash::{BuildHasher, Hash};

/// Checks a file and resolves its names. `None`: a name could not be resolved.
pub(crate) fn validate(file: &File, broken: &Broken, limits: &Limits, problems: &mut Vec<Problem>) -> Option<Links> {
    let names = names::Names::new(file, broken, problems);
    let resolved = links::resolve(file, names, problems);
    nodes::check(file, problems);
    vnis::check(file, problems);
    blocks::check(file, &resolved, problems);
    ports::check(file, &resolved, problems);
    routes::check(file, &resolved, problems);
    groups::check(file, &resolved, problems);
    gateways::check(file, &resolved, problems);
    acls::check(file, &resolved, problems);
    // What has gaps would be counted wrong.
    if has_gaps(file) {
        return None;
    }
    let links = resolved.complete(file)?;
    routers::check(file, &links, problems);
    sizes::check(file, &links, limits, problems);
    Some(links)
}

/// Whether a part of the file could not be read.
fn has_gaps(file: &File) -> bool {
    file.gaps() != Gaps::default()
}

/// Whether one of very many keys may be there twice. Seldom any is: then no map of all of them is needed, which takes
/// several times the memory, and the time to fill it.
fn may_repeat<K: Hash>(keys: impl Iterator<Item = K>) -> bool {
    let mut hashes: Vec<u64> = keys.map(|key| rustc_hash::FxBuildHasher.hash_one(key)).collect();
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
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
}

impl<'f, V: Eq + Hash> Unique<&'f V> {
    /// Reports a value if this is not the first time.
    fn check(&mut self, value: &'f Spanned<V>, problems: &mut Vec<Problem>, message: impl FnOnce(&V) -> String) {
        if let Some(key) = value.given()
            && let Some(first) = self.first(key, value.span())
        {
            problems.push(again(value.span(), first, message(key)));
        }
    }
}

impl<S: Eq + Hash, K: Eq + Hash> Unique<(S, K)> {
    /// Reports a value if it is not the first time in its scope. `key` makes of it what is compared.
    fn check_in<'f, V>(
        &mut self,
        scope: S,
        value: &'f Spanned<V>,
        key: impl FnOnce(&'f V) -> K,
        problems: &mut Vec<Problem>,
        message: impl FnOnce(&V) -> String,
    ) {
        if let Some(given) = value.given()
            && let Some(first) = self.first((scope, key(given)), value.span())
        {
            problems.push(again(value.span(), first, message(given)));
        }
    }
}

fn again(span: Span, first: Span, message: String) -> Problem {
    Problem::new(span, message).label("again here").also(first, "first here")
}
