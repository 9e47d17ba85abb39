//! The frames that announce an address: of either family, what takes an address over in every neighbour cache outside.

use vpc_common::{
    Be16, Be32, Ip, Mac,
    wire::{Arp, Ethernet, Icmp, Ipv6, ether_type, protocol},
};
use vpc_datapath::{checksum, respond::icmp::pseudo_sum, respond::nd};

/// All nodes of a link (RFC 4291 §2.7.1).
const ALL_NODES: Ip = Ip([0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()]);
/// The MAC that their packets go to (RFC 2464 §7).
const ALL_NODES_MAC: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);

/// Tells all on the link that `own` has the address.
pub(super) fn announcement(own: Mac, address: Ip) -> Vec<u8> {
    if address.is_v4() { gratuitous_arp(own, address.low()) } else { unsolicited_advertisement(own, address) }
}

/// A request of the address for itself (RFC 5227 §3).
fn gratuitous_arp(own: Mac, address: Be32) -> Vec<u8> {
    let ethernet = Ethernet { destination: Mac::BROADCAST, source: own, ether_type: ether_type::ARP };
    let arp = Arp {
        hardware: Be16::new(1),
        protocol: ether_type::IPV4,
        hardware_length: 6,
        protocol_length: 4,
        operation: Be16::new(1),
        sender_mac: own,
        sender: address,
        target_mac: Mac::default(),
        target: address,
    };
    [bytemuck::bytes_of(&ethernet), bytemuck::bytes_of(&arp)].concat()
}

/// What `nd` answers to a solicitation from outside, to all nodes and solicited by none (RFC 4861 §7.2.6).
fn unsolicited_advertisement(own: Mac, address: Ip) -> Vec<u8> {
    const LENGTH: u16 = size_of::<nd::Advertisement>() as u16;
    let ethernet = Ethernet { destination: ALL_NODES_MAC, source: own, ether_type: ether_type::IPV6 };
    let ip = Ipv6 {
        version_class_flow: Be32::new(6 << 28),
        payload_length: Be16::new(LENGTH),
        next_header: protocol::ICMPV6,
        hop_limit: 255,
        source: address.bytes(),
        destination: ALL_NODES.bytes(),
    };
    let flags = nd::OVERRIDE.to_be_bytes();
    let icmp = Icmp { kind: nd::ADVERTISEMENT, id: Be16([flags[0], flags[1]]), ..Icmp::default() };
    let mut advertisement = nd::Advertisement {
        neighbour: nd::Neighbour { icmp, target: address.bytes() },
        option: nd::LinkLayerOption { kind: nd::TARGET_LINK_LAYER, length: 1, mac: own },
    };
    let sum = checksum::sum(bytemuck::bytes_of(&advertisement)) + pseudo_sum(address, ALL_NODES, LENGTH.into());
    advertisement.neighbour.icmp.checksum = Be16::from_raw(!checksum::fold(sum));
    [bytemuck::bytes_of(&ethernet), bytemuck::bytes_of(&ip), bytemuck::bytes_of(&advertisement)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_ipv4_address_is_asked_for_in_its_own_name() {
        let frame = announcement(OWN, Ip::v4(Be32([203, 0, 113, 20])));
        let expected = [
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6][..],
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 203, 0, 113, 20, 0, 0, 0, 0, 0, 0, 203, 0, 113, 20],
        ];
        assert_eq!(frame, expected.concat());
    }

    #[test]
    fn an_ipv6_address_is_advertised_to_all_nodes() {
        let address = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10];
        let frame = announcement(OWN, Ip::from_bytes(address));
        let expected = [
            &[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd][..],
            &[0x60, 0, 0, 0, 0, 32, 58, 255],
            &address,
            &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            // Override, neither router nor solicited.
            &[136, 0, 0xf9, 0x08, 0x20, 0, 0, 0],
            &address,
            &[2, 1, 2, 0, 0, 0, 0, 1],
        ];
        assert_eq!(frame, expected.concat());
    }
}
