//! What leaves by an interface, seen at the other end of its veth; and the context of a made-up run.

use crate::runner::Arrival;
use anyhow::{Context, Result};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// The other end of an interface: a packet socket.
pub(super) struct Wire {
    socket: OwnedFd,
    index: u32,
}

/// Which frames count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Those to the VXLAN port: an uplink's own stack may talk too.
    Tunnel,
}

const ETH_P_ALL: u16 = 3;
const PACKET_OUTGOING: u8 = 4;
const PACKET_VNET_HDR: libc::c_int = 15;

impl Wire {
    /// Watches an interface. `of` is what it is the other end of.
    pub(super) fn open(name: &str, of: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(name).with_context(|| format!("find {name}, the end of {of}"))?;
        let socket = Self::open_raw(index).with_context(|| format!("watch {name}"))?;
        Ok(Self { socket, index })
    }

    /// A packet socket on an interface.
    fn open_raw(index: u32) -> Result<OwnedFd> {
        let protocol = ETH_P_ALL.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: a plain call without addresses.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("open a packet socket");
        }
        // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = Self::address(index);
        // SAFETY: the address has the stated length and is alive during the call.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound < 0 { Err(io::Error::last_os_error()).context("bind a packet socket") } else { Ok(socket) }
    }

    fn address(index: u32) -> libc::sockaddr_ll {
        // SAFETY: zero is valid for plain numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = index as i32;
        address
    }

    /// Sends a frame, which arrives at the interface.
    pub(super) fn send(&self, frame: &[u8]) -> Result<()> {
        Self::transmit(&self.socket, frame)
    }

    fn transmit(socket: &OwnedFd, bytes: &[u8]) -> Result<()> {
        // SAFETY: the buffer has the stated length and is alive during the call.
        let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()).context("send a frame") } else { Ok(()) }
    }

    /// The same as a workload with transmit offloads sends it: the checksum is only begun, and the frame is cut into
    /// segments of `gso_size` bytes further on if that is not 0.
    pub(super) fn send_offloaded(&self, frame: &[u8], gso_size: u16) -> Result<()> {
        let mut offloaded = Offloaded::new(frame, gso_size).context("TCP or UDP in IP without more headers")?;
        let own = Self::open_raw(self.index)?;
        let on: libc::c_int = 1;
        // SAFETY: the option's value is a number of the stated length, alive during the call.
        let set = unsafe {
            libc::setsockopt(
                own.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_VNET_HDR,
                std::ptr::from_ref(&on).cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        if set < 0 {
            return Err(io::Error::last_os_error()).context("announce offloads");
        }
        offloaded.header.append(&mut offloaded.frame);
        Self::transmit(&own, &offloaded.header)
    }

    /// The frames that have come out of the interface.
    pub(super) fn receive(&self, wanted: Wanted) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            let mut from = Self::address(self.index);
            let mut length = size_of::<libc::sockaddr_ll>() as u32;
            // SAFETY: buffer and address have the stated lengths and are alive during the call.
            let received = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    std::ptr::from_mut(&mut from).cast(),
                    &mut length,
                )
            };
            if received < 0 {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock {
                    Ok(frames)
                } else {
                    Err(error).context("receive a frame")
                };
            }
            let frame = &buffer[..received as usize];
            if from.sll_pkttype != PACKET_OUTGOING && (wanted == Wanted::All || is_tunnel(frame)) {
                frames.push(frame.to_vec());
            }
        }
    }
}

fn is_tunnel(frame: &[u8]) -> bool {
    let port = match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(36..38),
        Some([0x86, 0xdd]) => frame.get(56..58),
        _ => None,
    };
    port == Some(&vpc_common::limits::VXLAN_PORT.to_be_bytes())
}

/// `__sk_buff` as `BPF_PROG_TEST_RUN` takes it: zero but for the fields that it lets one set.
pub(super) fn skb_context(arrival: &Arrival<'_>, uplink: u32) -> Vec<u8> {
    const SIZE: usize = 192;
    const MARK: usize = 8;
    const IFINDEX: usize = 40;
    const GSO_SEGMENTS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = vec![0; SIZE];
    let mut put = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(IFINDEX, if arrival.ifindex == 0 { uplink } else { arrival.ifindex });
    put(MARK, arrival.mark);
    put(GSO_SIZE, arrival.gso_size);
    let segments = (arrival.bytes.len() as u32).checked_div(arrival.gso_size).map_or(0, |whole| whole + 1);
    put(GSO_SEGMENTS, segments);
    context
}

/// `xdp_md`: the frame from the first byte to the last, and the interface; none for the kernel's own.
pub(super) fn xdp_context(arrival: &Arrival<'_>) -> Vec<u8> {
    if arrival.ifindex == 0 {
        return Vec::new();
    }
    let (data, data_meta, queue, egress) = (0, 0, 0, 0);
    let words = [data, arrival.bytes.len() as u32, data_meta, arrival.ifindex, queue, egress];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// A frame whose checksum is only begun, behind the header that says so (`virtio_net_hdr`).
struct Offloaded {
    header: Vec<u8>,
    frame: Vec<u8>,
}

impl Offloaded {
    fn new(frame: &[u8], gso_size: u16) -> Option<Self> {
        const NEEDS_CHECKSUM: u8 = 1;
        const TCP_V4: u8 = 1;
        const TCP_V6: u8 = 4;
        const UDP: u8 = 5;
        let mut frame = frame.to_vec();
        let (is_v4, l4, protocol) = match frame.get(12..14)? {
            [0x08, 0x00] => (true, 34, *frame.get(23)?),
            [0x86, 0xdd] => (false, 54, *frame.get(20)?),
            _ => return None,
        };
        let (field, headers) = match protocol {
            6 => (16, 20),
            17 => (6, 8),
            _ => return None,
        };
        let addresses = if is_v4 { frame.get(26..34)? } else { frame.get(22..54)? };
        let mut sum: u64 = u64::from(protocol) + (frame.len() - l4) as u64;
        sum += addresses.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u64>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame.get_mut(l4 + field..l4 + field + 2)?.copy_from_slice(&(sum as u16).to_be_bytes());
        let kind = match (gso_size, protocol, is_v4) {
            (0, ..) => 0,
            (_, 17, _) => UDP,
            (_, _, true) => TCP_V4,
            (_, _, false) => TCP_V6,
        };
        let mut header = vec![NEEDS_CHECKSUM, kind];
        for number in [(l4 + headers) as u16, gso_size, l4 as u16, field as u16] {
            header.extend(number.to_le_bytes());
        }
        Some(Self { header, frame })
    }
}
