//! The question to a reflector, and its answer.

use std::time::Duration;
use vpc_common::{
    Be32,
    bfd::{Control, State, flags},
};

/// What is asked: the side that asks is in demand mode, and says which state it takes the other for (RFC 7880 §7.3.2).
pub(super) fn question(state: State, (own, theirs): (u32, u32), interval: Duration, multiplier: u8) -> Control {
    Control {
        version_diagnostic: Control::VERSION_1,
        state_flags: state.bits() | flags::DEMAND,
        detect_multiplier: multiplier,
        length: Control::LENGTH,
        my_discriminator: Be32::new(own),
        your_discriminator: Be32::new(theirs),
        desired_min_tx: Be32::new(u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)),
        ..Control::default()
    }
}

/// A reflector's answer, if the bytes are one.
pub(super) fn answer(bytes: &[u8]) -> Option<Control> {
    let control: Control = bytemuck::try_pod_read_unaligned(bytes).ok()?;
    let answers = control.is_sound() && control.state_flags & flags::DEMAND == 0;
    (answers && matches!(control.state(), State::Up | State::AdminDown)).then_some(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_the_rfc_says_and_no_answer() {
        let question = question(State::Down, (0x1234_5678, 2), Duration::from_millis(100), 3);
        let bytes = bytemuck::bytes_of(&question);
        let words = [0x2042_0318_u32, 0x1234_5678, 2, 100_000, 0, 0];
        assert_eq!(bytes, words.map(u32::to_be_bytes).concat());
        assert_eq!(answer(bytes), None);
        assert_eq!(answer(&bytes[..23]), None);
    }

    #[test]
    fn an_answer_is_up_or_admin_down() {
        let word = |state: u8| [0x20, state << 6, 3, 24, 0, 0, 0, 2, 0x12, 0x34, 0x56, 0x78];
        let bytes = |state| [&word(state)[..], &[0; 12]].concat();
        let states = [0, 1, 2, 3].map(|state| answer(&bytes(state)).map(|control| control.state()));
        assert_eq!(states, [Some(State::AdminDown), None, None, Some(State::Up)]);
    }
}
