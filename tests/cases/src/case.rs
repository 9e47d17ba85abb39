//! The form of a case file.

use crate::{machine::Machine, packet::Layer};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use vpc_common::{
    nat::{ExternalPort, NatIn, NatOut, NatOutKey},
    session::state,
};

/// One file of `tests/packets`: a topology, and what happens to packets in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// What the file is about.
    pub about: String,
    /// The node whose datapath is run.
    pub node: String,
    /// A topology file.
    pub topology: String,
    /// What the agent finds on the node.
    #[serde(default)]
    pub machine: Machine,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case. Each starts with empty sessions, full buckets and counters at zero.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The line of the contract and what is expected, in words.
    pub name: String,
    /// Lines of the contract.
    pub covers: Vec<String>,
    /// Why the kernel cannot run it; left out where it can.
    pub host_only: Option<String>,
    /// The first Linux that can run it, where that is not the oldest: major and minor version.
    #[serde(default)]
    pub linux: (u32, u32),
    /// The one packet; or else `steps`.
    pub send: Option<Box<Send>>,
    /// What happens, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

impl Case {
    /// What happens, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.send.iter().cloned().map(Step::Send).chain(self.steps.iter().cloned())
    }
}

/// One step of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// A packet arrives.
    Send(Box<Send>),
    /// Time passes, milliseconds.
    Wait(u64),
    /// A piece of the topology's text is replaced.
    Edit(Edit),
    /// The machine changes; the whole of it is given.
    Machine(Machine),
    /// A bucket is emptied, and no token comes.
    Exhaust(Exhaust),
    /// A NAT mapping is put in, as an agent does that takes or gives away the state of a port.
    Mapping(Mapping),
}

/// A packet and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Where it arrives.
    #[serde(default)]
    pub hook: Hook,
    /// The port that sends it, for [`Hook::Port`], [`Hook::PortXdp`], [`Hook::Wire`] and [`Hook::Offload`]; a device's name where
    /// no port has the device.
    pub from: Option<String>,
    /// The packet.
    pub packet: Vec<Layer>,
    /// Payload of one segment of a GSO frame, bytes.
    #[serde(default)]
    pub gso_size: u32,
    /// Who fills in the checksum of TCP or UDP and cuts segments; for [`Hook::Wire`].
    #[serde(default)]
    pub offload: Offload,
    /// What is expected.
    pub expect: Expect,
}

/// What a workload leaves to its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offload {
    /// Nothing.
    #[default]
    None,
    /// The checksum, and segmentation where `gso_size` is given.
    Transmit,
}

/// Where a packet arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// At a port's interface, from its workload.
    #[default]
    Port,
    /// The same, sent by the workload's end of a real veth: what the kernel itself does to a frame is in it, and what comes
    /// out of the offload device.
    Wire,
    /// At a port's interface, XDP: packet-rate mode.
    PortXdp,
    /// At an uplink, XDP.
    UplinkXdp,
    /// At an uplink, TC.
    UplinkTc,
    /// At an uplink by TC and, if that lets it pass, at the tunnel device.
    Tunnel,
    /// At a gateway's external interface, from outside.
    External,
    /// At the far end of the offload device, a packet of the port `from`, or from `outside`; without one, a stranger's.
    Offload,
}

/// What is expected of a packet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `drop REASON`, `transmit UPLINK`, `deliver PORT`, `answer`, `punt`, `replicated` or `offload`.
    pub verdict: String,
    /// The packet as it leaves; needed unless it is dropped or replicated.
    pub packet: Option<Leaving>,
    /// The copies that were sent, by interface, in order.
    #[serde(default)]
    pub copies: Vec<Copied>,
    /// What the counters moved by, whole: what is not named did not move. Checked where it is given; the sum of K1 is
    /// always checked.
    pub counters: Option<BTreeMap<String, PortDelta>>,
    /// The sessions there are afterwards, whole.
    pub sessions: Option<Vec<ExpectedSession>>,
}

/// A packet that leaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Leaving {
    /// As it came.
    Unchanged(Unchanged),
    /// That one.
    Layers(Vec<Layer>),
}

/// The word `unchanged`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unchanged {
    /// See [`Leaving::Unchanged`].
    Unchanged,
}

/// A copy on an interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// A port, or an uplink.
    pub to: String,
    /// The packet.
    pub packet: Leaving,
}

/// What the counters of a slot moved by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortDelta {
    /// What the workload sent.
    pub egress: DirectionDelta,
    /// What it was sent.
    pub ingress: DirectionDelta,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
}

/// What the counters of a direction moved by.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields of `vpc_common::counters::DirectionCounters`")]
pub struct DirectionDelta {
    pub received: u64,
    pub received_bytes: u64,
    pub forwarded: u64,
    pub forwarded_bytes: u64,
    pub answered: u64,
    pub punted: u64,
    pub dropped: u64,
}

impl std::fmt::Debug for DirectionDelta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { received, received_bytes, forwarded, forwarded_bytes, answered, punted, dropped } = self;
        let all = [
            ("received", received),
            ("received_bytes", received_bytes),
            ("forwarded", forwarded),
            ("forwarded_bytes", forwarded_bytes),
            ("answered", answered),
            ("punted", punted),
            ("dropped", dropped),
        ];
        f.debug_map().entries(all.into_iter().filter(|(_, count)| **count != 0)).finish()
    }
}

/// A session that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSession {
    /// Its port.
    pub port: String,
    /// IP protocol.
    pub protocol: u8,
    /// The workload's address and port: `10.0.1.10 1000`.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// `egress`, `ingress` or both.
    pub decided: Vec<Decided>,
    /// Its state; checked where it is given.
    pub state: Option<State>,
}

/// See [`vpc_common::session::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[expect(missing_docs, reason = "they are documented there")]
pub enum State {
    Opening = state::OPENING,
    Answered = state::ANSWERED,
    Established = state::ESTABLISHED,
    Closing = state::CLOSING,
    Closed = state::CLOSED,
    OneWay = state::ONE_WAY,
    TwoWay = state::TWO_WAY,
}

impl State {
    const ALL: [Self; 7] =
        [Self::Opening, Self::Answered, Self::Established, Self::Closing, Self::Closed, Self::OneWay, Self::TwoWay];

    /// The inverse of `as u8`.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }
}

impl ExpectedSession {
    /// Whether it is the session that there is.
    pub fn is(&self, actual: &Self) -> bool {
        let state = self.state.or(actual.state);
        Self { state, ..self.clone() } == *actual
    }
}

/// A direction that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// What the workload sends.
    Egress,
    /// What it is sent.
    Ingress,
}

/// A change of the topology's text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// What stands there once.
    pub replace: String,
    /// What stands there then.
    pub with: String,
}

/// A bucket that is emptied.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exhaust {
    /// The port.
    pub port: String,
    /// Which one.
    pub bucket: Bucket,
}

/// A NAT mapping.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The port; one of another node has no slot.
    pub port: String,
    /// IP protocol.
    pub protocol: u8,
    /// The guest's address and port: `10.0.2.10 1000`.
    pub private: String,
    /// The external ones.
    pub external: String,
    /// For how many ticks it is kept when its guest has left; 0: the guest is here.
    #[serde(default)]
    pub kept: u16,
    /// How the guest gets there.
    #[serde(default)]
    pub led: Led,
}

/// How a guest gets to its NAT mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Led {
    /// `NAT_OUT` leads there, if the guest has a slot.
    #[default]
    There,
    /// By itself: it is the home of the guest's port.
    Home,
    /// Not any more: the mapping is at home, and is being removed.
    Away,
}

impl Led {
    /// The entry of `NAT_OUT`.
    pub fn way_out(self, key: &ExternalPort, mapping: &NatIn) -> Option<(NatOutKey, NatOut)> {
        let (guest, there) = mapping.way_out(key);
        match self {
            Self::There => (mapping.slot != 0).then_some((guest, there)),
            Self::Home => None,
            Self::Away => Some((guest, NatOut::LEAVING)),
        }
    }
}

/// A bucket of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Generated ICMP.
    Icmp,
    /// Broadcast and multicast.
    Flood,
    /// Long searches for an external port.
    Nat,
}

/// The directory of the case files.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packets")
}

/// All case files with their names, in the order of names.
///
/// # Errors
/// One cannot be read; the message says where and why.
pub fn files() -> Result<Vec<(String, CaseFile)>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory())
        .with_context(|| format!("read {}", directory().display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths.iter().map(|path| Ok((name_of(path), read(path)?))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads one case file.
///
/// # Errors
/// It is not there or not a case file.
pub fn read(path: &Path) -> Result<CaseFile> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}
