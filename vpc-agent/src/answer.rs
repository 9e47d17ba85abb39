//! Answers to what is asked over the control socket.

mod counters;
mod drops;
mod gateways;
mod lenders;
mod listing;
mod nat;
mod owners;
mod policies;
mod sessions;
mod slots;
mod words;

use crate::{
    control::{
        Answer, Request,
        report::{MapRow, NextHopRow, PlanReport, Status, TopologyStatus, VtepRow},
    },
    foreign,
    liveness::Tallies,
    reconcile::{Outcome, Reconciler},
    topology,
    underlay::{Described, WayState},
};
use std::{path::PathBuf, time::Instant};
use vpc_topology::{Limits, compile::Desired};

/// What answers are made of.
pub(crate) struct Answers<'a> {
    pub reconciler: &'a Reconciler,
    pub outcome: &'a Outcome,
    pub topology: &'a TopologyStatus,
    pub problems: Vec<String>,
    pub node: &'a str,
    pub pins: PathBuf,
    pub started: Instant,
    pub limits: Limits,
    pub tallies: Tallies,
}

/// An answer that takes long.
pub(crate) type Work = Box<dyn FnOnce() -> Answer + Send>;

impl Answers<'_> {
    /// The answer to a question that takes no time.
    pub(crate) fn now(&self, request: &Request) -> Answer {
        match request {
            Request::Status => Answer::of(self.status()),
            Request::Get(kind) => Answer::of(listing::list(*kind, self.reconciler, self.outcome)),
            Request::Drops => Answer::of(drops::drops(self.reconciler)),
            Request::Stop => Answer::of(Ok(())),
            Request::Plan { .. }
            | Request::Sessions { .. }
            | Request::FlushSessions(_)
            | Request::Nat { .. }
            | Request::ExportPort { .. }
            | Request::ImportPort { .. } => Answer::Error("asked the wrong way".to_owned()),
        }
    }

    /// The work behind the others.
    pub(crate) fn later(&self, request: &Request) -> Option<Work> {
        match request {
            Request::Sessions { filter, limit } => {
                let (found, limit) = (sessions::Chosen::new(self.reconciler, filter), *limit);
                Some(Box::new(move || Answer::of(found.and_then(|found| found.read(limit)))))
            }
            Request::FlushSessions(filter) => {
                let found = sessions::Chosen::new(self.reconciler, filter);
                Some(Box::new(move || Answer::of(found.and_then(|found| found.flush()))))
            }
            Request::Nat { filter, limit } => {
                let (found, limit) = (nat::Translations::new(self.reconciler, filter), *limit);
                Some(Box::new(move || Answer::of(found.and_then(|found| found.read(limit)))))
            }
            Request::Plan { name, text } => {
                let (name, text) = (name.clone(), text.clone());
                let (node, limits) = (self.node.to_owned(), self.limits);
                let (present, old) = (self.reconciler.present(), self.reconciler.desired().cloned());
                Some(Box::new(move || {
                    Answer::of(topology::compile(&text, &name, &node, &present, &limits).map(|new| {
                        let old = old.map(|old| Desired::clone(&old)).unwrap_or_default();
                        let plan = vpc_topology::diff::Plan::between(&old, &new.desired);
                        PlanReport { changes: plan.describe(&old, &new.desired), writes: plan.len() }
                    }))
                }))
            }
            _ => None,
        }
    }

    fn status(&self) -> Result<Status, String> {
        let desired = self.reconciler.desired();
        let mut attachments = self.outcome.attachments.clone();
        for row in &mut attachments {
            // Nothing announces such a program, so it is looked for when someone asks.
            row.before = foreign::before(&self.reconciler.datapath, row);
        }
        let vteps = desired.map(|desired| desired.vteps.as_slice()).unwrap_or_default();
        Ok(Status {
            node: self.node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            kernel: vpc_bpf::kernel_release(),
            uptime_seconds: self.started.elapsed().as_secs(),
            pins: self.pins.display().to_string(),
            topology: self.topology.clone(),
            problems: self.problems.iter().cloned().chain(attachments.iter().filter_map(foreign::describe)).collect(),
            attachments,
            vteps: vteps
                .iter()
                .zip(&self.outcome.vteps)
                .map(|(vtep, described)| VtepRow {
                    node: vtep.name.clone(),
                    id: vtep.id,
                    address: vtep.address.to_string(),
                    mtu: described.mtu(),
                    next_hops: next_hops(described),
                })
                .collect(),
            gateways: desired
                .map(|desired| gateways::gateways(desired, self.reconciler, &self.tallies))
                .unwrap_or_default(),
            maps: self.maps()?,
        })
    }

    fn maps(&self) -> Result<Vec<MapRow>, String> {
        let image = self.reconciler.actual();
        let mut rows = Vec::new();
        for name in self.reconciler.datapath.map_names() {
            let (max_entries, bytes) = self.reconciler.datapath.map_size(name).map_err(|error| error.to_string())?;
            rows.push(MapRow { name: name.to_owned(), max_entries, entries: image.entries(name), bytes });
        }
        Ok(rows)
    }
}

fn next_hops(described: &Described) -> Vec<NextHopRow> {
    let state = |state| match state {
        WayState::Used => "used",
        WayState::Unresolved => "unresolved",
        WayState::LinkDown => "link_down",
        WayState::NotEthernet => "not_ethernet",
        WayState::Surplus => "surplus",
    };
    let share = |entries| match entries {
        0 => String::new(),
        entries => format!("{entries}/{}", described.record.next_hop_count),
    };
    described
        .ways
        .iter()
        .map(|way| NextHopRow {
            uplink: way.uplink.clone(),
            address: way.neighbour.to_string(),
            mac: way.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            state: state(way.state).to_owned(),
            share: share(way.entries),
        })
        .collect()
}
