//! Outer headers, made ready: the datapath copies them and fills in lengths, TOS, source port and VNI.

use std::net::IpAddr;
use vpc_common::limits::VXLAN_PORT;

/// TTL or hop limit of what the tunnel sends.
const OUTER_TTL: u8 = 64;
const UDP: u8 = 17;
/// The I flag: the VNI is valid (RFC 7348 §5).
const VXLAN_FLAGS: u8 = 0x08;

/// Outer IP, UDP and VXLAN headers between two VTEPs as [`vpc_common::vtep::Vtep::header`] wants them. None where the
/// families differ.
pub fn outer(source: IpAddr, destination: IpAddr) -> Option<[u8; 56]> {
    let mut header = [0; 56];
    let network = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header[0] = 0x45;
            // Don't fragment: a fragmented tunnel packet would be dropped by the other end.
            header[6] = 0x40;
            header[8] = OUTER_TTL;
            header[9] = UDP;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let checksum = !sum(&header[..20]);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            20
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header[0] = 0x60;
            header[6] = UDP;
            header[7] = OUTER_TTL;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            40
        }
        _ => return None,
    };
    header[network + 2..network + 4].copy_from_slice(&VXLAN_PORT.to_be_bytes());
    header[network + 8] = VXLAN_FLAGS;
    Some(header)
}

/// Ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::{outer, sum};

    #[test]
    fn an_ipv4_header_sums_up_once_its_length_is_in() {
        let mut header = outer("192.0.2.11".parse().unwrap(), "192.0.2.12".parse().unwrap()).unwrap();
        assert_eq!(sum(&header[..20]), 0xffff);
        // What the datapath does: the length goes in, and the checksum is updated by RFC 1624, equation 3.
        let length = 1_486_u16;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        let old = u16::from_be_bytes([header[10], header[11]]);
        let sum_of_changes = u32::from(!old) + u32::from(length);
        let new = !((sum_of_changes & 0xffff) + (sum_of_changes >> 16)) as u16;
        header[10..12].copy_from_slice(&new.to_be_bytes());
        assert_eq!(sum(&header[..20]), 0xffff);
        assert_eq!(&header[..10], [0x45, 0, 0x05, 0xce, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(&header[12..20], [192, 0, 2, 11, 192, 0, 2, 12]);
        assert_eq!(&header[20..36], [0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&header[36..], [0; 20]);
    }

    #[test]
    fn an_ipv6_header_is_complete_but_for_its_length() {
        let header = outer("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()).unwrap();
        assert_eq!(&header[..8], [0x60, 0, 0, 0, 0, 0, 17, 64]);
        assert_eq!((header[23], header[39]), (1, 2));
        assert_eq!(&header[40..56], [0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn families_do_not_mix() {
        assert_eq!(outer("192.0.2.11".parse().unwrap(), "2001:db8::2".parse().unwrap()), None);
    }
}
