//! Where the text of a topology file lies.

use std::ops::Range;

/// The text of a file, which does not change. It may be large, and lie where memory can be given back: its readers say
/// what they have read.
pub trait Source: Sync {
    /// All of it.
    fn text(&self) -> &str;

    /// A part is not going to be read again soon.
    fn pass(&self, _part: Range<usize>) {}
}

impl Source for &str {
    fn text(&self) -> &str {
        self
    }
}

impl Source for String {
    fn text(&self) -> &str {
        self
    }
}

/// Compared before either text is told that it was read.
const WINDOW: usize = 1 << 20;
/// Compared at once: byte by byte a large text takes ten times as long.
const BLOCK: usize = 4_096;

/// How many bytes two texts begin with in common.
pub(crate) fn common_prefix(a: &dyn Source, b: &dyn Source) -> usize {
    let most = a.text().len().min(b.text().len());
    let mut at = 0;
    while at < most {
        let window = at..(at + WINDOW).min(most);
        let common = prefix_of(&a.text().as_bytes()[window.clone()], &b.text().as_bytes()[window.clone()]);
        a.pass(window.clone());
        b.pass(window.clone());
        at += common;
        if at < window.end {
            break;
        }
    }
    at
}

/// How many bytes they end with in common, behind a prefix that counts already.
pub(crate) fn common_suffix(a: &dyn Source, b: &dyn Source, prefix: usize) -> usize {
    let (a_end, b_end) = (a.text().len(), b.text().len());
    let most = a_end.min(b_end) - prefix;
    let mut length = 0;
    while length < most {
        let next = (length + WINDOW).min(most);
        let (in_a, in_b) = (a_end - next..a_end - length, b_end - next..b_end - length);
        let common = suffix_of(&a.text().as_bytes()[in_a.clone()], &b.text().as_bytes()[in_b.clone()]);
        a.pass(in_a);
        b.pass(in_b);
        length += common;
        if length < next {
            break;
        }
    }
    length
}

fn prefix_of(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    blocks + a[blocks..].iter().zip(&b[blocks..]).take_while(|(a, b)| a == b).count()
}

fn suffix_of(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.rchunks_exact(BLOCK).zip(b.rchunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    let rest = a[..a.len() - blocks].iter().rev().zip(b[..b.len() - blocks].iter().rev());
    blocks + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_texts_have_in_common_is_found_across_windows() {
        let long = "0123456789abcdef".repeat((3 * WINDOW + 5 * BLOCK) / 16);
        for at in [0, 1, BLOCK - 1, BLOCK, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + BLOCK + 7, long.len() - 1] {
            let mut other = long.clone();
            other.replace_range(at..=at, "--");
            assert_eq!(common_prefix(&long, &other), at);
            assert_eq!(common_suffix(&long, &other, at), long.len() - at - 1);
        }
        assert_eq!(common_prefix(&long, &long), long.len());
        assert_eq!(common_suffix(&long, &long, long.len()), 0);
        let half = &long[..long.len() / 2];
        assert_eq!(common_prefix(&long, &half), half.len());
        assert_eq!(common_suffix(&long, &half, half.len()), 0);
    }
}
