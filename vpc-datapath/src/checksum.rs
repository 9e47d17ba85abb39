//! Ones' complement sums (RFC 1071), over words as the CPU loads them: the sum's byte order is that of its words.

use vpc_common::{Be16, wire::Ipv4};

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let s = (sum & 0xffff_ffff) + (sum >> 32);
    let s = (s & 0xffff) + (s >> 16);
    let s = (s & 0xffff) + (s >> 16);
    let s = (s & 0xffff) + (s >> 16);
    s as u16
}

/// The sum of a buffer, zero-padded to whole words.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    let mut i = 0;
    while i + 4 <= bytes.len() {
        sum += u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]) as u64;
        i += 4;
    }
    let mut tail = [0u8; 4];
    let mut j = 0;
    while i + j < bytes.len() {
        tail[j] = bytes[i + j];
        j += 1;
    }
    sum + u32::from_ne_bytes(tail) as u64
}

/// The sum of an IPv4 header without options; 0xffff when it is right.
#[inline(always)]
pub fn ipv4_sum(h: &Ipv4) -> u16 {
    let word = |a: u8, b: u8| u16::from_ne_bytes([a, b]) as u64;
    fold(
        word(h.version_ihl, h.tos)
            + h.total_length.raw() as u64
            + h.id.raw() as u64
            + h.fragment.raw() as u64
            + word(h.ttl, h.protocol)
            + h.checksum.raw() as u64
            + h.source.raw() as u64
            + h.destination.raw() as u64,
    )
}

/// The checksum after a 16-bit word has changed (RFC 1624, equation 3). Words as the CPU loads them.
#[inline(always)]
pub fn update(checksum: Be16, old: u16, new: u16) -> Be16 {
    Be16::from_raw(!fold(!checksum.raw() as u64 + !old as u64 + new as u64))
}

/// The same for an IPv4 address.
#[inline(always)]
pub const fn update_address(checksum: Be16, old: u32, new: u32) -> Be16 {
    Be16::from_raw(!fold(!checksum.raw() as u64 + !old as u64 + new as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_common::Be32;

    fn header() -> Ipv4 {
        let mut h = Ipv4 {
            version_ihl: 0x45,
            total_length: Be16::new(84),
            ttl: 64,
            protocol: 1,
            source: Be32([10, 0, 1, 10]),
            destination: Be32([10, 0, 2, 10]),
            ..Default::default()
        };
        h.checksum = Be16::from_raw(!ipv4_sum(&h));
        h
    }

    #[test]
    fn a_right_header_sums_to_all_ones() {
        assert_eq!(ipv4_sum(&header()), 0xffff);
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        for ttl in 1..=255u8 {
            let mut h = header();
            let word = |ttl| u16::from_ne_bytes([ttl, h.protocol]);
            h.checksum = update(h.checksum, word(h.ttl), word(ttl));
            h.ttl = ttl;
            assert_eq!(ipv4_sum(&h), 0xffff, "ttl {ttl}");
        }
    }

    #[test]
    fn a_buffer_of_any_length_is_summed() {
        assert_eq!(
            fold(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])).to_ne_bytes(),
            [0xdd, 0xf2],
            "RFC 1071, section 3"
        );
        assert_eq!(fold(sum(&[1])).to_ne_bytes(), [1, 0]);
    }
}
