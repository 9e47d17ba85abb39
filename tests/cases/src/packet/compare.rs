//! Comparison of bytes, and bytes for people.

use super::Serialised;
use std::fmt::Write as _;

/// Where the bytes are not what is expected; none where they are.
pub fn difference(expected: &Serialised, actual: &[u8]) -> Option<String> {
    let mut wanted = expected.bytes.clone();
    for from_end in &expected.hashed_ports {
        let Some(at) = wanted.len().checked_sub(*from_end) else { continue };
        let port = actual.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
        match port {
            Some(port @ 49_152..) => wanted[at..at + 2].copy_from_slice(&port.to_be_bytes()),
            Some(port) => return Some(format!("the source port {port} is not in 49152..65535")),
            None => {}
        }
    }
    if wanted == actual {
        return None;
    }
    let at = wanted.iter().zip(actual).position(|(a, b)| a != b).unwrap_or(wanted.len().min(actual.len()));
    Some(format!(
        "byte {at} differs\nexpected, {} bytes:\n{}\nactual, {} bytes:\n{}",
        wanted.len(),
        show(&wanted, actual),
        actual.len(),
        show(actual, &wanted)
    ))
}

/// Bytes in hexadecimal, 16 in a line; those that differ from `other` in brackets. The head of long packets only.
pub fn show(bytes: &[u8], other: &[u8]) -> String {
    const LONGEST: usize = 192;
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).take(LONGEST / 16).enumerate() {
        let _ = write!(text, "  {:4}:", line * 16);
        for (column, byte) in chunk.iter().enumerate() {
            let same = other.get(line * 16 + column) == Some(byte);
            let _ = if same { write!(text, " {byte:02x} ") } else { write!(text, "[{byte:02x}]") };
        }
        text.push('\n');
    }
    if bytes.len() > LONGEST {
        text.push_str("  …\n");
    }
    text
}
