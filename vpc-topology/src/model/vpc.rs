//! VPCs.

use super::{AtLeastOne, Cidr, Name, number::VniNumber};
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
    }
    later ["dhcp_options", "dns", "session_timeouts", "quotas"]
}
