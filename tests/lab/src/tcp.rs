//! TCP between guests: a server that echoes, connections, and a conversation that notes when it was answered.

use crate::netns::Netns;
use anyhow::{Context, Result, bail};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::{
    io::{Read, Write},
    mem::size_of,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Pause between two messages of a conversation.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a conversation waits for an answer before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);
const MESSAGE: usize = size_of::<u64>();

/// A server in a guest that sends back what it is sent. Dropping it ends it, but no connection.
pub struct EchoServer {
    listener: Arc<TcpListener>,
}

impl EchoServer {
    /// Listens on a port of every address of the guest.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let bind = || TcpListener::bind((IpAddr::from([0_u16; 8]), port));
        let listener = Arc::new(netns.enter(bind)?.with_context(|| format!("cannot listen on port {port}"))?);
        let accepting = Arc::clone(&listener);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self { listener })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _already_closed = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

/// Ends with the connection.
fn echo(mut stream: TcpStream) {
    let _slower = stream.set_nodelay(true);
    let mut buffer = [0; 4_096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A connection out of a guest.
///
/// # Errors
/// There is none within the time.
pub fn connect(netns: &Netns, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let stream =
        netns.enter(|| TcpStream::connect_timeout(&to, limit))?.with_context(|| format!("no connection to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How many of many connections, one after the other, were made and answered within the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Tried.
    pub tried: u64,
    /// Answered in time.
    pub succeeded: u64,
}

/// Connects, asks once, and disconnects, again and again with a pause between, until the time is over.
///
/// # Errors
/// The namespace cannot be entered.
pub fn attempts(netns: &Netns, to: SocketAddr, limit: Duration, pause: Duration, whole: Duration) -> Result<Attempts> {
    netns.enter(|| {
        let (start, mut attempts) = (Instant::now(), Attempts::default());
        while start.elapsed() < whole {
            attempts.tried += 1;
            attempts.succeeded += u64::from(attempt(to, limit).is_ok());
            sleep(pause);
        }
        attempts
    })
}

fn attempt(to: SocketAddr, limit: Duration) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"question")?;
    stream.read_exact(&mut [0; MESSAGE])?;
    // Ends by RST: no port is kept waiting.
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}

/// A connection on which a numbered message is sent and its echo awaited, every few milliseconds.
pub struct Conversation {
    progress: Arc<Progress>,
    talker: Option<JoinHandle<Result<()>>>,
    stream: TcpStream,
}

struct Progress {
    end: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    answered: u64,
    last: Instant,
    longest_pause: Duration,
}

/// What came of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// Messages answered, each with its own number and in order.
    pub answered: u64,
    /// Longest time between two answers.
    pub longest_pause: Duration,
    /// Segments that the guest's kernel sent again.
    pub retransmits: u32,
}

impl Conversation {
    /// Connects and starts to talk.
    ///
    /// # Errors
    /// There is no connection within 3 s.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = connect(netns, to, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let seen = Seen { answered: 0, last: Instant::now(), longest_pause: Duration::ZERO };
        let progress = Arc::new(Progress { end: AtomicBool::new(false), seen: Mutex::new(seen) });
        let (theirs, socket) = (Arc::clone(&progress), stream.try_clone()?);
        let talker = Some(thread::spawn(move || talk(socket, &theirs)));
        let conversation = Self { progress, talker, stream };
        let start = Instant::now();
        while conversation.answered() == 0 {
            if start.elapsed() > Duration::from_secs(3) {
                bail!("connected to {to}, but nothing is answered");
            }
            sleep(PAUSE);
        }
        Ok(conversation)
    }

    fn seen(&self) -> Seen {
        *self.progress.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages were answered so far.
    pub fn answered(&self) -> u64 {
        self.seen().answered
    }

    /// When the last answer came.
    pub fn last_answer(&self) -> Instant {
        self.seen().last
    }

    /// Waits until nothing was answered for so long; returns when the last answer came.
    ///
    /// # Errors
    /// It goes on for longer than `limit`.
    pub fn wait_silent(&self, silence: Duration, limit: Duration) -> Result<Instant> {
        let start = Instant::now();
        loop {
            let last = self.last_answer();
            if last.elapsed() >= silence {
                return Ok(last);
            }
            if start.elapsed() > limit {
                bail!("the conversation goes on after {limit:?}");
            }
            sleep(PAUSE);
        }
    }

    /// Waits until one more message is answered.
    ///
    /// # Errors
    /// None is within the limit.
    pub fn wait_answer(&self, limit: Duration) -> Result<()> {
        let (start, before) = (Instant::now(), self.answered());
        while self.answered() == before {
            if start.elapsed() > limit {
                bail!("nothing was answered for {:?}", self.last_answer().elapsed());
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// An answer was a wrong one, or the connection broke before.
    pub fn stop(mut self) -> Result<Talk> {
        self.progress.end.store(true, Ordering::Relaxed);
        if let Some(talker) = self.talker.take() {
            talker.join().map_err(|_| anyhow::anyhow!("the conversation's thread panicked"))??;
        }
        let seen = self.seen();
        let longest_pause = seen.longest_pause.max(seen.last.elapsed());
        Ok(Talk { answered: seen.answered, longest_pause, retransmits: retransmits(&self.stream)? })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.progress.end.store(true, Ordering::Relaxed);
    }
}

fn talk(mut stream: TcpStream, progress: &Progress) -> Result<()> {
    for number in 0_u64.. {
        stream.write_all(&number.to_be_bytes()).context("the conversation broke")?;
        let mut answer = [0; MESSAGE];
        let mut filled = 0;
        while filled < MESSAGE {
            match stream.read(&mut answer[filled..]) {
                Ok(0) => bail!("the server hung up"),
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if progress.end.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error).context("the conversation broke"),
            }
        }
        if answer != number.to_be_bytes() {
            bail!("message {number} was answered by {}", u64::from_be_bytes(answer));
        }
        {
            let mut seen = progress.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            seen.longest_pause = seen.longest_pause.max(now - seen.last);
            (seen.answered, seen.last) = (number + 1, now);
        }
        if progress.end.load(Ordering::Relaxed) {
            return Ok(());
        }
        sleep(PAUSE);
    }
    Ok(())
}

fn retransmits(stream: &TcpStream) -> Result<u32> {
    // SAFETY: zero is valid for plain numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the buffer has the stated length and is alive during the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("TCP_INFO");
    }
    Ok(info.tcpi_total_retrans)
}
