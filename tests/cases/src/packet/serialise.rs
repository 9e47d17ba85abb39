//! From descriptions to bytes.

use super::{
    AddressFamily, Arp, Bfd, Cut, Extension, Fragment, Icmp, Ipv4, Ipv6, Layer, Names, Nd, Port, Tcp, Udp, Vxlan,
};
use anyhow::{Context, Result, bail, ensure};
use std::net::IpAddr;

/// Bytes, and where a port may be any of those that a hash gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serialised {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Places of such ports, counted from the end.
    pub hashed_ports: Vec<usize>,
}

/// The enclosing IP header, for pseudo headers.
#[derive(Clone, Copy)]
struct Enclosing {
    source: IpAddr,
    destination: IpAddr,
}

/// The bytes of a packet.
///
/// # Errors
/// The description names what is not there, or does not make sense.
pub fn serialise(layers: &[Layer], names: &dyn Names) -> Result<Serialised> {
    let (layers, padding) = match layers.split_last() {
        Some((Layer::Padding(bytes), rest)) => (rest, *bytes),
        _ => (layers, 0),
    };
    let mut packet = Serialised::default();
    emit(layers, names, None, &mut packet)?;
    packet.bytes.resize(packet.bytes.len() + padding, 0);
    packet.hashed_ports.iter_mut().for_each(|place| *place += padding);
    Ok(packet)
}

/// Writes the layers in front of nothing: the rest first, then the header before it.
fn emit(layers: &[Layer], names: &dyn Names, enclosing: Option<Enclosing>, out: &mut Serialised) -> Result<()> {
    let Some((layer, rest)) = layers.split_first() else { return Ok(()) };
    if let Layer::Tunnel(tunnel) = layer {
        let mut expanded = names.tunnel(tunnel)?;
        expanded.extend_from_slice(rest);
        return emit(&expanded, names, enclosing, out);
    }
    let inside = match layer {
        Layer::Ipv4(ip) => Some(Enclosing {
            source: names.address(&ip.src, AddressFamily::V4)?,
            destination: names.address(&ip.dst, AddressFamily::V4)?,
        }),
        Layer::Ipv6(ip) => Some(Enclosing {
            source: names.address(&ip.src, AddressFamily::V6)?,
            destination: names.address(&ip.dst, AddressFamily::V6)?,
        }),
        _ => enclosing,
    };
    emit(rest, names, inside, out)?;
    let next = rest.first();
    let header = match layer {
        Layer::Eth(eth) => {
            let mut h = names.mac(&eth.dst)?.octets().to_vec();
            h.extend(names.mac(&eth.src)?.octets());
            h.extend(ether_type(eth.ether_type, next)?.to_be_bytes());
            h
        }
        Layer::Vlan(vlan) => [vlan.id.to_be_bytes(), ether_type(None, next)?.to_be_bytes()].concat(),
        Layer::Arp(arp) => self::arp(arp, names)?,
        Layer::Ipv4(ip) => ipv4(ip, inside, next, out.bytes.len())?,
        Layer::Ipv6(ip) => ipv6(ip, inside, next, out.bytes.len())?,
        Layer::Extension(extension) => self::extension(extension, next)?,
        Layer::Fragment(fragment) => self::fragment(fragment, next)?,
        Layer::Tcp(tcp) => self::tcp(tcp, inside, &out.bytes)?,
        Layer::Udp(udp) => {
            if matches!(udp.src, Port::Hashed(_)) {
                out.hashed_ports.push(out.bytes.len() + 8);
            }
            self::udp(udp, inside, &out.bytes)?
        }
        Layer::Icmp(icmp) => self::icmp(icmp, None, &out.bytes),
        Layer::Icmpv6(icmp) => self::icmp(icmp, Some(inside.context("ICMPv6 outside IPv6")?), &out.bytes),
        Layer::Nd(nd) => self::nd(nd, inside.context("neighbour discovery outside IPv6")?, names)?,
        Layer::Vxlan(vxlan) => self::vxlan(vxlan),
        Layer::Bfd(bfd) => self::bfd(bfd),
        Layer::Payload(bytes) => (0..*bytes).map(|index| index as u8).collect(),
        Layer::Hex(text) => hex(text)?,
        Layer::Cut(cut) => self::cut(cut, names, enclosing)?,
        Layer::Padding(_) => bail!("padding stands last"),
        Layer::Tunnel(_) => Vec::new(),
    };
    out.bytes.splice(0..0, header);
    Ok(())
}

/// Bytes of a text in hexadecimal.
fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    ensure!(digits.len().is_multiple_of(2), "an odd number of digits in {text:?}");
    let byte = |pair: &[u8]| -> Result<u8> { Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?) };
    digits.chunks(2).map(|pair| byte(pair).with_context(|| format!("not hexadecimal: {text:?}"))).collect()
}

fn ether_type(given: Option<u16>, next: Option<&Layer>) -> Result<u16> {
    Ok(match (given, next) {
        (Some(given), _) => given,
        (_, Some(Layer::Ipv4(_))) => 0x0800,
        (_, Some(Layer::Ipv6(_))) => 0x86dd,
        (_, Some(Layer::Arp(_))) => 0x0806,
        (_, Some(Layer::Vlan(vlan))) => vlan.tag,
        (_, next) => bail!("what is the EtherType of {next:?}? Give `type`"),
    })
}

fn protocol(given: Option<u8>, next: Option<&Layer>) -> Result<u8> {
    Ok(match (given, next) {
        (Some(given), _) => given,
        (_, Some(Layer::Tcp(_))) => 6,
        (_, Some(Layer::Udp(_))) => 17,
        (_, Some(Layer::Icmp(_))) => 1,
        (_, Some(Layer::Icmpv6(_) | Layer::Nd(_))) => 58,
        (_, Some(Layer::Extension(extension))) => extension.kind,
        (_, Some(Layer::Fragment(_))) => 44,
        (_, Some(Layer::Ipv4(_))) => 4,
        (_, Some(Layer::Ipv6(_))) => 41,
        (_, Some(Layer::Cut(cut))) => match cut.protocol {
            Some(protocol) => protocol,
            None => protocol(None, cut.of.first())?,
        },
        (_, None) => 59,
        (_, next) => bail!("what is the protocol of {next:?}? Give it"),
    })
}

/// The sum of RFC 1071, and its complement.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of a layer-4 packet.
fn l4_checksum(enclosing: Enclosing, protocol: u8, header: &[u8], payload: &[u8]) -> u16 {
    let length = (header.len() + payload.len()) as u32;
    let mut pseudo = Vec::new();
    match (enclosing.source, enclosing.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            pseudo.extend([source.octets(), destination.octets()].concat());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            pseudo.extend([source.octets(), destination.octets()].concat());
        }
        _ => {}
    }
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    checksum(&[&pseudo, header, payload])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn arp(arp: &Arp, names: &dyn Names) -> Result<Vec<u8>> {
    let mut h = Vec::new();
    h.extend(arp.hardware.to_be_bytes());
    h.extend(arp.protocol.to_be_bytes());
    h.extend([arp.hardware_length, arp.protocol_length]);
    h.extend(arp.operation.to_be_bytes());
    h.extend(names.mac(&arp.sender_mac)?.octets());
    h.extend(octets(names.address(&arp.sender, AddressFamily::V4)?));
    match &arp.target_mac {
        Some(mac) => h.extend(names.mac(mac)?.octets()),
        None => h.extend([0; 6]),
    }
    h.extend(octets(names.address(&arp.target, AddressFamily::V4)?));
    Ok(h)
}

fn ipv4(ip: &Ipv4, inside: Option<Enclosing>, next: Option<&Layer>, payload: usize) -> Result<Vec<u8>> {
    let enclosing = inside.context("addresses")?;
    let options = ip.options.as_deref().map(hex).transpose()?.unwrap_or_default();
    let length = 20 + options.len();
    let ihl = ip.ihl.unwrap_or((length / 4) as u8);
    let mut h = vec![ip.version.unwrap_or(4) << 4 | ihl, ip.tos];
    h.extend(ip.length.unwrap_or((length + payload) as u16).to_be_bytes());
    h.extend(ip.id.to_be_bytes());
    ensure!(ip.offset.is_multiple_of(8), "a fragment offset that is no multiple of 8");
    let flags = u16::from(ip.df) << 14 | u16::from(ip.mf) << 13;
    h.extend((flags | (ip.offset / 8)).to_be_bytes());
    h.extend([ip.ttl, protocol(ip.protocol, next)?, 0, 0]);
    h.extend(octets(enclosing.source));
    h.extend(octets(enclosing.destination));
    h.extend(options);
    let checksum = ip.checksum.unwrap_or_else(|| checksum(&[&h]));
    h[10..12].copy_from_slice(&checksum.to_be_bytes());
    Ok(h)
}

fn ipv6(ip: &Ipv6, inside: Option<Enclosing>, next: Option<&Layer>, payload: usize) -> Result<Vec<u8>> {
    let enclosing = inside.context("addresses")?;
    let first = u32::from(ip.version.unwrap_or(6)) << 28 | u32::from(ip.tos) << 20 | ip.flow;
    let mut h = first.to_be_bytes().to_vec();
    h.extend(ip.length.unwrap_or(payload as u16).to_be_bytes());
    h.extend([protocol(ip.next_header, next)?, ip.hop_limit]);
    h.extend(octets(enclosing.source));
    h.extend(octets(enclosing.destination));
    Ok(h)
}

fn extension(extension: &Extension, next: Option<&Layer>) -> Result<Vec<u8>> {
    let body = extension.body.as_deref().map(hex).transpose()?.unwrap_or_else(|| vec![1, 4, 0, 0, 0, 0]);
    ensure!((body.len() + 2) % 8 == 0, "an extension header whose length is no multiple of 8");
    let length = extension.length.unwrap_or(((body.len() + 2) / 8 - 1) as u8);
    Ok([vec![protocol(extension.next_header, next)?, length], body].concat())
}

fn fragment(fragment: &Fragment, next: Option<&Layer>) -> Result<Vec<u8>> {
    let mut h = vec![protocol(fragment.next_header, next)?, 0];
    h.extend((fragment.offset & !7 | u16::from(fragment.more)).to_be_bytes());
    h.extend(fragment.id.to_be_bytes());
    Ok(h)
}

fn tcp(tcp: &Tcp, inside: Option<Enclosing>, payload: &[u8]) -> Result<Vec<u8>> {
    let mut h = Vec::new();
    h.extend(tcp.src.to_be_bytes());
    h.extend(tcp.dst.to_be_bytes());
    h.extend(tcp.seq.to_be_bytes());
    h.extend(tcp.ack.to_be_bytes());
    h.extend([5 << 4, tcp.flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = match tcp.checksum {
        Some(given) => given,
        None => l4_checksum(inside.context("TCP outside IP")?, 6, &h, payload),
    };
    h[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok(h)
}

fn udp(udp: &Udp, inside: Option<Enclosing>, payload: &[u8]) -> Result<Vec<u8>> {
    let source = match udp.src {
        Port::Number(port) => port,
        Port::Hashed(_) => 0,
    };
    let mut h = Vec::new();
    h.extend(source.to_be_bytes());
    h.extend(udp.dst.to_be_bytes());
    h.extend(udp.length.unwrap_or((8 + payload.len()) as u16).to_be_bytes());
    h.extend([0, 0]);
    let sum = match udp.checksum {
        Some(given) => given,
        None => match l4_checksum(inside.context("UDP outside IP")?, 17, &h, payload) {
            0 => 0xffff,
            sum => sum,
        },
    };
    h[6..8].copy_from_slice(&sum.to_be_bytes());
    Ok(h)
}

fn icmp(icmp: &Icmp, v6: Option<Enclosing>, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![icmp.kind, icmp.code, 0, 0];
    h.extend(icmp.id.to_be_bytes());
    h.extend(icmp.seq.to_be_bytes());
    let sum = icmp.checksum.unwrap_or_else(|| match v6 {
        Some(enclosing) => l4_checksum(enclosing, 58, &h, payload),
        None => checksum(&[&h, payload]),
    });
    h[2..4].copy_from_slice(&sum.to_be_bytes());
    h
}

fn nd(nd: &Nd, enclosing: Enclosing, names: &dyn Names) -> Result<Vec<u8>> {
    let mut h = vec![nd.kind, nd.code, 0, 0, nd.flags, 0, 0, 0];
    if nd.kind == 134 {
        // Hop limit, flags and lifetime are in the first eight bytes; two timers follow.
        h.extend([0; 8]);
    }
    if let Some(target) = &nd.target {
        h.extend(octets(names.address(target, AddressFamily::V6)?));
    }
    if nd.kind == 137 {
        h.extend([0; 16]);
    }
    for (kind, mac) in [(1, &nd.source_mac), (2, &nd.target_mac)] {
        if let Some(mac) = mac {
            h.extend([kind, 1]);
            h.extend(names.mac(mac)?.octets());
        }
    }
    h.extend(nd.options.as_deref().map(hex).transpose()?.unwrap_or_default());
    let sum = nd.checksum.unwrap_or_else(|| l4_checksum(enclosing, 58, &h, &[]));
    h[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(h)
}

fn vxlan(vxlan: &Vxlan) -> Vec<u8> {
    let first = u32::from(vxlan.flags) << 24 | vxlan.reserved;
    [first.to_be_bytes(), (vxlan.vni << 8 | u32::from(vxlan.reserved2)).to_be_bytes()].concat()
}

fn bfd(bfd: &Bfd) -> Vec<u8> {
    let length = bfd.length.unwrap_or(24);
    let mut h = vec![bfd.version << 5 | bfd.diagnostic, bfd.state << 6 | bfd.flags, bfd.multiplier, length];
    h.extend([bfd.mine, bfd.yours, bfd.tx, bfd.rx, bfd.echo].iter().flat_map(|word| word.to_be_bytes()));
    h
}

fn cut(cut: &Cut, names: &dyn Names, enclosing: Option<Enclosing>) -> Result<Vec<u8>> {
    let mut whole = Serialised::default();
    emit(&cut.of, names, enclosing, &mut whole)?;
    let end = cut.length.map_or(whole.bytes.len(), |length| cut.from + length);
    let part = whole.bytes.get(cut.from..end);
    Ok(part.with_context(|| format!("cut {}..{end} of {} bytes", cut.from, whole.bytes.len()))?.to_vec())
}
