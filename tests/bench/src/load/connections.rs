//! One TCP connection after the other, with one request and its answer on each.

use super::{Connections, Wait};
use anyhow::{Context, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, getsockopt, socket, sockopt},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

/// Bytes of a request, and of its answer.
const SIZE: usize = 64;
/// The server ends when nobody has come for so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers one request on each connection and closes it first, so that the client can use its port again.
pub(super) fn serve(port: u16, wait: Wait) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    listener.set_nonblocking(true)?;
    println!("ready");
    let mut last: Option<Instant> = None;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                answer(&stream, wait)?;
                last = Some(Instant::now());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if last.is_some_and(|last| last.elapsed() > PATIENCE) {
                    return Ok(());
                }
                if wait == Wait::Blocking {
                    let until = if last.is_some() { PollTimeout::try_from(PATIENCE)? } else { PollTimeout::NONE };
                    poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], until).context("poll")?;
                }
            }
            Err(error) => return Err(error).context("accept"),
        }
    }
}

fn answer(mut stream: &TcpStream, wait: Wait) -> Result<()> {
    stream.set_nonblocking(wait == Wait::Busy)?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; SIZE];
    let mut filled = 0;
    while filled < SIZE {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => bail!("the client closed the connection"),
            Ok(length) => filled += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("read"),
        }
    }
    Ok(stream.write_all(&buffer)?)
}

/// Connects again and again.
pub(super) fn connect_again(to: SocketAddrV4, milliseconds: u64, wait: Wait) -> Result<Connections> {
    let mut nanoseconds = Vec::with_capacity(1 << 18);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(milliseconds) {
        let begin = Instant::now();
        one(to, wait)?;
        nanoseconds.push(begin.elapsed().as_nanos() as u64);
    }
    let rate = nanoseconds.len() as f64 / start.elapsed().as_secs_f64();
    nanoseconds.sort_unstable();
    let at =
        |percent: usize| nanoseconds.get(nanoseconds.len() * percent / 100).map_or(f64::NAN, |ns| *ns as f64 / 1e3);
    Ok(Connections { count: nanoseconds.len(), rate, p50: at(50), p99: at(99) })
}

/// One connection.
fn one(to: SocketAddrV4, wait: Wait) -> Result<()> {
    let flags = match wait {
        Wait::Busy => SockFlag::SOCK_NONBLOCK,
        Wait::Blocking => SockFlag::empty(),
    };
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)
        .context("a socket")?;
    match connect(fd.as_raw_fd(), &SockaddrIn::from(to)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(error) => return Err(error).with_context(|| format!("connect to {to}")),
    }
    let mut stream = TcpStream::from(fd);
    let mut buffer = [0; SIZE];
    while let Err(error) = stream.write_all(&buffer) {
        // It is not there yet.
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) {
            return Err(error).context("write");
        }
        let failed = getsockopt(&stream, sockopt::SocketError).context("ask for the connection's error")?;
        if failed != 0 {
            bail!("connect to {to}: {}", std::io::Error::from_raw_os_error(failed));
        }
    }
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == SIZE => return Ok(()),
            Ok(0) if filled < SIZE => bail!("the server closed the connection"),
            Ok(length) => filled += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("read"),
        }
    }
}
