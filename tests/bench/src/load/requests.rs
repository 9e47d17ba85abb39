//! Request and response over one TCP connection.

use super::{Latencies, Wait};
use anyhow::{Context, Result, bail};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Bytes of a request, and of its answer.
const SIZE: usize = 64;

/// Serves one client until it goes.
pub(super) fn serve(port: u16, wait: Wait) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    println!("ready");
    let (mut stream, _) = listener.accept().context("accept")?;
    prepare(&stream, wait)?;
    let mut buffer = [0; SIZE];
    while fill(&mut stream, &mut buffer)? {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

/// Asks, one question at a time.
pub(super) fn ask(to: SocketAddrV4, milliseconds: u64, wait: Wait) -> Result<Latencies> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
    prepare(&stream, wait)?;
    let mut buffer = [0; SIZE];
    let mut nanoseconds = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(milliseconds) {
        let asked = Instant::now();
        stream.write_all(&buffer)?;
        if !fill(&mut stream, &mut buffer)? {
            bail!("the server closed the connection");
        }
        nanoseconds.push(asked.elapsed().as_nanos() as u64);
    }
    nanoseconds.sort_unstable();
    let at = |per_mille: usize| {
        nanoseconds.get(nanoseconds.len() * per_mille / 1_000).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    };
    Ok(Latencies { count: nanoseconds.len(), p50: at(500), p99: at(990), p999: at(999) })
}

fn prepare(stream: &TcpStream, wait: Wait) -> Result<()> {
    stream.set_nodelay(true)?;
    Ok(stream.set_nonblocking(wait == Wait::Busy)?)
}

/// Reads a whole message; false at the end of the connection.
fn fill(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(false),
            Ok(length) => filled += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error).context("read"),
        }
    }
    Ok(true)
}
