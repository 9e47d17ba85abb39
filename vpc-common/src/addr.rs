//! Addresses and big-endian numbers, as they stand on the wire. All have alignment 1 unless said otherwise.

use bytemuck::{Pod, Zeroable};
use core::fmt;

/// A 16-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable, PartialOrd, Ord, Hash)]
pub struct Be16(pub [u8; 2]);

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be_bytes())
    }
    /// To host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
    /// The two bytes as the CPU loads them: fit for ones' complement sums and comparison, not for arithmetic.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        u16::from_ne_bytes(self.0)
    }
    /// The inverse of [`Be16::raw`].
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw.to_ne_bytes())
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A 32-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable, PartialOrd, Ord, Hash)]
pub struct Be32(pub [u8; 4]);

impl Be32 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be_bytes())
    }
    /// To host order.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
    /// The four bytes as the CPU loads them.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        u32::from_ne_bytes(self.0)
    }
    /// The inverse of [`Be32::raw`].
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw.to_ne_bytes())
    }
}

impl fmt::Debug for Be32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

/// An Ethernet address. Two words rather than six bytes: a compiler keeps words in registers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable, PartialOrd, Ord, Hash)]
pub struct Mac {
    first: Be32,
    last: Be16,
}

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self::new([0xff; 6]);
    /// The address of every VPC router, the same on every node: an anycast gateway. `76:70:63` is "vpc" in ASCII.
    pub const ROUTER: Self = Self::new([0x02, 0x76, 0x70, 0x63, 0x00, 0x01]);

    /// From its octets.
    #[inline(always)]
    pub const fn new(b: [u8; 6]) -> Self {
        Self { first: Be32([b[0], b[1], b[2], b[3]]), last: Be16([b[4], b[5]]) }
    }
    /// Its octets.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 6] {
        let (f, l) = (self.first.0, self.last.0);
        [f[0], f[1], f[2], f[3], l[0], l[1]]
    }
    /// The same as two words.
    #[inline(always)]
    pub const fn words(self) -> (Be32, Be16) {
        (self.first, self.last)
    }
    /// The inverse of [`Mac::words`].
    #[inline(always)]
    pub const fn from_words(first: Be32, last: Be16) -> Self {
        Self { first, last }
    }
    /// Broadcast or multicast (IEEE 802.3 §3.2.3: the first octet's lowest bit).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.first.get() & 1 << 24 != 0
    }
    /// The 48 bits as a number, first octet lowest.
    #[inline(always)]
    pub const fn to_u64(self) -> u64 {
        u32::from_le_bytes(self.first.0) as u64 | (u16::from_le_bytes(self.last.0) as u64) << 32
    }
    /// The link-local IPv6 address that is formed from this address (RFC 4291, appendix A: modified EUI-64).
    pub const fn link_local(self) -> Ip {
        let m = self.octets();
        Ip::from_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.octets();
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP address of either family in 16 bytes, network order, in four words as the CPU loads them; IPv4 in its
/// IPv4-mapped form (RFC 4291 §2.5.5.2). The form of every slow-path table; alignment 4.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable, PartialOrd, Ord, Hash)]
pub struct Ip(pub [u32; 4]);

impl Ip {
    /// No address: `::`.
    pub const UNSPECIFIED: Self = Self([0; 4]);
    /// The third word of an IPv4-mapped address.
    pub const MAPPED: u32 = 0x0000_ffff_u32.to_be();
    /// Bits of the prefix `::ffff:0:0/96`: a /24 of IPv4 is a /120 here.
    pub const MAPPED_BITS: u32 = 96;

    /// From an IPv4 address.
    #[inline(always)]
    pub const fn v4(address: Be32) -> Self {
        Self([0, 0, Self::MAPPED, address.raw()])
    }
    /// From 16 bytes in network order.
    #[inline(always)]
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }
    /// The 16 bytes in network order.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        let (a, b, c, d) =
            (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }
    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::MAPPED
    }
    /// The IPv4 address, if this is one; otherwise the last four bytes.
    #[inline(always)]
    pub const fn low(self) -> Be32 {
        Be32::from_raw(self.0[3])
    }
    /// Whether no address is set.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && (self.0[2] == 0 || self.0[2] == Self::MAPPED) && self.0[3] == 0
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4() {
            fmt::Display::fmt(&core::net::Ipv4Addr::from(self.low().0), f)
        } else {
            fmt::Display::fmt(&core::net::Ipv6Addr::from(self.bytes()), f)
        }
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<core::net::IpAddr> for Ip {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(a) => Self::v4(Be32(a.octets())),
            core::net::IpAddr::V6(a) => Self::from_bytes(a.octets()),
        }
    }
}

impl From<Ip> for core::net::IpAddr {
    fn from(ip: Ip) -> Self {
        if ip.is_v4() { Self::V4(ip.low().0.into()) } else { Self::V6(ip.bytes().into()) }
    }
}

/// A VXLAN network identifier, 24 bits, host order (RFC 7348 §5).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable, PartialOrd, Ord, Hash)]
pub struct Vni(pub u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = (1 << 24) - 1;

    /// The last word of the VXLAN header: the identifier in its upper 24 bits, the reserved byte zero.
    #[inline(always)]
    pub const fn wire(self) -> Be32 {
        Be32::new(self.0 << 8)
    }
    /// From the last word of the VXLAN header; the reserved byte is ignored.
    #[inline(always)]
    pub const fn from_wire(word: Be32) -> Self {
        Self(word.get() >> 8)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
