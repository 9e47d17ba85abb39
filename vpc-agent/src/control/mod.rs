//! The control socket: one JSON object a line, a request and then its answer.

pub mod client;
pub mod report;
pub mod server;

use serde::{Deserialize, Serialize};

/// Default directory of the control socket.
pub const RUN_DIR: &str = "/run/vpc-agent";
/// Name of the control socket in it.
pub const SOCKET: &str = "agent.sock";
/// Version of requests and answers. An agent refuses requests of another one.
pub const VERSION: u32 = 1;

/// A request with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// See [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`report::Status`].
    Status,
    /// [`report::Listing`].
    Get(Kind),
    /// A list of [`report::PortDrops`].
    Drops,
    /// A list of [`report::SessionRow`].
    Sessions {
        /// Which ones.
        filter: SessionFilter,
        /// At most so many; 0 for all.
        limit: usize,
    },
    /// Removes sessions: [`report::Flushed`].
    FlushSessions(SessionFilter),
    /// [`report::NatReport`].
    Nat {
        /// Which mappings.
        filter: SessionFilter,
        /// At most so many; 0 for all.
        limit: usize,
    },
    /// Gives the state of a port away: [`crate::port_state::Given`].
    ExportPort {
        /// Its name.
        port: String,
    },
    /// Takes the state of a port over: [`crate::port_state::Outcome`].
    ImportPort {
        /// [`crate::port_state::PortState`], unread.
        state: serde_json::Value,
    },
    /// [`report::PlanReport`] of a topology's text.
    Plan {
        /// Name of the file, for messages.
        name: String,
        /// Its text.
        text: String,
    },
    /// Ends the agent, so that everything can be removed. Answered when it holds nothing any more.
    Stop,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Local ports.
    Ports,
    /// Endpoints that this node knows.
    Endpoints,
    /// Routes of the tables that local ports use.
    Routes,
    /// The other nodes.
    Vteps,
    /// Subnets of the VPCs that this node takes part in.
    Subnets,
    /// Rules of security groups and policy groups, by local port.
    SecurityGroups,
    /// Rules of network ACLs, by local port.
    NetworkAcls,
    /// What ports received, and what became of it.
    Counters,
}

/// Which sessions or mappings are meant: those of which all that is given is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFilter {
    /// Of that port only.
    pub port: Option<String>,
    /// Of ports of that VPC only.
    pub vpc: Option<String>,
    /// With that local, remote or external address only.
    pub address: Option<std::net::IpAddr>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

impl Answer {
    /// Of a result, in the form of its type.
    pub fn of<T: Serialize>(result: Result<T, String>) -> Self {
        match result.and_then(|value| serde_json::to_value(value).map_err(|error| error.to_string())) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(error),
        }
    }
}
