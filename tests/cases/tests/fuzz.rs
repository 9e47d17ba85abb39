//! The fuzzers find nothing in some inputs made at random: a beginning, and it keeps them running.

use proptest::{collection::vec, prelude::*};
use vpc_cases::fuzz;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nothing_in_frames(input in vec(any::<u8>(), 0..600)) {
        fuzz::packets::run(&input);
    }

    #[test]
    fn nothing_in_topologies(input in vec(any::<u8>(), 0..200)) {
        fuzz::topology::run(&input);
    }
}
