//! Scripts of packets, and what of a packet counts in a comparison: all of it but the external port that a router chose.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};
use vpc_cases::packet::{AddressFamily, Layer, Names, Port, Tunnel, serialise};
use vpc_common::{Mac, wire::protocol};
use vpc_lab::frames::checksum;

/// The guest's own address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
/// The address that stands for it.
pub const NAT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The server outside.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// One file of `tests/differential`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "for readers")]
    about: String,
    scripts: Vec<Script>,
}

/// Packets one after the other. Each script has ports of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub name: String,
    pub steps: Vec<Step>,
}

/// A packet, and what becomes of it. To the external address it is written with the guest's own port, whatever port
/// the router gave out for that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub from: End,
    packet: Vec<Layer>,
    #[serde(default)]
    pub then: Then,
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Guest,
    Server,
}

impl End {
    pub fn other(self) -> Self {
        match self {
            Self::Guest => Self::Server,
            Self::Server => Self::Guest,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It arrives.
    #[default]
    Passes,
    /// Its sender is told why not.
    Answers,
    /// Nothing is heard of it.
    Drops,
}

/// The outcome in both routers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Then {
    /// The same, byte for byte.
    Same(Outcome),
    /// Another one, or other bytes.
    Differs(Differs),
}

/// A documented difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differs {
    here: Outcome,
    linux: Outcome,
    #[expect(dead_code, reason = "for readers; that it is there is checked")]
    because: String,
}

impl Default for Then {
    fn default() -> Self {
        Self::Same(Outcome::Passes)
    }
}

impl Then {
    pub fn outcomes(&self) -> [Outcome; 2] {
        match self {
            Self::Same(outcome) => [*outcome; 2],
            Self::Differs(differs) => [differs.here, differs.linux],
        }
    }

    pub fn is_documented(&self) -> bool {
        matches!(self, Self::Differs(_))
    }
}

/// All scripts, in the order of files.
pub fn all() -> Result<Vec<Script>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../differential");
    let mut paths: Vec<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let file: File =
            serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        scripts.extend(file.scripts);
    }
    Ok(scripts)
}

struct Addresses;

impl Names for Addresses {
    fn mac(&self, name: &str) -> Result<Mac> {
        bail!("a script has no Ethernet: {name}")
    }
    fn address(&self, name: &str, _: AddressFamily) -> Result<IpAddr> {
        Ok(match name {
            "guest" => GUEST.into(),
            "nat" => NAT.into(),
            "server" => SERVER.into(),
            other => other.parse().with_context(|| format!("who is {other}?"))?,
        })
    }
    fn tunnel(&self, _: &Tunnel) -> Result<Vec<Layer>> {
        bail!("a script has no tunnels")
    }
}

impl Step {
    /// The packet, to the external ports that were given out.
    pub fn bytes(&self, external: &BTreeMap<(u8, u16), u16>) -> Result<Vec<u8>> {
        let mut layers = self.packet.clone();
        if self.from == End::Server {
            outward(&mut layers, external);
        }
        Ok(serialise(&layers, &Addresses)?.bytes)
    }

    /// The external port that the packet arrived with, for the guest's.
    pub fn learn(&self, arrived: &[u8]) -> Option<((u8, u16), u16)> {
        let own = Place::of(arrived, Side::Source)?;
        let sent = serialise(&self.packet, &Addresses).ok()?.bytes;
        let port = Place::of(&sent, Side::Source)?;
        Some(((own.protocol, port.read(&sent)), own.read(arrived)))
    }
}

/// Puts external ports into a packet to the external address: its destination, or the source of what it quotes.
fn outward(layers: &mut [Layer], external: &BTreeMap<(u8, u16), u16>) {
    let given = |protocol: u8, port: &mut u16| {
        if let Some(other) = external.get(&(protocol, *port)) {
            *port = *other;
        }
    };
    let mut quoted = false;
    for layer in layers {
        match layer {
            Layer::Tcp(tcp) => given(protocol::TCP, if quoted { &mut tcp.src } else { &mut tcp.dst }),
            Layer::Udp(udp) if !quoted => given(protocol::UDP, &mut udp.dst),
            Layer::Udp(udp) => {
                if let Port::Number(number) = &mut udp.src {
                    given(protocol::UDP, number);
                }
            }
            Layer::Icmp(icmp) if icmp.kind == 0 || (quoted && icmp.kind == 8) => given(protocol::ICMP, &mut icmp.id),
            Layer::Icmp(_) => quoted = true,
            _ => {}
        }
    }
}

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// Where a port, or the identifier of an echo, stands in a packet.
#[derive(Clone, Copy)]
struct Place {
    protocol: u8,
    at: usize,
}

impl Place {
    /// Of the guest's end, which is that side of the packet.
    fn of(packet: &[u8], side: Side) -> Option<Self> {
        let protocol = *packet.get(9)?;
        let l4 = usize::from(packet[0] & 0x0f) * 4;
        let (asks, answers) = (packet.get(l4) == Some(&8), packet.get(l4) == Some(&0));
        let at = match (protocol, side) {
            (protocol::TCP | protocol::UDP, Side::Source) => l4,
            (protocol::TCP | protocol::UDP, Side::Destination) => l4 + 2,
            (protocol::ICMP, Side::Source) if asks => l4 + 4,
            (protocol::ICMP, Side::Destination) if answers => l4 + 4,
            _ => return None,
        };
        (is_first(packet) && packet.len() >= at + 2).then_some(Self { protocol, at })
    }

    fn read(self, packet: &[u8]) -> u16 {
        u16::from_be_bytes([packet[self.at], packet[self.at + 1]])
    }
}

fn is_first(packet: &[u8]) -> bool {
    u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff == 0
}

/// What was seen of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    passed: Vec<Vec<u8>>,
    /// Type and code of ICMP.
    answered: Vec<(u8, u8)>,
}

impl Seen {
    pub fn outcome(&self) -> Outcome {
        match (self.passed.is_empty(), self.answered.is_empty()) {
            (false, _) => Outcome::Passes,
            (true, false) => Outcome::Answers,
            (true, true) => Outcome::Drops,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome() {
            Outcome::Drops => f.write_str("drops it"),
            Outcome::Answers => write!(f, "answers {:?}", self.answered),
            Outcome::Passes => {
                f.write_str("passes")?;
                for packet in &self.passed {
                    let bytes: Vec<_> = packet.iter().map(|byte| format!("{byte:02x}")).collect();
                    write!(f, " [{}]", bytes.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

/// In the form in which packets of both routers are compared.
pub fn seen(passed: &[Vec<u8>], answered: &[Vec<u8>], at: End, external: &BTreeMap<(u8, u16), u16>) -> Result<Seen> {
    let back: BTreeMap<(u8, u16), u16> =
        external.iter().map(|((protocol, own), given)| ((*protocol, *given), *own)).collect();
    let none = BTreeMap::new();
    let back = if at == End::Server { &back } else { &none };
    let passed = passed.iter().map(|packet| canonical(packet, back)).collect::<Result<_>>()?;
    let answer = |packet: &Vec<u8>| -> Result<(u8, u8)> {
        canonical(packet, &none)?;
        ensure!(packet[9] == protocol::ICMP, "answered by protocol {}", packet[9]);
        Ok((packet[20], packet[21]))
    };
    Ok(Seen { passed, answered: answered.iter().map(answer).collect::<Result<_>>()? })
}

/// Checksums must be right, and are left out then; external ports become the guest's.
fn canonical(packet: &[u8], back: &BTreeMap<(u8, u16), u16>) -> Result<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let l4 = usize::from(packet[0] & 0x0f) * 4;
    let mut packet = packet.get(..length).context("shorter than it says")?.to_vec();
    ensure!(checksum(&[&packet[..l4]]) == 0, "the IP checksum is wrong: {packet:02x?}");
    packet[10..12].fill(0);
    let whole = is_first(&packet) && packet[6] & 0x20 == 0;
    if let Some(at) = layer4_checksum(&packet, l4)
        && whole
    {
        let (header, body) = packet.split_at(l4);
        let mut body = body.to_vec();
        let absent = header[9] == protocol::UDP && body[6..8] == [0, 0];
        let length = (body.len() as u16).to_be_bytes();
        let pseudo = [&header[12..20], &[0, header[9]], &length].concat();
        let pseudo = if header[9] == protocol::ICMP { Vec::new() } else { pseudo };
        body.resize(body.len().next_multiple_of(2), 0);
        let right = absent || checksum(&[&pseudo, &body]) == 0;
        // One that came wrong must stay wrong: it is compared by that.
        let word: [u8; 2] = if absent {
            [0, 0]
        } else if right {
            [1, 1]
        } else {
            [0xff, 0xff]
        };
        packet[at..at + 2].copy_from_slice(&word);
    }
    let own = Place::of(&packet, Side::Source);
    rename(&mut packet, own, back);
    let is_error = packet[9] == protocol::ICMP && is_first(&packet) && [3, 4, 11, 12].contains(&packet[l4]);
    if is_error {
        let quote = &mut packet[l4 + 8..];
        let inner = usize::from(quote[0] & 0x0f) * 4;
        ensure!(checksum(&[&quote[..inner]]) == 0, "the quoted IP checksum is wrong: {quote:02x?}");
        quote[10..12].fill(0);
        let guests = Place::of(quote, Side::Destination);
        rename(quote, guests, back);
        // What is quoted of a checksum is not said to be right (RFC 5508 REQ-4).
        if let Some(at) = layer4_checksum(quote, inner)
            && quote.len() >= at + 2
        {
            quote[at..at + 2].fill(0);
        }
    }
    Ok(packet)
}

fn rename(packet: &mut [u8], place: Option<Place>, back: &BTreeMap<(u8, u16), u16>) {
    if let Some(place) = place
        && let Some(own) = back.get(&(place.protocol, place.read(packet)))
    {
        packet[place.at..place.at + 2].copy_from_slice(&own.to_be_bytes());
    }
}

fn layer4_checksum(packet: &[u8], l4: usize) -> Option<usize> {
    let offset = match packet[9] {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMP => 2,
        _ => return None,
    };
    (packet.len() >= l4 + offset + 2).then_some(l4 + offset)
}
