//! VPCs.

use super::{AtLeastOne, Cidr, Name, Quotas, SessionTimeouts, number::VniNumber};
use crate::{diagnostics::Spanned, document::record};

record! {
    /// A virtual network with its own address space.
    pub struct Vpc, "VPC" {
        /// Name of the VPC.
        name: Spanned<Name>,
        /// Identifier of routed traffic in the underlay, unique in the fabric.
        vni: Spanned<VniNumber>,
        /// Address blocks that subnets are cut from. They may be those of another VPC.
        cidr_blocks: AtLeastOne<Spanned<Cidr>>,
        /// How long the sessions of its ports live without a packet.
        session_timeouts: Option<SessionTimeouts>,
        /// What its ports may use together on one node.
        quotas: Option<Quotas>,
    }
    later ["dhcp_options", "dns"]
}
