//! One round: look, plan, attach, apply. A round that finds nothing to do writes nothing.

use crate::{
    attach::{LinkName, UplinkHook},
    control::report::Attachment,
    datapath::{Datapath, DatapathError},
    devices::{self, Delivery},
    epoch::{EpochClock, since_boot},
    gateway::{self, Heard},
    host_stack, instances,
    liveness::Healths,
    machine::{Depth, Machine, Observer},
    maps::{self, Image, Wanted, image::Shared, locate::Full, outside},
    netlink::{
        NetlinkError,
        links::{self, Link},
        neighbours::NeighbourKey,
        tunnel,
    },
    offload, packet_rate,
    port_state::{self, Given, PortStateError, Taken, kept},
    render::{PortDevice, render},
    sweeper,
    topology::Present,
    underlay::Described,
    uplink,
    vacated::Vacated,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thiserror::Error;
use vpc_bpf::{Loaded, TableError};
use vpc_common::{Mac, endpoint::EndpointKey};
use vpc_topology::compile::Desired;

/// A round failed. What was there stays; the next round tries again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The kernel did not tell what the machine is like.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table of ports by address.
    #[error(transparent)]
    Full(#[from] Full),
    /// Programs could not be replaced.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What a round found and did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Writes to the maps.
    pub writes: usize,
    /// What is wrong now.
    pub problems: Vec<String>,
    /// Interfaces with programs.
    pub attachments: Vec<Attachment>,
    /// The other nodes, in the order of [`Desired::vteps`].
    pub vteps: Vec<Described>,
    /// Neighbours that the kernel should ask for.
    pub unresolved: BTreeSet<NeighbourKey>,
    /// Neighbours that the kernel should confirm from time to time.
    pub learned: BTreeSet<NeighbourKey>,
}

/// What this node holds and should hold.
pub struct Reconciler {
    /// The kernel side.
    pub datapath: Datapath,
    /// Looks at the machine.
    pub observer: Observer,
    actual: Image,
    desired: Option<Arc<Desired>>,
    shared: Shared,
    outside: outside::Shared,
    heard: Heard,
    epochs: EpochClock,
    /// Addresses of guests whose state was given away, with NAT mappings that are kept here.
    away: BTreeSet<EndpointKey>,
    vacated: Vacated,
    /// Whether programs of an earlier agent may still be attached.
    inherited: bool,
    /// Interfaces of ports, by index.
    inspected: BTreeMap<u32, Inspected>,
}

/// What was found out about a port's interface.
#[derive(Clone, Debug)]
struct Inspected {
    link: Link,
    uplink_mtu: u32,
    mtu: u32,
    delivery: Delivery,
    problem: Option<String>,
}

impl Inspected {
    /// Whether nothing has changed since that was announced for the interface itself.
    fn is_of(&self, link: &Link, uplink_mtu: u32) -> bool {
        // Enlarging its MTU was our own doing.
        let same = Link { mtu: link.mtu, ..self.link.clone() } == *link;
        same && self.uplink_mtu == uplink_mtu
    }
}

impl Reconciler {
    /// Starts from what the maps hold.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn new(datapath: Datapath, observer: Observer, sweeper: sweeper::Handle) -> Result<Self, TableError> {
        let actual = datapath.tables.read()?;
        let epochs = EpochClock::after(actual.last_epoch());
        let away = kept::guests(&datapath.tables, &actual)?;
        let heard = Heard { before: actual.outside.gateways, ..Heard::default() };
        Ok(Self {
            datapath,
            observer,
            actual,
            desired: None,
            shared: Shared::default(),
            outside: outside::Shared::default(),
            heard,
            epochs,
            away,
            vacated: Vacated::new(sweeper),
            inherited: true,
            inspected: BTreeMap::new(),
        })
    }

    /// The state in force; none before the first topology.
    pub fn desired(&self) -> Option<&Arc<Desired>> {
        self.desired.as_ref()
    }

    /// What the maps hold.
    pub fn actual(&self) -> &Image {
        &self.actual
    }

    /// What the next version of the topology goes on from.
    pub fn present(&self) -> Present {
        // Most of the time nobody has left, and then nothing is read.
        let none = self.away.is_empty();
        let still = if none { Ok(BTreeSet::new()) } else { kept::guests(&self.datapath.tables, &self.actual) };
        let away = still.unwrap_or_else(|_| self.away.clone());
        Present { slots: self.actual.slots(), away, gone: self.gone() }
    }

    /// Ports that cannot be next hops now, by uid.
    pub fn gone(&self) -> BTreeSet<u64> {
        let desired = self.desired.as_deref();
        desired.map(|desired| instances::gone(desired, &self.actual, &self.heard.healths)).unwrap_or_default()
    }

    /// Gives the state of a port away.
    ///
    /// # Errors
    /// See [`port_state::give`].
    pub fn give(&mut self, port: &str) -> Result<Given, PortStateError> {
        let unknown = || PortStateError::UnknownPort(port.to_owned());
        let desired = self.desired.as_ref().ok_or_else(unknown)?;
        let giving = port_state::give(&self.datapath.tables, desired, port)?;
        self.away.extend(giving.away);
        let (sessions, mappings) = (giving.given.state.sessions.len(), giving.given.state.mappings.len());
        tracing::info!(port, sessions, mappings, left_behind = giving.given.left_behind, "gave a port's state away");
        Ok(giving.given)
    }

    /// Takes the state of a port over.
    ///
    /// # Errors
    /// See [`port_state::take`].
    pub fn take(&self, state: &serde_json::Value) -> Result<port_state::Outcome, PortStateError> {
        let Some(desired) = &self.desired else { return Ok(port_state::Outcome::NotYet) };
        let outcome = port_state::take(&self.datapath.tables, desired, state)?;
        if let port_state::Outcome::Taken(Taken { sessions, mappings, expired }) = outcome {
            tracing::info!(port = state["port"].as_str(), sessions, mappings, expired, "took a port's state over");
        }
        Ok(outcome)
    }

    /// Another state is desired from now on.
    pub fn desire(&mut self, desired: Arc<Desired>) {
        self.shared = self.share(&desired);
        self.outside = outside::Shared::of(&self.actual.outside.shared, &desired.outside);
        self.desired = Some(desired);
    }

    /// What is known of the gateways.
    pub fn healths(&self) -> &Healths {
        &self.heard.healths
    }

    /// Something else is known of the gateways. The maps follow at once, without a look at the machine; whatever else
    /// that changes is for the next round.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub fn hear(&mut self, healths: Healths) -> Result<(), ReconcileError> {
        self.heard.hear(healths);
        let Some(desired) = self.desired.clone() else { return Ok(()) };
        let mut wanted = self.actual.without(&BTreeSet::new());
        let choice = gateway::choose(&desired, &wanted.vteps, &wanted.outside.outlet, &self.heard);
        (wanted.outside.gateways, wanted.outside.segment) = (choice.fabric, choice.segment);
        self.step(&wanted, &mut Outcome::default())
    }

    /// Tables that are the same as before become one, so that nobody compares them again, or keeps them twice.
    fn share(&mut self, desired: &Desired) -> Shared {
        fn keep<T: PartialEq + Clone>(old: &Arc<Vec<T>>, new: &[T]) -> Arc<Vec<T>> {
            if old.as_slice() == new { Arc::clone(old) } else { Arc::new(new.to_vec()) }
        }
        fn unite<T: PartialEq>(old: &mut Arc<Vec<T>>, new: &Arc<Vec<T>>) -> Arc<Vec<T>> {
            if **old == **new {
                *old = Arc::clone(new);
            }
            Arc::clone(new)
        }
        let old = &mut self.actual.shared;
        Shared {
            endpoints: unite(&mut old.endpoints, &desired.endpoints),
            macs: unite(&mut old.macs, &desired.macs),
            routes: keep(&old.routes, &desired.routes),
            sources: keep(&old.sources, &desired.sources),
            flood: unite(&mut old.flood, &desired.flood),
            hosts: keep(&old.hosts, &desired.hosts),
            subjects: keep(&old.subjects, &desired.subjects),
            identities: keep(&old.identities, &desired.identities),
            rules: keep(&old.rules, &desired.rules),
        }
    }

    /// One round.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub async fn round(&mut self, depth: Depth) -> Result<Outcome, ReconcileError> {
        let Some(desired) = self.desired.clone() else { return self.without_topology() };
        let vteps = desired.vteps.iter().map(|vtep| vtep.address).chain([desired.node.vtep]);
        let machine = self.observer.look(vteps, depth).await?;
        let mut outcome = Outcome::default();
        if !machine.reaches.get(&desired.node.vtep).is_some_and(|reach| reach.local) {
            let problem = format!("this node's VTEP address {} is on none of its interfaces", desired.node.vtep);
            outcome.problems.push(problem);
        }
        let devices = self.ports(&desired, &machine, depth, &mut outcome).await;
        let offload = offload::attach(self.observer.handle(), &mut self.datapath, &mut outcome).await;
        let mut rendered = render(&desired, (&self.shared, &self.outside), &devices, (&machine, &self.heard));
        rendered.wanted.node.offload = offload;
        self.apply(&rendered.wanted, &mut outcome)?;
        self.take_over()?;
        self.tunnel(&mut outcome).await;
        uplink::attach(&desired, &machine, &mut self.datapath, &self.observer, &mut outcome);
        if let Some(outlet) = &desired.outside.outlet {
            gateway::attach(outlet, &machine, &mut self.datapath, &mut outcome);
            if rendered.outlet.record.next_hop == Mac::default() {
                let problem = format!("the outside cannot be reached: no answer from next hop {}", outlet.next_hop);
                outcome.problems.push(problem);
            }
            if let Some(link) = machine.links.get(&outlet.device).filter(|_| outlet.next_hop_v6.is_some())
                && let Err(error) = links::hear_all_multicast(self.observer.handle(), link).await
            {
                outcome.problems.push(format!("external interface {}: {}", outlet.device, chain(&error)));
            }
            if let Some(next_hop) = outlet.next_hop_v6.filter(|_| rendered.outlet.record.next_hop_v6 == Mac::default())
            {
                outcome.problems.push(format!("the outside cannot be reached: no answer from next hop {next_hop}"));
            }
        }
        outcome.problems.extend(gateway::problems(&desired, &rendered.choice, &self.heard.healths));
        outcome.unresolved.extend(rendered.outlet.unresolved);
        outcome.learned.extend(rendered.outlet.learned);
        self.detach(&desired, &mut outcome);
        for vtep in &rendered.vteps {
            outcome.unresolved.extend(&vtep.unresolved);
            outcome.learned.extend(&vtep.learned);
        }
        for (vtep, node) in rendered.vteps.iter().zip(&desired.vteps) {
            if machine.reaches.get(&node.address).is_some_and(|reach| reach.local) {
                let problem = format!("VTEP {} of node {} is an address of this machine", node.address, node.name);
                outcome.problems.push(problem);
            } else if vtep.record.next_hop_count == 0 {
                let problem = format!("node {} cannot be reached: no usable next hop to {}", node.name, node.address);
                outcome.problems.push(problem);
            }
        }
        outcome.vteps = rendered.vteps;
        Ok(outcome)
    }

    /// No topology was ever good here: what an earlier agent left goes on, with this agent's programs.
    fn without_topology(&mut self) -> Result<Outcome, ReconcileError> {
        self.take_over()?;
        Ok(Outcome::default())
    }

    /// Goes on with prepared programs and maps, which take over what the others hold.
    ///
    /// # Errors
    /// See [`ReconcileError`]. Programs that could not be replaced are tried again by the next round.
    pub fn adopt(&mut self, loaded: Loaded) -> Result<(), ReconcileError> {
        self.datapath.adopt(loaded)?;
        self.inherited = true;
        let taken_over = self.take_over();
        // Also where some programs could not be replaced yet: the next round goes on, with these tables.
        self.vacated.follow(&self.datapath.tables)?;
        taken_over
    }

    fn take_over(&mut self) -> Result<(), ReconcileError> {
        if self.inherited {
            let replaced = self.datapath.take_over()?;
            if replaced > 0 {
                tracing::info!(replaced, "replaced the programs");
            }
            self.inherited = false;
        }
        Ok(())
    }

    /// Attaches the ports' programs before anything leads to them: until the maps know a port, all its frames are
    /// dropped.
    async fn ports(
        &mut self,
        desired: &Desired,
        machine: &Machine,
        depth: Depth,
        outcome: &mut Outcome,
    ) -> BTreeMap<u16, PortDevice> {
        let inspected = std::mem::take(&mut self.inspected);
        let uplink_mtu = desired.node.uplinks.iter().filter_map(|name| machine.links.get(name)).map(|link| link.mtu);
        let uplink_mtu = uplink_mtu.max().unwrap_or_default();
        let mut devices = BTreeMap::new();
        for (slot, port) in &desired.ports {
            let Some(device) = &port.device else { continue };
            let mut row = Attachment {
                role: "port".to_owned(),
                name: port.name.clone(),
                device: device.clone(),
                mode: "absent".to_owned(),
                reason: format!("there is no interface {device}"),
                ..Attachment::default()
            };
            if let Some(link) = machine.links.get(device) {
                row.ifindex = link.index;
                let known =
                    inspected.get(&link.index).filter(|known| depth < Depth::Devices && known.is_of(link, uplink_mtu));
                let found = match known {
                    Some(found) => found.clone(),
                    None => {
                        let record = self.actual.ports.get(slot).filter(|record| record.ifindex == link.index);
                        self.inspect(link, record.map(|record| record.mtu), uplink_mtu).await
                    }
                };
                row.mtu = found.mtu;
                outcome.problems.extend(found.problem.iter().map(|problem| format!("port {}: {problem}", port.name)));
                let Inspected { mtu, delivery, .. } = found.clone();
                self.inspected.insert(link.index, found);
                match self.datapath.attach(&LinkName::Port(port.record.uid), link.index) {
                    Ok(()) => {
                        row.mode = self.datapath.way().mode().to_owned();
                        row.reason = self.datapath.way().explain(&delivery.reason);
                        let around = (desired, machine, &self.observer);
                        match packet_rate::settle(port, link, around, &mut self.datapath) {
                            Ok(()) if port.packet_rate => row.mode.insert_str(0, "xdp+"),
                            Ok(()) => {}
                            Err(why) => {
                                outcome.problems.push(format!("port {}: no packet-rate mode: {why}", port.name));
                            }
                        }
                        devices.insert(*slot, PortDevice { ifindex: link.index, mtu, delivery, running: link.running });
                    }
                    Err(error) => {
                        row.mode = "failed".to_owned();
                        row.reason = chain(&error);
                        outcome.problems.push(format!("port {}: {}", port.name, row.reason));
                    }
                }
            }
            outcome.attachments.push(row);
        }
        devices
    }

    async fn inspect(&self, link: &Link, before: Option<u32>, uplink_mtu: u32) -> Inspected {
        let (mtu, enlarged) = self.observer.prepare_port(link, before).await;
        let delivery = devices::delivery(link, self.observer.features(link.index), uplink_mtu);
        let silenced = host_stack::silence(&link.name).map_err(|error| format!("switch the host's IPv6 off: {error}"));
        let problem = enlarged.map_err(|error| chain(&error)).and(silenced).err();
        Inspected { link: link.clone(), uplink_mtu, mtu, delivery, problem }
    }

    fn apply(&mut self, wanted: &Wanted, outcome: &mut Outcome) -> Result<(), ReconcileError> {
        let recycled = self.actual.recycled(wanted);
        if !recycled.is_empty() {
            let emptied = self.actual.without(&recycled);
            self.step(&emptied, outcome)?;
        }
        let free = |slot: &&u16| !self.actual.ports.contains_key(slot);
        self.vacated.clear(&self.datapath.tables, wanted.ports.keys().filter(free).copied())?;
        self.step(wanted, outcome)
    }

    fn step(&mut self, wanted: &Wanted, outcome: &mut Outcome) -> Result<(), ReconcileError> {
        let epochs = &mut self.epochs;
        let (plan, image) = maps::plan(&self.actual, wanted, || epochs.next(since_boot()))?;
        if plan.is_empty() {
            return Ok(());
        }
        if let Err(error) = maps::apply(&self.datapath.tables, &plan) {
            // Some writes were made: only the maps themselves know which.
            self.vacated.forget();
            self.actual = self.datapath.tables.read()?;
            return Err(error.into());
        }
        outcome.writes += plan.writes();
        self.actual = image;
        self.vacated.leave(&plan.ports.remove);
        let tables = &self.datapath.tables;
        if !self.away.is_empty() {
            kept::without_slot(tables, &plan.ports.remove.iter().copied().collect())?;
        }
        Ok(kept::without_lender(tables, &self.actual.outside.shared.externals, &plan.vteps.remove)?)
    }

    async fn tunnel(&mut self, outcome: &mut Outcome) {
        let mut row = Attachment { role: "tunnel".to_owned(), name: tunnel::NAME.to_owned(), ..Attachment::default() };
        row.device.clone_from(&row.name);
        let result = match tunnel::ensure(self.observer.handle()).await {
            Ok(link) => {
                row.ifindex = link.index;
                row.mtu = link.mtu;
                self.datapath.attach(&LinkName::Tunnel, link.index).map_err(|error| chain(&error))
            }
            Err(error) => Err(chain(&error)),
        };
        match result {
            Ok(()) => {
                row.mode = self.datapath.way().mode().to_owned();
                row.reason = self.datapath.way().explain("TCP is merged by the kernel's tunnel device first");
            }
            Err(reason) => {
                row.mode = "failed".to_owned();
                outcome.problems.push(format!("tunnel: {reason}"));
                row.reason = reason;
            }
        }
        outcome.attachments.push(row);
    }

    /// Removes the links of ports and uplinks that the topology no longer has here.
    fn detach(&mut self, desired: &Desired, outcome: &mut Outcome) {
        let ports: BTreeSet<u64> =
            desired.ports.values().filter(|port| port.device.is_some()).map(|port| port.record.uid).collect();
        let stale: Vec<LinkName> = self
            .datapath
            .attachments
            .names()
            .into_iter()
            .filter(|name| match name {
                LinkName::Port(uid) | LinkName::PortXdp(uid) => !ports.contains(uid),
                LinkName::Uplink(device, UplinkHook::Xdp | UplinkHook::Tc) => !desired.node.uplinks.contains(device),
                LinkName::External(device) => {
                    desired.outside.outlet.as_ref().is_none_or(|outlet| outlet.device != *device)
                }
                LinkName::Tunnel | LinkName::Offload => false,
            })
            .collect();
        for name in stale {
            if let Err(error) = self.datapath.attachments.remove(&name) {
                outcome.problems.push(chain(&error));
            }
        }
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
