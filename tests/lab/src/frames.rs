//! Frames as bytes, sent by a guest as they are, past its kernel.

use crate::netns::Netns;
use anyhow::{Context, Result};
use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

const HOPS: u8 = 64;

/// Sends frames out of a device.
pub struct FrameSender {
    socket: OwnedFd,
    ifindex: i32,
}

impl FrameSender {
    /// A sender for a device of a namespace.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses the socket.
    pub fn new(netns: &Netns, device: &str) -> Result<Self> {
        netns.enter(|| {
            let ifindex = nix::net::if_::if_nametoindex(device).with_context(|| format!("no device {device}"))? as i32;
            // SAFETY: no addresses are passed. Protocol 0: nothing is received.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("open a packet socket");
            }
            // SAFETY: the kernel just made it for this caller alone.
            Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, ifindex })
        })?
    }

    /// Sends a frame so many times.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn send(&self, frame: &[u8], times: u64) -> Result<()> {
        let address = link_layer(self.ifindex);
        for _ in 0..times {
            // SAFETY: frame and address have the stated lengths and are alive during the call.
            let sent = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    std::ptr::from_ref(&address).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            if sent < 0 {
                return Err(io::Error::last_os_error()).context("send a frame");
            }
        }
        Ok(())
    }
}

/// Receives the IPv4 frames that come in at a device, whoever else does.
pub struct FrameReceiver {
    socket: OwnedFd,
}

impl FrameReceiver {
    /// A receiver for a device of a namespace.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses the socket.
    pub fn new(netns: &Netns, device: &str) -> Result<Self> {
        // Of a bridge's port nothing else is seen than what everything is seen of.
        const ALL: u16 = libc::ETH_P_ALL as u16;
        netns.enter(|| {
            let ifindex = nix::net::if_::if_nametoindex(device).with_context(|| format!("no device {device}"))? as i32;
            let protocol = i32::from(ALL.to_be());
            // SAFETY: no addresses are passed.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("open a packet socket");
            }
            // SAFETY: the kernel just made it for this caller alone.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let mut address = link_layer(ifindex);
            address.sll_protocol = ALL.to_be();
            // SAFETY: the address has the stated length and is alive during the call.
            let bound =
                unsafe { libc::bind(fd, std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
            if bound < 0 {
                return Err(io::Error::last_os_error()).context("bind a packet socket");
            }
            Ok(Self { socket })
        })?
    }

    /// The next frame that comes in within the time; what the device sends itself is passed over.
    ///
    /// # Errors
    /// The kernel refuses a call.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        const IPV4: u16 = 0x0800;
        let start = Instant::now();
        loop {
            let left = patience.saturating_sub(start.elapsed());
            let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, alive during the call.
            if unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32) } <= 0 {
                return Ok(None);
            }
            let (mut buffer, mut address) = (vec![0; 65_536], link_layer(0));
            let mut length = size_of::<libc::sockaddr_ll>() as u32;
            // SAFETY: buffer and address have the stated lengths and are alive during the call.
            let received = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                    std::ptr::from_mut(&mut address).cast(),
                    &mut length,
                )
            };
            if received < 0 {
                return Err(io::Error::last_os_error()).context("receive a frame");
            }
            if address.sll_pkttype != libc::PACKET_OUTGOING && address.sll_protocol == IPV4.to_be() {
                buffer.truncate(received as usize);
                return Ok(Some(buffer));
            }
        }
    }
}

fn link_layer(ifindex: i32) -> libc::sockaddr_ll {
    // SAFETY: zero is valid for plain numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex;
    address
}

/// An Ethernet address.
pub type Mac = [u8; 6];

/// An Ethernet frame.
pub fn ethernet(source: Mac, destination: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source[..], &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    (header[8], header[9]) = (ttl, protocol);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// The fragments of an IPv4 packet of that identification, each with at most so many bytes of the payload.
pub fn fragments(packet: &[u8], identification: u16, most: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    // Offsets are in units of eight bytes (RFC 791 §3.1).
    let (chunk, last) = (most & !7, payload.len().saturating_sub(1));
    let fragment = |(index, part): (usize, &[u8])| {
        let mut header = header.to_vec();
        let offset = index * chunk;
        let more = if offset + part.len() > last { 0 } else { 0x2000 };
        header[2..4].copy_from_slice(&((20 + part.len()) as u16).to_be_bytes());
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[6..8].copy_from_slice(&(more | (offset / 8) as u16).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header[..], part].concat()
    };
    payload.chunks(chunk).enumerate().map(fragment).collect()
}

/// A UDP datagram over IPv4, without a checksum.
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), ttl: u8) -> Vec<u8> {
    datagram(source, destination, ttl, b"counted")
}

/// The same with a payload of one's choice.
pub fn datagram(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    ipv4(source.0, destination.0, ttl, 17, &[&ports[..], payload].concat())
}

/// A TCP SYN over IPv4.
pub fn syn(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut header = [0; 20];
    header[..2].copy_from_slice(&source.1.to_be_bytes());
    header[2..4].copy_from_slice(&destination.1.to_be_bytes());
    (header[12], header[13]) = (5 << 4, 0x02);
    let pseudo = [&source.0.octets()[..], &destination.0.octets(), &[0, 6, 0, 20]].concat();
    let sum = checksum(&[&pseudo, &header]);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(source.0, destination.0, HOPS, 6, &header)
}

/// An echo request over IPv4.
pub fn echo_request(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut message = [8, 0, 0, 0, 0, 7, 0, 1];
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(source, destination, HOPS, 1, &message)
}

/// An ARP request.
pub fn arp_request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    [&fixed[..], &sender.0, &sender.1.octets(), &[0; 6], &target.octets()].concat()
}

/// A frame in VXLAN, as the payload of a UDP datagram.
pub fn vxlan(flags: u8, vni: u32, frame: &[u8]) -> Vec<u8> {
    [&[flags, 0, 0, 0][..], &(vni << 8).to_be_bytes(), frame].concat()
}

/// The Internet checksum of parts of even lengths (RFC 1071); 0 over what holds a right one.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_add_up_to_zero() {
        let (a, b) = (Ipv4Addr::new(10, 0, 1, 10), Ipv4Addr::new(10, 0, 1, 11));
        let packet = syn((a, 1), (b, 2));
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(checksum(&[&packet[12..20], &[0, 6, 0, 20], &packet[20..]]), 0);
        assert_eq!(checksum(&[&echo_request(a, b)[20..]]), 0);
    }

    #[test]
    fn fragments_are_the_packet() {
        let (a, b) = (Ipv4Addr::new(10, 0, 1, 10), Ipv4Addr::new(10, 0, 1, 11));
        let packet = datagram((a, 1), (b, 2), 64, &[7; 92]);
        let parts = fragments(&packet, 5, 52);
        let fields: Vec<_> = parts.iter().map(|part| (part.len() - 20, part[6], part[7])).collect();
        assert_eq!(fields, [(48, 0x20, 0), (48, 0x20, 6), (4, 0, 12)]);
        assert!(parts.iter().all(|part| checksum(&[&part[..20]]) == 0));
        let payload: Vec<u8> = parts.iter().flat_map(|part| part[20..].to_vec()).collect();
        assert_eq!(payload, packet[20..]);
    }
}
