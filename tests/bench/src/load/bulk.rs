//! Bulk TCP. iperf3 always sleeps, and where waking the receiver's CPU costs more than a hundred packets that is what it
//! measures; here both ways can be told apart.

use super::{Bulk, Wait};
use anyhow::{Context, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};
use std::{
    ffi::OsString,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// Bytes of one call.
const CHUNK: usize = 128 << 10;
/// What is received until then is not counted: windows still open. HyStart (`tcp_cubic.c`) ends slow start here at 350 KiB, a
/// tenth of what carries most, and from there they grow by the cube of time.
const WARM_UP: Duration = Duration::from_millis(1_000);
/// The kernel's default, whatever this machine's is: one that paces would measure its timers.
const CONGESTION_CONTROL: &str = "cubic";

/// Sends over that many connections.
pub(super) fn pour(to: SocketAddrV4, milliseconds: u64, streams: usize, wait: Wait) -> Result<()> {
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        setsockopt(&stream, sockopt::TcpCongestion, &OsString::from(CONGESTION_CONTROL))
            .with_context(|| format!("congestion control {CONGESTION_CONTROL}"))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let mut streams = (0..streams).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    let chunk = vec![0; CHUNK];
    let end = Instant::now() + WARM_UP + Duration::from_millis(milliseconds);
    while Instant::now() < end {
        for index in ready(&streams, PollFlags::POLLOUT, wait)? {
            match streams[index].write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("send"),
            }
        }
    }
    Ok(())
}

/// Receives from that many connections until one is closed.
pub(super) fn drain(port: u16, streams: usize, wait: Wait) -> Result<Bulk> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    println!("ready");
    let accept = || -> Result<TcpStream> {
        let (stream, _) = listener.accept().context("accept")?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let mut streams = (0..streams).map(|_| accept()).collect::<Result<Vec<_>>>()?;
    let mut buffer = vec![0; CHUNK];
    let begin = Instant::now() + WARM_UP;
    let (mut bytes, mut last) = (0_u64, begin);
    'all: loop {
        for index in ready(&streams, PollFlags::POLLIN, wait)? {
            match streams[index].read(&mut buffer) {
                Ok(0) => break 'all,
                Ok(length) => {
                    let now = Instant::now();
                    if now > begin {
                        bytes += length as u64;
                        last = now;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break 'all,
                Err(error) => return Err(error).context("receive"),
            }
        }
    }
    ensure!(last > begin, "nothing arrived after {WARM_UP:?}");
    Ok(Bulk { gigabits: bytes as f64 * 8.0 / last.duration_since(begin).as_nanos() as f64 })
}

/// The connections that have something to do. Busy: perhaps none, and nobody is woken.
fn ready(streams: &[TcpStream], what: PollFlags, wait: Wait) -> Result<Vec<usize>> {
    let timeout = match wait {
        Wait::Busy => PollTimeout::ZERO,
        Wait::Blocking => PollTimeout::NONE,
    };
    let mut polled: Vec<_> = streams.iter().map(|stream| PollFd::new(stream.as_fd(), what)).collect();
    poll(&mut polled, timeout).context("poll")?;
    Ok(polled.iter().enumerate().filter(|(_, fd)| fd.any() == Some(true)).map(|(index, _)| index).collect())
}
