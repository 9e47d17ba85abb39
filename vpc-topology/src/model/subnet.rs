//! Subnets.

use super::{Address, AtLeastOne, Cidr, Name, Stated, number::VniNumber};
use crate::{diagnostics::Spanned, document::record};
use std::net::IpAddr;

record! {
    /// A part of a VPC whose ports share a broadcast domain.
    pub struct Subnet, "subnet" {
        /// Name of the subnet.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// Its address blocks, inside those of the VPC.
        cidr_blocks: AtLeastOne<Spanned<Cidr>>,
        /// Address of the router in each block. Default: the first host address.
        gateway_ips: Vec<Spanned<Address>>,
        /// Its own identifier in the underlay, for plain VTEPs to join. Default: that of the VPC.
        vni: Option<Spanned<VniNumber>>,
        /// Its route table. Default: the VPC's main table, which reaches the VPC itself.
        route_table: Option<Spanned<Name>>,
        /// Its network ACL. Default: none, everything passes.
        network_acl: Stated<Spanned<Name>>,
    }
    later []
}

impl Subnet {
    /// Address of the router in a block.
    pub fn gateway(&self, block: Cidr) -> IpAddr {
        let given = self.gateway_ips.iter().map(|address| address.value.0).find(|address| block.contains(*address));
        given.unwrap_or_else(|| block.first_host())
    }

    /// Each block with its router's address.
    pub fn gateways(&self) -> impl Iterator<Item = (Cidr, IpAddr)> + '_ {
        self.cidr_blocks.iter().map(|block| (block.value, self.gateway(block.value)))
    }
}
