//! Which gateways are alive, and which instances are there to be next hops: asked by S-BFD (RFC 7880, RFC 7881), answered by
//! the programs of their nodes' uplinks.
//!
//! In a thread of its own: whatever else the agent does, a question is in time and an answer is not overlooked.

mod packet;
mod session;

pub use session::{Health, Tally};

use nix::sys::socket::{setsockopt, sockopt};
use session::Session;
use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use vpc_common::{
    Ip,
    bfd::{PORT, TTL},
};
use vpc_topology::compile::{DesiredProbe, ProbeRole};

/// What is thought of what is asked for, by [`DesiredProbe::discriminator`].
pub type Healths = BTreeMap<u32, Known>;

/// What is known of a node, or a port of it, that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What is thought of it.
    pub health: Health,
    /// Why it is asked.
    pub role: ProbeRole,
    /// Whether it ever answered.
    pub ever: bool,
}

/// Whom to ask, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// This node's VTEP address.
    pub source: Ip,
    /// The nodes.
    pub probes: Vec<DesiredProbe>,
}

/// What an operator wants to know.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// Counters, by [`DesiredProbe::discriminator`].
    pub asked: BTreeMap<u32, Tally>,
    /// Why nobody can be asked.
    pub trouble: Option<String>,
}

/// The thread that asks.
#[derive(Debug)]
pub struct Liveness {
    questions: mpsc::Sender<Questions>,
    asked: Option<Questions>,
    healths: watch::Receiver<Healths>,
    tallies: Arc<Mutex<Tallies>>,
}

impl Liveness {
    /// Starts it, with nobody to ask. It ends with the process.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn spawn() -> io::Result<Self> {
        let (questions, receiver) = mpsc::channel();
        let (sender, healths) = watch::channel(Healths::new());
        let tallies = Arc::new(Mutex::new(Tallies::default()));
        let asker = Asker {
            questions: receiver,
            source: Ip::UNSPECIFIED,
            sessions: Vec::new(),
            socket: None,
            retry: Instant::now(),
            random: Random::new(),
            healths: sender,
            tallies: Arc::clone(&tallies),
        };
        thread::Builder::new().name("liveness".to_owned()).spawn(move || asker.run())?;
        Ok(Self { questions, asked: None, healths, tallies })
    }

    /// Whom to ask from now on.
    pub fn ask(&mut self, questions: Questions) {
        if self.asked.as_ref() != Some(&questions) {
            // The thread ends with the process only.
            let _ended = self.questions.send(questions.clone());
            self.asked = Some(questions);
        }
    }

    /// Waits until something has changed. Can be dropped while it waits.
    pub async fn changed(&mut self) -> Healths {
        if self.healths.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.healths.borrow_and_update().clone()
    }

    /// The counters.
    pub fn tallies(&self) -> Tallies {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Longest wait without looking for new orders.
const ORDERS: Duration = Duration::from_millis(50);
/// Pause before a socket that cannot be had is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Packets that are taken between two looks at what is due.
const AT_ONCE: usize = 1_024;
/// Ports of those who ask (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// Class selector 6: network control.
const NETWORK_CONTROL: i32 = 0xc0;

struct Asker {
    questions: mpsc::Receiver<Questions>,
    source: Ip,
    sessions: Vec<Session>,
    socket: Option<UdpSocket>,
    retry: Instant,
    random: Random,
    healths: watch::Sender<Healths>,
    tallies: Arc<Mutex<Tallies>>,
}

impl Asker {
    fn run(mut self) {
        loop {
            let orders = if self.sessions.is_empty() { self.questions.recv().ok() } else { None };
            match orders.or_else(|| self.questions.try_iter().last()) {
                Some(questions) => self.order(questions),
                // Nobody will give orders any more.
                None if self.sessions.is_empty() => return,
                None => {}
            }
            self.open();
            self.listen();
            let now = Instant::now();
            for session in &mut self.sessions {
                let before = session.health();
                session.pass(now);
                note(session, before);
                if let Some(socket) = &self.socket
                    && session.ask(now, self.random.fraction())
                {
                    send(socket, session);
                }
            }
            self.tell();
        }
    }

    fn order(&mut self, questions: Questions) {
        if self.source != questions.source {
            (self.source, self.socket, self.retry) = (questions.source, None, Instant::now());
        }
        let mut old: BTreeMap<u32, Session> =
            self.sessions.drain(..).map(|session| (session.target.discriminator, session)).collect();
        for probe in questions.probes {
            let same = |session: &Session| session.target.address == probe.address && session.target.role == probe.role;
            let session = match old.remove(&probe.discriminator).filter(same) {
                Some(mut session) => {
                    session.retarget(probe);
                    session
                }
                None => Session::new(probe, self.random.discriminator(), Instant::now()),
            };
            self.sessions.push(session);
        }
    }

    fn open(&mut self) {
        if self.socket.is_some() || self.sessions.is_empty() || Instant::now() < self.retry {
            return;
        }
        let trouble = match socket(self.source.into(), &mut self.random) {
            Ok(socket) => {
                self.socket = Some(socket);
                None
            }
            Err(error) => {
                self.retry = Instant::now() + RETRY;
                Some(format!("nobody can be asked whether it is alive, from {}: {error}", self.source))
            }
        };
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).trouble = trouble;
    }

    /// Takes all answers that are there, and waits for one no longer than until something is due.
    fn listen(&mut self) {
        let due = self.sessions.iter().map(Session::due).min().unwrap_or_else(Instant::now);
        let Some(socket) = &self.socket else {
            // Without a socket nothing is asked, so that nobody is taken for dead.
            return thread::sleep(ORDERS);
        };
        let mut buffer = [0; 128];
        for _ in 0..AT_ONCE {
            let wait = due.saturating_duration_since(Instant::now()).min(ORDERS);
            // Zero would mean for ever.
            let received = if wait < Duration::from_micros(500) {
                socket.set_nonblocking(true).and_then(|()| socket.recv_from(&mut buffer))
            } else {
                let timed = socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(Some(wait)));
                timed.and_then(|()| socket.recv_from(&mut buffer))
            };
            let (length, from) = match received {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let Some(control) = packet::answer(&buffer[..length]).filter(|_| from.port() == PORT) else { continue };
            let (own, theirs) = (control.your_discriminator.get(), control.my_discriminator.get());
            let is_of = |session: &&mut Session| {
                session.discriminator == own
                    && session.target.discriminator == theirs
                    && IpAddr::from(session.target.address) == from.ip()
            };
            if let Some(session) = self.sessions.iter_mut().find(is_of) {
                let before = session.health();
                session.answered(&control, Instant::now());
                note(session, before);
            }
        }
    }

    fn tell(&self) {
        let known =
            |session: &Session| Known { health: session.health(), role: session.target.role, ever: session.known };
        let healths: Healths =
            self.sessions.iter().map(|session| (session.target.discriminator, known(session))).collect();
        self.healths.send_if_modified(|told| {
            let changed = *told != healths;
            if changed {
                *told = healths;
            }
            changed
        });
        let tallies = self.sessions.iter().map(|session| (session.target.discriminator, session.tally)).collect();
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).asked = tallies;
    }
}

/// Logs what has changed.
fn note(session: &Session, before: Health) {
    let (now, name) = (session.health(), &session.target.name);
    let what = match session.target.role {
        _ if now == before => return,
        ProbeRole::Witness => return,
        ProbeRole::Gateway => "a gateway",
        ProbeRole::Instance => "an instance that is a next hop",
    };
    match now {
        Health::Silent | Health::OutOfService => {
            tracing::warn!(%name, before = before.name(), now = now.name(), "{what} went out of use");
        }
        _ => tracing::info!(%name, before = before.name(), now = now.name(), "{what}"),
    }
}

fn send(socket: &UdpSocket, session: &Session) {
    let target = &session.target;
    let question = packet::question(
        session.state(),
        (session.discriminator, target.discriminator),
        target.interval,
        target.multiplier,
    );
    // What the kernel refuses to send is not answered either, which is what counts.
    if let Err(error) = socket.send_to(bytemuck::bytes_of(&question), SocketAddr::new(target.address.into(), PORT)) {
        tracing::debug!(name = %target.name, %error, "ask whether it is alive");
    }
}

/// A socket as RFC 7881 wants it: a source port of its own range, TTL 255.
fn socket(source: IpAddr, random: &mut Random) -> io::Result<UdpSocket> {
    let span = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
    let mut tries = (0..64).map(|_| {
        let port = SOURCE_PORTS.start() + (random.next() % span) as u16;
        UdpSocket::bind(SocketAddr::new(source, port))
    });
    let in_use =
        |bound: &io::Result<_>| bound.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::AddrInUse);
    let socket = tries.find(|bound| !in_use(bound)).unwrap_or_else(|| Err(io::ErrorKind::AddrInUse.into()))?;
    let ttl = i32::from(TTL);
    if source.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4Ttl, &ttl)?;
        setsockopt(&socket, sockopt::Ipv4Tos, &NETWORK_CONTROL)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6Ttl, &ttl)?;
        setsockopt(&socket, sockopt::Ipv6TClass, &NETWORK_CONTROL)?;
    }
    Ok(socket)
}

/// Numbers that nobody outside can guess, from the seed of the standard library's hash maps.
struct Random {
    keys: RandomState,
    count: u64,
}

impl Random {
    fn new() -> Self {
        Self { keys: RandomState::new(), count: 0 }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.keys.hash_one(self.count)
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 32) as f64 / f64::from(u32::MAX)
    }

    /// Never 0, which would mean none.
    fn discriminator(&mut self) -> u32 {
        (self.next() as u32).max(1)
    }
}
