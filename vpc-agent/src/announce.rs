//! Tells the segment outside for which addresses this gateway speaks from now on, so that nobody there goes on sending to
//! another one: several times, since a single frame may get lost.

mod frame;
mod spoken;

pub use spoken::{Spoken, SpokenFrom};

use frame::announcement;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;
use vpc_bpf::FrameSocket;
use vpc_common::{Ip, limits::EXTERNALS};

/// Pauses before each announcement: together longer than two gateways may disagree about each other.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Frames between two pauses of a millisecond: routers limit how many they look at.
const BURST: usize = 64;
/// Addresses of one announcement, which take a second or two. External ones of IPv4 are never more. Ports that have
/// global ones may be a million, and each frame wakes everybody on the segment.
const ANNOUNCED: usize = EXTERNALS as usize;

/// Announces what this gateway newly speaks for.
#[derive(Debug, Default)]
pub struct Announcer {
    spoken: Arc<Mutex<Spoken>>,
    running: JoinSet<()>,
}

impl Announcer {
    /// Starts from what was spoken for before: that needs no announcement.
    pub fn new(spoken: Spoken) -> Self {
        Self { spoken: Arc::new(Mutex::new(spoken)), running: JoinSet::new() }
    }

    /// From now on the gateway speaks for this. What is new is announced beside the caller; when a gateway of the segment
    /// came or went, everything: while it thought otherwise it may have announced the same.
    pub fn speak(&mut self, now: Spoken) {
        while self.running.try_join_next().is_some() {}
        let before = std::mem::replace(&mut *lock(&self.spoken), now.clone());
        let mut announced = due(&before, &now);
        if announced.is_empty() {
            return;
        }
        if has_moved(&before, &now) {
            // Whatever is still being announced is among this.
            self.running.abort_all();
        }
        let left_out = announced.len().saturating_sub(ANNOUNCED);
        announced.truncate(ANNOUNCED);
        tracing::info!(addresses = announced.len(), left_out, "announcing external addresses");
        let spoken = Arc::clone(&self.spoken);
        self.running.spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                if let Err(error) = announce(&spoken, &announced).await {
                    tracing::warn!(%error, "announce external addresses");
                }
            }
        });
    }
}

/// Whether the gateways of the segment, or the way to it, have changed.
fn has_moved(before: &Spoken, now: &Spoken) -> bool {
    (before.ifindex, before.own, before.segment) != (now.ifindex, now.own, now.segment)
}

/// What is to be announced: what nobody has announced yet goes first.
fn due(before: &Spoken, now: &Spoken) -> Vec<Ip> {
    let (new, old): (Vec<Ip>, Vec<Ip>) = now.addresses.iter().partition(|address| !before.has(address));
    if has_moved(before, now) { [new, old].concat() } else { new }
}

async fn announce(spoken: &Mutex<Spoken>, addresses: &[Ip]) -> io::Result<()> {
    let socket = FrameSocket::open()?;
    for burst in addresses.chunks(BURST) {
        for address in burst {
            let (ifindex, own) = {
                let spoken = lock(spoken);
                // What it no longer speaks for is not announced again.
                if !spoken.has(address) {
                    continue;
                }
                (spoken.ifindex, spoken.own)
            };
            socket.send(ifindex, &announcement(own, *address))?;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn lock(spoken: &Mutex<Spoken>) -> std::sync::MutexGuard<'_, Spoken> {
    spoken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_common::gateway::Gateways;

    fn spoken(segment: Gateways, hosts: std::ops::Range<u32>) -> Spoken {
        let address = |host: u32| Ip([0x2001_0db8_u32.to_be(), 0, 0, host.to_be()]);
        let mut addresses: Vec<Ip> = hosts.map(address).collect();
        addresses.sort();
        Spoken { segment, addresses, ..Spoken::default() }
    }

    #[test]
    fn what_is_new_is_announced_and_all_when_a_gateway_came_or_went() {
        let both = Gateways::of([2, 3], []);
        let (before, now) = (spoken(both, 0..4), spoken(both, 2..6));
        assert_eq!(due(&before, &before), []);
        let new = spoken(both, 4..6).addresses;
        assert_eq!(due(&before, &now), new);
        let alone = Spoken { segment: Gateways::of([2], [3]), ..now };
        assert_eq!(due(&before, &alone), [new, spoken(both, 2..4).addresses].concat());
    }
}
