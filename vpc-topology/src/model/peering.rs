//! Peerings.

use super::Name;
use crate::{diagnostics::Spanned, document::record};

record! {
    /// Two VPCs that may route to each other.
    pub struct Peering, "peering" {
        /// Name of the peering; routes refer to it.
        name: Spanned<Name>,
        /// One VPC.
        requester: Spanned<Name>,
        /// The other.
        accepter: Spanned<Name>,
    }
    later []
}
