//! Ports.

use super::{
    Address, AddressBlock, AtLeastOne, DeviceName, Labels, Name, Pool, Quotas, SharedName, ThinList, mac::PortMac,
};
use crate::{
    diagnostics::Spanned,
    document::{choice, record},
};

record! {
    /// A workload's interface: a tap or a veth on a node.
    pub struct Port, "port" {
        /// Name of the port.
        name: Spanned<Name>,
        /// Its subnet.
        subnet: Spanned<SharedName>,
        /// The node that it is on.
        node: Spanned<SharedName>,
        /// Its interface on the host's side. Needed on nodes with an agent.
        device: Option<Spanned<DeviceName>>,
        /// The workload's Ethernet address, unique in the VPC.
        mac: Spanned<PortMac>,
        /// The workload's addresses, in blocks of the subnet, unique in the VPC.
        private_ips: AtLeastOne<Spanned<Address>>,
        /// Its security groups, of its VPC; all their rules hold. Default: the VPC's group `default`, unless a policy
        /// group selects the port.
        security_groups: ThinList<Spanned<Name>>,
    }
    few PortOptions {
        /// `false`: the port may send and receive for any address. Default: true.
        source_dest_check: Option<Spanned<bool>>,
        /// Further addresses that the port may send from and receive for.
        allowed_address_pairs: ThinList<Spanned<AddressBlock>>,
        /// Whether frames that are neither IP nor ARP may pass inside the subnet. Default: false.
        allow_non_ip: Option<Spanned<bool>>,
        /// Labels, by which policy groups select it.
        labels: Option<Labels>,
        /// What it may use.
        quotas: Option<Quotas>,
        /// What its interface is best at. Default: standard.
        mode: Option<Spanned<PortMode>>,
    }
    later ["bandwidth"]
}

choice! {
    /// What a port's interface is best at.
    pub enum PortMode, "a port mode" {
        /// Bulk data: frames of up to 64 KiB stay whole, by TC alone.
        Standard = "standard",
        /// Many small packets: what flows that stand send into the tunnel goes by XDP. On a veth this takes segmentation
        /// offload away from the workload.
        PacketRate = "packet-rate",
    }
}

impl Port {
    /// Has its names in common with other ports that have the same.
    pub(crate) fn share_names(&mut self, pool: &mut Pool) {
        pool.share(&mut self.subnet.value);
        pool.share(&mut self.node.value);
    }

    /// Whether it may send and receive for others.
    pub fn routes_for_others(&self) -> bool {
        self.few().source_dest_check.is_some_and(|check| !check.value)
    }

    /// Whether small packets count more than bulk data.
    pub fn is_for_packet_rate(&self) -> bool {
        self.few().mode.is_some_and(|mode| mode.value == PortMode::PacketRate)
    }

    /// Whether frames that are neither IP nor ARP may pass.
    pub fn allows_non_ip(&self) -> bool {
        self.few().allow_non_ip.is_some_and(|allow| allow.value)
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_port_takes_little() {
        assert!(size_of::<Port>() <= 160, "{}", size_of::<Port>());
    }
}
