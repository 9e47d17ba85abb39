//! What the packet code asks of the maps, counted.

use anyhow::{Context, Result, anyhow, bail};
use aya_obj::{Object, generated::bpf_map_type};
use std::collections::BTreeMap;

/// What is done to a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// `bpf_map_lookup_elem`.
    Lookup,
    /// `bpf_map_update_elem`.
    Insert,
    /// `bpf_map_delete_elem`.
    Remove,
}

impl Operation {
    const fn plural(self) -> &'static str {
        match self {
            Self::Lookup => "look-ups",
            Self::Insert => "insertions",
            Self::Remove => "removals",
        }
    }
}

/// How a map finds a key, which is what an access costs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// By a hash: a cache line or two, wherever they are.
    Hash,
    /// By the longest prefix: a cache line for each node on the way.
    Trie,
    /// By an index: as cheap as memory is.
    Array,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Trie => "trie",
            Self::Array => "array",
        }
    }

    fn of(map_type: u32) -> Option<Self> {
        let is = |kind: bpf_map_type| map_type == kind as u32;
        if is(bpf_map_type::BPF_MAP_TYPE_HASH) {
            Some(Self::Hash)
        } else if is(bpf_map_type::BPF_MAP_TYPE_LPM_TRIE) {
            Some(Self::Trie)
        } else if is(bpf_map_type::BPF_MAP_TYPE_ARRAY) {
            Some(Self::Array)
        } else {
            None
        }
    }
}

/// The kinds of maps by their names; not of those that the packet code never asks.
#[derive(Clone, Debug)]
pub struct Kinds(BTreeMap<String, Kind>);

impl Kinds {
    /// As a kernel object declares its maps.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_object(object: &[u8]) -> Result<Self> {
        let object = Object::parse(object).map_err(|error| anyhow!("the object cannot be read: {error}"))?;
        let kind = |(name, map): (&String, &aya_obj::Map)| Some((name.clone(), Kind::of(map.map_type())?));
        Ok(Self(object.maps.iter().filter_map(kind).collect()))
    }
}

/// How often, by the name of a map.
type ByMap = BTreeMap<&'static str, u32>;

/// Accesses by operation and map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accesses(BTreeMap<(Operation, &'static str), u32>);

impl Accesses {
    /// Counts one more.
    pub fn note(&mut self, operation: Operation, map: &'static str) {
        *self.0.entry((operation, map)).or_default() += 1;
    }

    /// How often that was done to maps of that kind.
    ///
    /// # Errors
    /// The object has no such map.
    pub fn count(&self, operation: Operation, kind: Kind, kinds: &Kinds) -> Result<u32> {
        Ok(self.by_kind(kinds)?.get(&(operation, kind)).map_or(0, |maps| maps.values().sum()))
    }

    /// A line for each operation and kind of map: how often, and to which maps.
    ///
    /// # Errors
    /// The object has no such map.
    pub fn lines(&self, kinds: &Kinds) -> Result<Vec<String>> {
        let line = |((operation, kind), maps): ((Operation, Kind), ByMap)| {
            let each: Vec<_> = maps.iter().map(|(map, count)| format!("{map} {count}")).collect();
            let what = format!("{} {}", kind.name(), operation.plural());
            format!("{what:16} {:2}: {}", maps.values().sum::<u32>(), each.join(", "))
        };
        Ok(self.by_kind(kinds)?.into_iter().map(line).collect())
    }

    fn by_kind(&self, kinds: &Kinds) -> Result<BTreeMap<(Operation, Kind), ByMap>> {
        let mut by_kind = BTreeMap::<_, ByMap>::new();
        for ((operation, map), count) in &self.0 {
            let kind = *kinds.0.get(*map).with_context(|| format!("the object has no map {map} of a known kind"))?;
            if kind == Kind::Array && *operation != Operation::Lookup {
                bail!("{map} is an array: what is in it stays");
            }
            by_kind.entry((*operation, kind)).or_default().insert(*map, *count);
        }
        Ok(by_kind)
    }
}
