//! Streams of numbered UDP datagrams at a steady rate, and which of them got lost.

use crate::netns::Netns;
use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Pause between two bursts.
const PAUSE: Duration = Duration::from_millis(2);
/// Datagrams that are sent at once at most: a veth has room for 256 frames (`VETH_RING_SIZE`), and several streams may share
/// one whose other end gets no CPU time.
const BURST: usize = 64;
/// Room for what a slow receiver has not yet taken.
const ROOM: usize = 32 << 20;

/// A sender and a receiver. Dropping it ends both.
pub struct DatagramStream {
    end: Arc<AtomicBool>,
    sender: Option<JoinHandle<Vec<Vec<Instant>>>>,
    receiver: Option<JoinHandle<Vec<Vec<u32>>>>,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Datagrams sent.
    pub sent: usize,
    /// Datagrams that did not arrive.
    pub lost: usize,
    /// The longest time in which of some flow nothing arrived that was sent.
    pub longest_loss: Duration,
    /// Flows of which anything got lost.
    pub flows_hit: usize,
}

impl DatagramStream {
    /// Sends from one namespace to an address of another, where it listens: `rate` datagrams a second over so many flows,
    /// whose source ports start at `first_port`.
    ///
    /// # Errors
    /// A socket cannot be had.
    pub fn start(
        (from, first_port): (&Netns, u16),
        (to, bind, target): (&Netns, SocketAddr, SocketAddr),
        (flows, rate): (usize, u32),
    ) -> Result<Self> {
        let socket = to.enter(|| UdpSocket::bind(bind))?.with_context(|| format!("listen on {bind}"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let bound = |flow: usize| UdpSocket::bind((any, first_port + flow as u16));
        let senders = from.enter(|| (0..flows).map(bound).collect::<std::io::Result<Vec<_>>>())??;
        let end = Arc::new(AtomicBool::new(false));
        let (ending, sending) = (Arc::clone(&end), Arc::clone(&end));
        let receiver = thread::spawn(move || receive(&socket, flows, &ending));
        let sender = thread::spawn(move || send(&senders, target, rate, &sending));
        Ok(Self { end, sender: Some(sender), receiver: Some(receiver) })
    }

    /// Ends it.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn stop(mut self) -> Result<Streamed> {
        self.end.store(true, Ordering::Relaxed);
        let (Some(sender), Some(receiver)) = (self.sender.take(), self.receiver.take()) else { bail!("ended already") };
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        let mut streamed = Streamed::default();
        for (sent, mut received) in sent.iter().zip(received) {
            received.sort_unstable();
            received.dedup();
            streamed.sent += sent.len();
            let lost = sent.len() - received.len();
            streamed.lost += lost;
            streamed.flows_hit += usize::from(lost > 0);
            // A gap lasts from the first datagram that is missing to the next that arrived, or to the end.
            let mut next = 0;
            for number in received.iter().map(|number| *number as usize).chain([sent.len()]) {
                if let (Some(first), true) = (sent.get(next), number > next) {
                    let last = sent.get(number).or(sent.last()).unwrap_or(first);
                    streamed.longest_loss = streamed.longest_loss.max(*last - *first);
                }
                next = number + 1;
            }
        }
        Ok(streamed)
    }
}

impl Drop for DatagramStream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// When each datagram of each flow was sent.
fn send(sockets: &[UdpSocket], target: SocketAddr, rate: u32, end: &AtomicBool) -> Vec<Vec<Instant>> {
    let mut sent: Vec<Vec<Instant>> = sockets.iter().map(|_| Vec::new()).collect();
    let (start, mut count) = (Instant::now(), 0_usize);
    while !end.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as usize;
        // Who got no CPU time for a while does not make up for it.
        count = count.max(due.saturating_sub(BURST));
        while count < due {
            let flow = count % sockets.len();
            let number = sent[flow].len() as u32;
            let message = [(flow as u32).to_be_bytes(), number.to_be_bytes()].concat();
            // A datagram that the own kernel has no room for was never on its way.
            if sockets[flow].send_to(&message, target).is_ok() {
                sent[flow].push(Instant::now());
            }
            count += 1;
        }
        sleep(PAUSE);
    }
    sent
}

/// The numbers that arrived of each flow; for a moment longer than is sent.
fn receive(socket: &UdpSocket, flows: usize, end: &AtomicBool) -> Vec<Vec<u32>> {
    let mut received: Vec<Vec<u32>> = vec![Vec::new(); flows];
    let mut buffer = [0; 64];
    let mut last_rounds = 0;
    while last_rounds < 4 {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                let word = |at: usize| u32::from_be_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
                if let Some(numbers) = received.get_mut(word(0) as usize) {
                    numbers.push(word(4));
                }
            }
            Ok(_) => {}
            // Nothing for a while.
            Err(_) if end.load(Ordering::Relaxed) => last_rounds += 1,
            Err(_) => {}
        }
    }
    received
}
