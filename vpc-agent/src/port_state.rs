//! The state of a port that moves to another node: its sessions and NAT mappings, as text.
//!
//! What depends on the node is not in it: no slots, epochs, ticks, VTEPs, rule numbers. Times are ages. The decisions of
//! sessions are left out, so the other node takes them anew, under its own tables, with each flow's next packet.

mod belongings;
mod give;
pub(crate) mod kept;
mod take;

pub use give::{Given, Giving, give};
pub use take::{Outcome, Taken, take};

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{SocketAddr, SocketAddrV4},
};
use thiserror::Error;
use vpc_bpf::TableError;
use vpc_common::session::{TICK_SHIFT, decided, state};

/// [`PortState::format`].
pub const FORMAT: &str = "vpc-dataplane port state";
/// [`PortState::version`]. Another one is refused.
pub const VERSION: u32 = 1;
/// Mismatches that are told one by one.
const TOLD: usize = 20;

/// The state of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Name of the port.
    pub port: String,
    /// Its MAC.
    pub mac: String,
    /// Name of its VPC.
    pub vpc: String,
    /// Name of the node that gave it away.
    pub node: String,
    /// Its flows.
    pub sessions: Vec<SessionState>,
    /// Its NAT mappings.
    pub mappings: Vec<MappingState>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    /// IP protocol.
    pub protocol: u8,
    /// The guest's address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The external address and port that stand for the guest's.
    pub external: Option<SocketAddrV4>,
    /// Where its life stands.
    pub state: FlowState,
    /// Whether the guest opened it; otherwise its peer did.
    pub opened_by_guest: bool,
    /// Whether it goes on when the rule that allowed it goes.
    pub outlives_rule: bool,
    /// Whether the guest has sent FIN.
    pub guest_fin: bool,
    /// Whether its peer has.
    pub peer_fin: bool,
    /// TCP: the sequence number that the guest expects next.
    pub guest_expects: u32,
    /// TCP: the same of its peer.
    pub peer_expects: u32,
    /// How long ago it saw a packet.
    pub idle_milliseconds: u64,
    /// How long ago it was opened.
    pub age_milliseconds: u64,
    /// Frames that the guest sent.
    pub sent_packets: u32,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that the guest was sent.
    pub received_packets: u32,
    /// Their bytes.
    pub received_bytes: u64,
}

/// [`vpc_common::session::state`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the constants of `vpc_common::session::state`")]
pub enum FlowState {
    Opening,
    Answered,
    Established,
    Closing,
    Closed,
    OneWay,
    TwoWay,
}

impl FlowState {
    const ALL: [(Self, u8); 7] = [
        (Self::Opening, state::OPENING),
        (Self::Answered, state::ANSWERED),
        (Self::Established, state::ESTABLISHED),
        (Self::Closing, state::CLOSING),
        (Self::Closed, state::CLOSED),
        (Self::OneWay, state::ONE_WAY),
        (Self::TwoWay, state::TWO_WAY),
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, other)| *other == number).map(|(state, _)| state)
    }

    fn number(self) -> u8 {
        Self::ALL.into_iter().find(|(state, _)| *state == self).map_or(state::CLOSED, |(_, number)| number)
    }
}

impl SessionState {
    /// [`decided`] without the decisions.
    fn flags(&self) -> u8 {
        let bits = [
            (self.opened_by_guest, decided::OPENED_HERE),
            (self.outlives_rule, decided::KEEP),
            (self.guest_fin, decided::GUEST_FIN),
            (self.peer_fin, decided::PEER_FIN),
        ];
        bits.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
    }
}

/// One NAT mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingState {
    /// Name of the NAT gateway.
    pub nat_gateway: String,
    /// IP protocol.
    pub protocol: u8,
    /// The guest's address and port.
    pub internal: SocketAddrV4,
    /// The ones that peers see.
    pub external: SocketAddrV4,
    /// How long ago a session used it.
    pub idle_milliseconds: u64,
}

/// A port's state cannot be given or taken.
#[derive(Debug, Error)]
pub enum PortStateError {
    /// There is no such port.
    #[error("no port {0} on this node")]
    UnknownPort(String),
    /// It is not what it should be.
    #[error("this is no port state of version {VERSION}: {0}")]
    Format(String),
    /// It does not fit. Nothing of it was taken.
    #[error("the state of port {port} does not fit this node, nothing of it was taken:{mismatches}")]
    Mismatch {
        /// The port.
        port: String,
        /// Why.
        mismatches: Mismatches,
    },
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Everything that does not fit.
#[derive(Debug, Default)]
pub struct Mismatches(Vec<String>);

impl fmt::Display for Mismatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in self.0.iter().take(TOLD) {
            write!(f, "\n  {text}")?;
        }
        match self.0.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Ticks in milliseconds.
fn milliseconds(ticks: u16) -> u64 {
    (u64::from(ticks) << TICK_SHIFT) / 1_000_000
}

/// Milliseconds in ticks, rounded so that [`milliseconds`] is undone.
fn ticks(milliseconds: u64) -> u16 {
    let nanoseconds = milliseconds.saturating_add(1).saturating_mul(1_000_000);
    u16::try_from(nanoseconds >> TICK_SHIFT).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_survive_the_way_through_text() {
        for count in [0, 1, 2, 3, 100, 3_465, 30_175] {
            assert_eq!(ticks(milliseconds(count)), count);
        }
        assert_eq!(ticks(u64::MAX), u16::MAX);
    }

    #[test]
    fn every_state_has_one_name() {
        for number in 0..=u8::MAX {
            if let Some(state) = FlowState::of(number) {
                assert_eq!(state.number(), number);
            }
        }
        assert_eq!(FlowState::of(state::ESTABLISHED), Some(FlowState::Established));
    }
}
