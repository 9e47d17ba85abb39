//! UDP in batches: one system call for many datagrams, so that the path is measured and not the calls.

use super::Datagrams;
use anyhow::{Context, Result};
use nix::libc::{self, iovec, mmsghdr};
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

const BATCH: usize = 64;
/// Bytes of a datagram: the frame has 60, 64 with its checksum.
const PAYLOAD: usize = 18;
/// After so many datagrams the sink says something: one-way UDP never becomes established.
const REPLY: u64 = 8_192;
const QUIET: Duration = Duration::from_millis(300);

/// Buffers of a batch, and what the kernel is told of them.
struct Batch {
    buffers: Vec<[u8; PAYLOAD]>,
    vectors: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self { buffers: vec![[0; PAYLOAD]; BATCH], vectors: Vec::new(), headers: Vec::new() };
        let vector = |buffer: &mut [u8; PAYLOAD]| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: PAYLOAD };
        batch.vectors = batch.buffers.iter_mut().map(vector).collect();
        let header = |vector: &mut iovec| {
            // SAFETY: zero is valid for plain numbers and addresses.
            let mut header: mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        batch.headers = batch.vectors.iter_mut().map(header).collect();
        batch
    }

    fn send(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let (headers, count) = (self.headers.as_mut_ptr(), self.headers.len() as libc::c_uint);
        // SAFETY: the headers and the buffers that they name belong to `self`, which outlives the call.
        counted(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count, 0) })
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let (headers, count) = (self.headers.as_mut_ptr(), self.headers.len() as libc::c_uint);
        // SAFETY: as above; the kernel writes into the buffers, which nobody borrows.
        counted(unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers, count, libc::MSG_WAITFORONE, std::ptr::null_mut())
        })
    }
}

fn counted(result: libc::c_int) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends to one address.
pub(super) fn blast(to: SocketAddrV4, milliseconds: u64) -> Result<Datagrams> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind")?;
    socket.connect(to).with_context(|| format!("connect to {to}"))?;
    let mut batch = Batch::new();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(milliseconds) {
        // A full queue is no reason to stop.
        count += batch.send(&socket).unwrap_or(0);
    }
    Ok(Datagrams { count, rate: count as f64 / start.elapsed().as_secs_f64() })
}

/// Counts what one sender sends.
pub(super) fn sink(port: u16) -> Result<Datagrams> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind")?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20)).context("SO_RCVBUF")?;
    println!("ready");
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (_, sender) = socket.recv_from(&mut [0; PAYLOAD]).context("the first datagram")?;
    socket.connect(sender)?;
    socket.set_read_timeout(Some(QUIET))?;
    let mut batch = Batch::new();
    let (start, mut last) = (Instant::now(), Instant::now());
    let (mut count, mut next) = (0, 0);
    while let Ok(received) = batch.receive(&socket) {
        last = Instant::now();
        count += received;
        if count >= next {
            let _lost = socket.send(&[0]);
            next = count + REPLY;
        }
    }
    Ok(Datagrams { count, rate: count as f64 / last.duration_since(start).as_secs_f64().max(1e-6) })
}
