//! Many TCP connections at once, each of which says something every now and then and waits for the echo.

use crate::netns::Netns;
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Bytes of a message.
const MESSAGE: usize = 16;
/// Pause between two rounds over all connections.
const PAUSE: Duration = Duration::from_millis(5);
/// Each connection says something so often.
const EVERY: Duration = Duration::from_millis(200);
/// How long it may take to connect.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections, kept talking by two threads. Dropping it ends them.
pub struct Crowd {
    end: Arc<AtomicBool>,
    talker: Option<JoinHandle<Vec<Member>>>,
    echo: Option<JoinHandle<()>>,
}

/// What came of a crowd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// Connections that were there.
    pub connections: usize,
    /// Those that broke.
    pub broken: usize,
    /// Why one of them did.
    pub why: Option<String>,
    /// Messages that were answered.
    pub answered: u64,
    /// Connections that have heard nothing since the moment asked about.
    pub silent: usize,
    /// The longest time that any of them waited for an answer: TCP repeats after 200, 400, 800 ms.
    pub longest_wait: Duration,
}

struct Member {
    stream: TcpStream,
    /// Bytes of the echo that are still to come.
    missing: usize,
    asked: Instant,
    heard: Instant,
    answered: u64,
    longest_wait: Duration,
    broken: Option<anyhow::Error>,
}

impl Crowd {
    /// Connects so many times from one namespace to an address of another, where it listens.
    ///
    /// # Errors
    /// A connection cannot be made.
    pub fn start(from: &Netns, server: &Netns, (bind, to): (SocketAddr, SocketAddr), count: usize) -> Result<Self> {
        let listener = server.enter(|| TcpListener::bind(bind))?.with_context(|| format!("listen on {bind}"))?;
        listener.set_nonblocking(true)?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let echo = thread::spawn(move || echo(&listener, &ending));
        let connect = || -> Result<Vec<Member>> { (0..count).map(|_| Member::connect(to)).collect() };
        let members = from.enter(connect)?.inspect_err(|_| end.store(true, Ordering::Relaxed))?;
        let ending = Arc::clone(&end);
        let talker = thread::spawn(move || talk(members, &ending));
        Ok(Self { end, talker: Some(talker), echo: Some(echo) })
    }

    /// Ends it. Who has heard nothing since `since` counts as silent.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn stop(mut self, since: Instant) -> Result<Gathering> {
        self.end.store(true, Ordering::Relaxed);
        let Some(talker) = self.talker.take() else { bail!("ended already") };
        let members = talker.join().map_err(|_| anyhow::anyhow!("the thread of the crowd panicked"))?;
        let wait = |member: &Member| {
            let waiting = if member.missing > 0 { member.asked.elapsed() } else { Duration::ZERO };
            member.longest_wait.max(waiting)
        };
        Ok(Gathering {
            connections: members.len(),
            broken: members.iter().filter(|member| member.broken.is_some()).count(),
            why: members.iter().find_map(|member| member.broken.as_ref()).map(|error| format!("{error:#}")),
            answered: members.iter().map(|member| member.answered).sum(),
            silent: members.iter().filter(|member| member.heard < since).count(),
            longest_wait: members.iter().map(wait).max().unwrap_or_default(),
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _panicked = echo.join();
        }
    }
}

impl Member {
    fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Self { stream, missing: 0, asked: now, heard: now, answered: 0, longest_wait: Duration::ZERO, broken: None })
    }

    fn go_on(&mut self, now: Instant) -> Result<()> {
        if self.missing == 0 && now - self.asked >= EVERY {
            let written = self.stream.write(&[0x5a; MESSAGE]).context("nothing can be said")?;
            ensure!(written == MESSAGE, "an empty socket takes a message");
            (self.missing, self.asked) = (MESSAGE, now);
        }
        let mut buffer = [0; MESSAGE];
        while self.missing > 0 {
            match self.stream.read(&mut buffer[..self.missing]) {
                Ok(0) => bail!("the other side hung up"),
                Ok(length) => self.missing -= length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a connection broke"),
            }
            if self.missing == 0 {
                (self.heard, self.answered) = (now, self.answered + 1);
                self.longest_wait = self.longest_wait.max(now - self.asked);
            }
        }
        Ok(())
    }
}

fn talk(mut members: Vec<Member>, end: &AtomicBool) -> Vec<Member> {
    // Spread over the time between two messages of one.
    let count = members.len().max(1) as u32;
    let start = Instant::now();
    for (number, member) in members.iter_mut().enumerate() {
        member.asked = start + EVERY * number as u32 / count - EVERY;
    }
    while !end.load(Ordering::Relaxed) {
        let now = Instant::now();
        for member in members.iter_mut().filter(|member| member.broken.is_none() && member.asked <= now) {
            member.broken = member.go_on(now).err();
        }
        sleep(PAUSE);
    }
    members
}

fn echo(listener: &TcpListener, end: &AtomicBool) {
    let mut streams: Vec<TcpStream> = Vec::new();
    while !end.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok() {
                streams.push(stream);
            }
        }
        streams.retain_mut(|stream| {
            let mut buffer = [0; 1_024];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
        sleep(Duration::from_millis(2));
    }
}
