//! Elastic IPs.

use super::{Address, Name};
use crate::{diagnostics::Spanned, document::record};

record! {
    /// An external address: that of a port, or one of a NAT gateway's.
    pub struct ElasticIp, "elastic IP" {
        /// Its name.
        name: Spanned<Name>,
        /// The address, of IPv4.
        address: Spanned<Address>,
        /// The port whose first IPv4 address it stands for. Without one it is for a NAT gateway.
        port: Option<Spanned<Name>>,
    }
    later []
}
