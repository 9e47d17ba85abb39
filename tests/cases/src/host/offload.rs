//! What the kernel makes of a packet before it enters the offload device, written a second time.

use vpc_common::{
    Be16,
    wire::{Ethernet, Ipv4, protocol},
};
use vpc_datapath::checksum;

const L3: usize = size_of::<Ethernet>();
const L4: usize = L3 + size_of::<Ipv4>();
const PROTOCOL: usize = L3 + 9;
/// The segments of a UDP packet in IPv4 without options, of `gso_size` bytes of payload each; 0: it is one segment, and may be
/// of TCP. Checksums are finished. Other packets stay as they are.
pub(super) fn finish(frame: &[u8], gso_size: u32) -> Vec<Vec<u8>> {
    let headers = match frame.get(PROTOCOL) {
        Some(&protocol::TCP) if gso_size == 0 => L4 + 20,
        Some(&protocol::UDP) => L4 + 8,
        _ => return vec![frame.to_vec()],
    };
    let Some((headers, payload)) = frame.split_at_checked(headers) else { return vec![frame.to_vec()] };
    let size = if gso_size == 0 { payload.len().max(1) } else { gso_size as usize };
    let count = payload.len().div_ceil(size).max(1);
    let segment = |number| {
        let from = number * size;
        let mut segment = [headers, &payload[from..payload.len().min(from + size)]].concat();
        settle(&mut segment, number as u16);
        segment
    };
    (0..count).map(segment).collect()
}

/// The `number`th segment's own lengths, identification and checksums.
fn settle(segment: &mut [u8], number: u16) {
    let (l3, l4) = segment[L3..].split_at_mut(size_of::<Ipv4>());
    let ip: &mut Ipv4 = bytemuck::from_bytes_mut(l3);
    ip.total_length = Be16::new((size_of::<Ipv4>() + l4.len()) as u16);
    ip.id = Be16::new(ip.id.get().wrapping_add(number));
    ip.checksum = Be16::default();
    ip.checksum = Be16::from_raw(!checksum::ipv4_sum(ip));
    let (field, of_zero) = if ip.protocol == protocol::TCP { (16, 0) } else { (6, 0xffff) };
    if ip.protocol == protocol::UDP {
        let length = l4.len() as u16;
        l4[4..6].copy_from_slice(&length.to_be_bytes());
    }
    l4[field..field + 2].fill(0);
    let pseudo = u64::from(ip.source.raw())
        + u64::from(ip.destination.raw())
        + u64::from(u16::from(ip.protocol).to_be())
        + u64::from((l4.len() as u16).to_be());
    let sum = !checksum::fold(pseudo + checksum::sum(l4));
    let sum = if sum == 0 { of_zero } else { sum };
    l4[field..field + 2].copy_from_slice(&sum.to_ne_bytes());
}
