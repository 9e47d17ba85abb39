//! Tells the segment outside for which external addresses this gateway speaks from now on, so that nobody there goes on
//! sending to another one: gratuitous ARP (RFC 5227 §3), several times, since a single frame may get lost.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use vpc_bpf::FrameSocket;
use vpc_common::{
    Be16, Be32, Mac,
    gateway::Gateways,
    session::V4,
    wire::{Arp, Ethernet, ether_type},
};

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

/// For what a gateway speaks, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Index of the external interface.
    pub ifindex: u32,
    /// Its address.
    pub own: Mac,
    /// The gateways of the segment that share its addresses.
    pub segment: Gateways,
    /// The external addresses of this one.
    pub addresses: BTreeSet<V4>,
}

/// Announces what this gateway newly speaks for.
#[derive(Debug, Default)]
pub struct Announcer {
    spoken: Arc<Mutex<Spoken>>,
}

impl Announcer {
    /// Starts from what was spoken for before: that needs no announcement.
    pub fn new(spoken: Spoken) -> Self {
        Self { spoken: Arc::new(Mutex::new(spoken)) }
    }

    /// From now on the gateway speaks for this. What is new is announced beside the caller; when a gateway of the segment
    /// came or went, everything: while it thought otherwise it may have announced the same.
    pub fn speak(&self, now: Spoken) {
        let announced: Vec<V4> = {
            let mut spoken = self.lock();
            let moved = (spoken.ifindex, spoken.own, spoken.segment) != (now.ifindex, now.own, now.segment);
            let is_new = |address: &V4| !spoken.addresses.contains(address);
            let (new, old): (Vec<V4>, Vec<V4>) = now.addresses.iter().partition(|address| is_new(address));
            *spoken = now;
            // What nobody has announced yet goes first.
            if moved { [new, old].concat() } else { new }
        };
        if announced.is_empty() {
            return;
        }
        tracing::info!(addresses = announced.len(), "announcing external addresses");
        let announcer = Self { spoken: Arc::clone(&self.spoken) };
        tokio::spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                if let Err(error) = announcer.announce(&announced).await {
                    tracing::warn!(%error, "announce external addresses");
                }
            }
        });
    }

    async fn announce(&self, addresses: &[V4]) -> io::Result<()> {
        let socket = FrameSocket::open()?;
        for burst in addresses.chunks(BURST) {
            for address in burst {
                let (ifindex, own) = {
                    let spoken = self.lock();
                    // What it no longer speaks for is not announced again.
                    if !spoken.addresses.contains(address) {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of the address for itself.
fn announcement(own: Mac, address: V4) -> Vec<u8> {
    let ethernet = Ethernet { destination: Mac::BROADCAST, source: own, ether_type: ether_type::ARP };
    let address = Be32::from_raw(address[0]);
    let arp = Arp {
        hardware: Be16::new(1),
        protocol: ether_type::IPV4,
        hardware_length: 6,
        protocol_length: 4,
        operation: Be16::new(1),
        sender_mac: own,
        sender: address,
        target_mac: Mac::default(),
        target: address,
    };
    [bytemuck::bytes_of(&ethernet), bytemuck::bytes_of(&arp)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let frame = announcement(Mac::new([2, 0, 0, 0, 0, 1]), [Be32([203, 0, 113, 20]).raw()]);
        let expected = [
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6][..],
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 203, 0, 113, 20, 0, 0, 0, 0, 0, 0, 203, 0, 113, 20],
        ];
        assert_eq!(frame, expected.concat());
    }
}
