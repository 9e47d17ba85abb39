//! Nodes.

use super::{Address, DeviceName, Name, NodeGateway, NodeId, OneOrMore};
use crate::{
    diagnostics::Spanned,
    document::{choice, record},
};

record! {
    /// A node of the fabric: a hypervisor with its agent, or a plain VTEP.
    pub struct Node, "node" {
        /// Name of the node; the agent is started with it.
        name: Spanned<Name>,
        /// Number of the node, unique, 1 to 4095.
        id: Spanned<NodeId>,
        /// Address of the node in the underlay. All nodes have the same family.
        vtep: Spanned<Address>,
        /// Device or devices through which the underlay is reached; flows are spread over several.
        uplink | uplinks: OneOrMore<Spanned<DeviceName>>,
        /// Availability zone.
        zone: Option<Spanned<Name>>,
        /// Makes the node a gateway to the outside.
        gateway: Option<NodeGateway>,
        /// How tunnel packets are received. Default: auto.
        receive_mode: Option<Spanned<ReceiveMode>>,
        /// Whether the node runs an agent. Without one it is a plain VTEP, which others configure. Default: true.
        agent: Option<Spanned<bool>>,
        /// What becomes of the DSCP of a packet in the tunnel (RFC 2983). Default: uniform.
        dscp: Option<Spanned<Dscp>>,
    }
    later []
}

choice! {
    /// How tunnel packets are received.
    pub enum ReceiveMode, "a receive mode" {
        /// XDP where the driver has it natively, loses nothing by it and is faster so; TC otherwise, as on a veth.
        Auto = "auto",
        /// XDP; an error where the driver has none.
        Xdp = "xdp",
        /// TC only: the uplink keeps its receive offloads.
        Tc = "tc",
    }
}

choice! {
    /// What becomes of the DSCP of a packet in the tunnel (RFC 2983).
    pub enum Dscp, "a DSCP model" {
        /// Copied out on encapsulation and back in on decapsulation.
        Uniform = "uniform",
        /// The tunnel has its own; the packet's stays as it was.
        Pipe = "pipe",
    }
}

impl Node {
    /// Whether the node runs an agent.
    pub fn runs_agent(&self) -> bool {
        self.agent.is_none_or(|agent| agent.value)
    }
}
