//! Route tables.

use super::{AtLeastOne, Cidr, Name, Stated};
use crate::{diagnostics::Spanned, document::record};

record! {
    /// Where the traffic of the subnets that use the table goes. The VPC's own blocks are always in it.
    pub struct RouteTable, "route table" {
        /// Name of the table.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// Its routes. The longest prefix wins, whatever the target.
        routes: Vec<Route>,
    }
    later []
}

record! {
    /// One route: a destination and exactly one target.
    pub struct Route, "route" {
        /// The block of addresses that it is for.
        destination: Spanned<Cidr>,
        /// `true`: the destination is in the VPC itself.
        local: Option<Spanned<bool>>,
        /// The next hop is this port of the VPC.
        port: Option<Spanned<Name>>,
        /// The next hop is one of these ports of the VPC, by the flow: both of its directions take the same one. Each is
        /// an instance that routes for others (`source_dest_check: false`).
        ports: Stated<AtLeastOne<Spanned<Name>>>,
        /// `true`: dropped without an answer.
        blackhole: Option<Spanned<bool>>,
        /// The destination is in the VPC at the other end of this peering.
        peering: Option<Spanned<Name>>,
        /// Outside, by the port's elastic IP and this internet gateway of the VPC.
        internet_gateway: Option<Spanned<Name>>,
        /// Outside, by an address of this NAT gateway of the VPC.
        nat_gateway: Option<Spanned<Name>>,
    }
    later ["vpn_connection"]
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// The VPC itself.
    Local,
    /// A port.
    Port(&'a Spanned<Name>),
    /// One of several ports.
    Ports(&'a [Spanned<Name>]),
    /// Nowhere.
    Blackhole,
    /// A peer.
    Peering(&'a Spanned<Name>),
    /// Outside, by elastic IPs.
    InternetGateway(&'a Spanned<Name>),
    /// Outside, by a NAT gateway.
    NatGateway(&'a Spanned<Name>),
}

impl Route {
    /// The targets that are given: exactly one in a valid topology.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let local = self.local.filter(|local| local.value).map(|_| Target::Local);
        let blackhole = self.blackhole.filter(|blackhole| blackhole.value).map(|_| Target::Blackhole);
        let port = self.port.as_ref().map(Target::Port);
        let ports = self.ports.get().map(|ports| Target::Ports(ports));
        let peering = self.peering.as_ref().map(Target::Peering);
        let internet_gateway = self.internet_gateway.as_ref().map(Target::InternetGateway);
        let nat_gateway = self.nat_gateway.as_ref().map(Target::NatGateway);
        [local, port, ports, blackhole, peering, internet_gateway, nat_gateway].into_iter().flatten()
    }
}
