//! How the ways to a VTEP share the room that its record has for next hops.
//!
//! The datapath takes a flow's next hop by its hash from a list of a few. A way of twice the weight stands there twice,
//! as well as so few entries allow.

use vpc_common::limits::UNDERLAY_NEXT_HOPS;

/// How often each way is to stand in the list, by the weights of the ways. Each does at least once; of more than there
/// is room for, the first ones once and the others not at all.
pub(super) fn entries(weights: &[u32]) -> Vec<usize> {
    if weights.len() >= UNDERLAY_NEXT_HOPS {
        return (0..weights.len()).map(|index| usize::from(index < UNDERLAY_NEXT_HOPS)).collect();
    }
    let mut best = Best { weights, total: weights.iter().copied().map(u64::from).sum(), error: None, entries: vec![] };
    best.search(&mut Vec::new(), 0);
    best.entries
}

/// The division that comes closest to the weights; of equally close ones the shortest.
struct Best<'a> {
    weights: &'a [u32],
    total: u64,
    /// How far the shares are off in sum, times the number of entries: a fraction over that number.
    error: Option<(u64, u64)>,
    entries: Vec<usize>,
}

impl Best<'_> {
    /// Tries every division that begins with `chosen`: at most three ways share four entries.
    fn search(&mut self, chosen: &mut Vec<usize>, used: usize) {
        if chosen.len() == self.weights.len() {
            return self.consider(chosen, used as u64);
        }
        let later = self.weights.len() - chosen.len() - 1;
        for count in 1..=UNDERLAY_NEXT_HOPS - used - later {
            chosen.push(count);
            self.search(chosen, used + count);
            chosen.pop();
        }
    }

    fn consider(&mut self, chosen: &[usize], used: u64) {
        let off = |(count, weight): (&usize, &u32)| (*count as u64 * self.total).abs_diff(u64::from(*weight) * used);
        let error: u64 = chosen.iter().zip(self.weights).map(off).sum();
        let better = self.error.is_none_or(|(best, of)| (error * of, used) < (best * used, of));
        if better {
            self.error = Some((error, used));
            self.entries = chosen.to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::entries;

    #[test]
    fn equal_ways_stand_once_each() {
        assert_eq!(entries(&[]), Vec::<usize>::new());
        assert_eq!(entries(&[7]), [1]);
        assert_eq!(entries(&[1, 1]), [1, 1]);
        assert_eq!(entries(&[3, 3, 3]), [1, 1, 1]);
        assert_eq!(entries(&[256, 256]), [1, 1]);
    }

    #[test]
    fn a_heavier_way_stands_more_often() {
        assert_eq!(entries(&[2, 1]), [2, 1]);
        assert_eq!(entries(&[1, 3]), [1, 3]);
        assert_eq!(entries(&[1, 2, 1]), [1, 2, 1]);
        assert_eq!(entries(&[20, 10]), [2, 1]);
    }

    #[test]
    fn what_four_entries_cannot_say_is_said_as_well_as_they_can() {
        assert_eq!(entries(&[100, 1]), [3, 1]);
        assert_eq!(entries(&[10, 9]), [1, 1]);
        assert_eq!(entries(&[3, 2]), [2, 1]);
        assert_eq!(entries(&[4, 1, 1]), [2, 1, 1]);
    }

    #[test]
    fn as_many_ways_as_entries_or_more_are_equal() {
        assert_eq!(entries(&[9, 1, 1, 1]), [1, 1, 1, 1]);
        assert_eq!(entries(&[1, 1, 1, 1, 9]), [1, 1, 1, 1, 0]);
    }
}
