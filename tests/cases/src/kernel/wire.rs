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

impl Wire {
    /// Watches an interface. `of` is what it is the other end of.
    pub(super) fn open(name: &str, of: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(name).with_context(|| format!("find {name}, the end of {of}"))?;
        let protocol = ETH_P_ALL.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: a plain call without addresses.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("open a packet socket");
        }
        // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let wire = Self { socket, index };
        let address = wire.address();
        // SAFETY: the address has the stated length and is alive during the call.
        let bound = unsafe {
            libc::bind(
                wire.socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("watch {name}"));
        }
        Ok(wire)
    }

    fn address(&self) -> libc::sockaddr_ll {
        // SAFETY: zero is valid for plain numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = self.index as i32;
        address
    }

    /// Sends a frame, which arrives at the interface.
    pub(super) fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer has the stated length and is alive during the call.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("send a frame");
        }
        Ok(())
    }

    /// The frames that have come out of the interface.
    pub(super) fn receive(&self, wanted: Wanted) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            let mut from = self.address();
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
    const IFINDEX: usize = 40;
    const GSO_SEGMENTS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = vec![0; SIZE];
    let mut put = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(IFINDEX, if arrival.ifindex == 0 { uplink } else { arrival.ifindex });
    put(GSO_SIZE, arrival.gso_size);
    let segments = (arrival.bytes.len() as u32).checked_div(arrival.gso_size).map_or(0, |whole| whole + 1);
    put(GSO_SEGMENTS, segments);
    context
}
