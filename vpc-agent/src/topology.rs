//! Topology files: reading, checking, compiling for this node, and keeping the last good one.

use crate::{memory, text::Text};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinHandle;
use vpc_common::endpoint::EndpointKey;
use vpc_topology::{
    Limits, Loader, Slots, Source, Topology,
    compile::{Desired, compile_without, whereabouts},
};

/// A topology that fits this node.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What this node needs.
    pub desired: Arc<Desired>,
    /// The size of the session table that its ports share.
    pub sessions: u32,
    /// The ports that it does without as next hops, by uid.
    pub gone: BTreeSet<u64>,
}

/// A version of the file that fits this node.
#[derive(Debug)]
pub struct Version {
    /// What the file said. It may be large: everybody shares it.
    pub text: Arc<Text>,
    /// What that is for this node.
    pub compiled: Compiled,
}

/// A topology on its way. It may be large, so it is compiled beside the loop.
#[derive(Debug, Default)]
pub struct Compiling(pub Option<JoinHandle<Result<Version, String>>>);

impl Compiling {
    /// Waits for the result, for ever if nothing is on its way.
    ///
    /// # Errors
    /// Every problem, for people.
    pub async fn finished(&mut self) -> Result<Version, String> {
        let Some(task) = &mut self.0 else { return std::future::pending().await };
        let result = task.await;
        self.0 = None;
        result.unwrap_or_else(|error| Err(format!("the compiler failed: {error}")))
    }
}

/// What of the present the next version goes on from.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// Which port has which slot.
    pub slots: Slots,
    /// Addresses of guests that have left with their state: where they are must be known although the node may take no
    /// part in their VPC any more.
    pub away: BTreeSet<EndpointKey>,
    /// Ports that cannot be next hops now, by uid.
    pub gone: BTreeSet<u64>,
}

/// Reads a topology and compiles it for a node. The error is every problem, for people.
pub fn compile(
    source: &dyn Source,
    name: &str,
    node: &str,
    present: &Present,
    limits: &Limits,
) -> Result<Compiled, String> {
    let topology = vpc_topology::load_within(source, name, limits).map_err(|problems| problems.to_string())?;
    finish(&topology, node, present, limits)
}

/// Begins to read the first version of a file, beside the caller. What is wrong with it the compilation tells, which
/// waits for this.
pub fn prepare(loader: &Arc<Mutex<Loader<Text>>>, text: &Arc<Text>, name: &str, limits: Limits) {
    let (loader, text, name) = (Arc::clone(loader), Arc::clone(text), name.to_owned());
    tokio::task::spawn_blocking(move || {
        let _told_later = loader.lock().unwrap_or_else(PoisonError::into_inner).load(&text, &name, &limits).is_ok();
        memory::give_back();
    });
}

/// The same for the next version of a file, of which only what changed is read.
pub fn compile_next(
    loader: &Mutex<Loader<Text>>,
    text: &Arc<Text>,
    name: &str,
    node: &str,
    present: &Present,
    limits: &Limits,
) -> Result<Compiled, String> {
    // A loader that panicked has lost the version before and reads the next one whole.
    let mut loader = loader.lock().unwrap_or_else(PoisonError::into_inner);
    let topology = loader.load(text, name, limits).map_err(|problems| problems.to_string())?;
    finish(topology, node, present, limits)
}

fn finish(topology: &Topology, node: &str, present: &Present, limits: &Limits) -> Result<Compiled, String> {
    let mut desired = compile_without(topology, node, &present.slots, limits, present.gone.clone())
        .map_err(|error| error.to_string())?;
    for (key, endpoint) in whereabouts(topology, &present.away) {
        let endpoints = Arc::make_mut(&mut desired.endpoints);
        if let Err(at) = endpoints.binary_search_by_key(&key, |(key, _)| *key) {
            endpoints.insert(at, (key, endpoint));
        }
    }
    Ok(Compiled { desired: Arc::new(desired), sessions: limits.sessions, gone: present.gone.clone() })
}

/// Where the last good topology is kept, so that a restart with a bad file changes nothing.
pub fn last_good_path(run_dir: &Path) -> PathBuf {
    run_dir.join("topology.last-good.yaml")
}

/// The last good topology; none where there never was one.
pub fn kept(run_dir: &Path) -> Option<Text> {
    Text::open(&last_good_path(run_dir)).ok()
}
