//! Connection tracking: which packets open a flow, and what a packet does to the state of its flow.

use crate::{family::Family, scratch::Flow};
use vpc_common::{
    limits::HALF_OPEN_SHARE,
    port::Timeouts,
    session::{Session, decided, state},
    wire::{protocol, tcp_flags},
};

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The workload of the session.
    Guest,
    /// The other end.
    Peer,
}

impl Side {
    /// The bit that says this side opened the flow.
    #[inline(always)]
    pub const fn opener(self) -> u8 {
        match self {
            Self::Guest => decided::OPENED_HERE,
            Self::Peer => 0,
        }
    }
    #[inline(always)]
    const fn fin(self) -> u8 {
        match self {
            Self::Guest => decided::GUEST_FIN,
            Self::Peer => decided::PEER_FIN,
        }
    }
}

/// What a packet of TCP changed besides its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// The flow is half-open no more.
    NotHalfOpen,
}

/// The state in which a packet opens a flow; 0: it cannot.
#[inline(always)]
pub fn opening_state<F: Family>(flow: &Flow) -> u8 {
    if flow.protocol == protocol::TCP {
        let flags = flow.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN);
        return if flags == tcp_flags::SYN { state::OPENING } else { 0 };
    }
    let echo_reply = flow.protocol == F::ICMP && flow.icmp_type == F::ECHO.1;
    if echo_reply { 0 } else { state::ONE_WAY }
}

/// Whether a session is half-open.
#[inline(always)]
pub const fn is_half_open(state: u8) -> bool {
    matches!(state, state::OPENING | state::ANSWERED)
}

/// Of so many sessions, how many may be half-open.
#[inline(always)]
pub const fn half_open_quota(sessions: u32) -> u32 {
    let share = sessions / HALF_OPEN_SHARE;
    if share == 0 { 1 } else { share }
}

/// A session that was seen so many ticks ago was seen after the clock was read, by another CPU: it is not idle.
pub const BEHIND: u16 = 0xff00;

/// How long a session lives without a packet, ticks.
#[inline(always)]
pub fn timeout(timeouts: &Timeouts, protocol: u8, state: u8) -> u16 {
    match state {
        state::ESTABLISHED => timeouts.tcp_established,
        state::OPENING | state::ANSWERED => timeouts.tcp_half_open,
        state::CLOSING | state::CLOSED => timeouts.tcp_closing,
        _ if protocol == protocol::ICMP || protocol == protocol::ICMPV6 => timeouts.icmp,
        state::TWO_WAY => timeouts.two_way,
        _ => timeouts.one_way,
    }
}

/// Whether a session still stands for this packet: it has not expired, and it is not one of the past whose addresses and
/// ports a SYN uses anew (RFC 9293 §3.6.1).
#[inline(always)]
pub fn stands(session: &Session, flow: &Flow, timeouts: &Timeouts, now: u16) -> bool {
    let idle = now.wrapping_sub(session.last_seen);
    let expired = idle > timeout(timeouts, flow.protocol, session.state) && idle < BEHIND;
    let reopens =
        session.state == state::CLOSED && flow.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    !expired && !reopens
}

/// What a packet that `side` sent does to its session.
#[inline(always)]
pub fn advance(session: &mut Session, flow: &Flow, side: Side) -> Change {
    if session.state >= state::ONE_WAY {
        if session.decided & decided::OPENED_HERE != side.opener() {
            session.state = state::TWO_WAY;
        }
        return Change::None;
    }
    const CONTROL: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
    if flow.tcp_flags & CONTROL != 0 || session.state != state::ESTABLISHED {
        return transition(session, flow, side);
    }
    acknowledge(session, flow, side);
    Change::None
}

/// Notes which sequence number a side expects next.
#[inline(always)]
fn acknowledge(session: &mut Session, flow: &Flow, side: Side) {
    let expected = match side {
        Side::Guest => &mut session.guest_expects,
        Side::Peer => &mut session.peer_expects,
    };
    // Sequence numbers are compared modulo 2^32 (RFC 9293 §3.4).
    if flow.tcp_flags & tcp_flags::ACK != 0 && flow.acknowledgment.wrapping_sub(*expected) as i32 > 0 {
        *expected = flow.acknowledgment;
    }
}

/// Everything but the data of an established connection.
#[inline(never)]
fn transition(session: &mut Session, flow: &Flow, side: Side) -> Change {
    let flags = flow.tcp_flags;
    let was_half_open = is_half_open(session.state);
    if flags & tcp_flags::RST != 0 {
        if is_exact(session, flow, side) {
            session.state = state::CLOSED;
        }
    } else if flags & tcp_flags::SYN != 0 {
        if was_half_open {
            // The other side must confirm the SYN, and expects what follows it.
            let (own, other) = match side {
                Side::Guest => (&mut session.guest_expects, &mut session.peer_expects),
                Side::Peer => (&mut session.peer_expects, &mut session.guest_expects),
            };
            *other = flow.sequence.wrapping_add(1);
            if flags & tcp_flags::ACK != 0 {
                *own = flow.acknowledgment;
            }
            // Also a SYN without ACK: both open at once (RFC 9293 §3.5).
            if !is_opener(session, side) {
                session.state = state::ANSWERED;
            }
        }
    } else {
        acknowledge(session, flow, side);
        if session.state == state::ANSWERED && is_opener(session, side) && flags & tcp_flags::ACK != 0 {
            session.state = state::ESTABLISHED;
        }
        if flags & tcp_flags::FIN != 0 && session.state != state::OPENING {
            session.decided |= side.fin();
            let both = decided::GUEST_FIN | decided::PEER_FIN;
            session.state = if session.decided & both == both { state::CLOSED } else { state::CLOSING };
        }
    }
    if was_half_open && !is_half_open(session.state) { Change::NotHalfOpen } else { Change::None }
}

/// Whether it was that side that opened the flow.
#[inline(always)]
fn is_opener(session: &Session, side: Side) -> bool {
    session.decided & decided::OPENED_HERE == side.opener()
}

/// Whether an RST has exactly the sequence number that its receiver expects (RFC 5961 §3.2), or answers a SYN by its
/// acknowledgment (RFC 9293 §3.10.7.3). Any other leaves the flow as it is; its receiver judges for itself.
#[inline(always)]
fn is_exact(session: &Session, flow: &Flow, side: Side) -> bool {
    let (own, other) = match side {
        Side::Guest => (session.guest_expects, session.peer_expects),
        Side::Peer => (session.peer_expects, session.guest_expects),
    };
    if session.state == state::OPENING && !is_opener(session, side) {
        return flow.tcp_flags & tcp_flags::ACK != 0 && flow.acknowledgment == own;
    }
    flow.sequence == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FamilyV4;

    const FIN: u8 = tcp_flags::FIN;
    const SYN: u8 = tcp_flags::SYN;
    const RST: u8 = tcp_flags::RST;
    const ACK: u8 = tcp_flags::ACK;

    fn segment(flags: u8, sequence: u32, acknowledgment: u32) -> Flow {
        Flow { protocol: protocol::TCP, tcp_flags: flags, sequence, acknowledgment, ..Flow::default() }
    }

    fn opened(flow: &Flow) -> Session {
        let mut session =
            Session { decided: decided::OPENED_HERE, state: opening_state::<FamilyV4>(flow), ..Session::default() };
        assert_eq!(session.state, state::OPENING);
        assert_eq!(advance(&mut session, flow, Side::Guest), Change::None);
        session
    }

    fn established() -> Session {
        let mut session = opened(&segment(SYN, 100, 0));
        advance(&mut session, &segment(SYN | ACK, 900, 101), Side::Peer);
        assert_eq!(session.state, state::ANSWERED);
        assert_eq!(advance(&mut session, &segment(ACK, 101, 901), Side::Guest), Change::NotHalfOpen);
        assert_eq!(session.state, state::ESTABLISHED);
        session
    }

    #[test]
    fn only_a_syn_opens() {
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, SYN | RST, 0] {
            assert_eq!(opening_state::<FamilyV4>(&segment(flags, 1, 1)), 0, "flags {flags:#x}");
        }
    }

    #[test]
    fn a_reset_must_be_exact() {
        for (sequence, believed) in [(900, false), (901, true), (902, false), (0, false)] {
            let mut session = established();
            advance(&mut session, &segment(RST, sequence, 0), Side::Peer);
            assert_eq!(session.state == state::CLOSED, believed, "sequence {sequence}");
        }
        let mut session = established();
        advance(&mut session, &segment(RST, 101, 0), Side::Guest);
        assert_eq!(session.state, state::CLOSED, "the guest's own");
    }

    #[test]
    fn a_refusal_must_acknowledge_the_syn() {
        for (acknowledgment, believed) in [(100, false), (101, true)] {
            let mut session = opened(&segment(SYN, 100, 0));
            let change = advance(&mut session, &segment(RST | ACK, 0, acknowledgment), Side::Peer);
            assert_eq!((session.state == state::CLOSED, change == Change::NotHalfOpen), (believed, believed));
        }
    }

    #[test]
    fn both_may_open_at_once() {
        let mut session = opened(&segment(SYN, 100, 0));
        advance(&mut session, &segment(SYN, 900, 0), Side::Peer);
        assert_eq!(session.state, state::ANSWERED);
        advance(&mut session, &segment(SYN | ACK, 100, 901), Side::Guest);
        advance(&mut session, &segment(SYN | ACK, 900, 101), Side::Peer);
        advance(&mut session, &segment(ACK, 101, 901), Side::Guest);
        assert_eq!(session.state, state::ESTABLISHED);
    }

    #[test]
    fn it_closes_when_both_have_finished() {
        let mut session = established();
        advance(&mut session, &segment(FIN | ACK, 101, 901), Side::Guest);
        assert_eq!(session.state, state::CLOSING);
        advance(&mut session, &segment(ACK, 901, 102), Side::Peer);
        assert_eq!(session.state, state::CLOSING, "half-closed: the peer may still send");
        advance(&mut session, &segment(FIN | ACK, 901, 102), Side::Peer);
        assert_eq!(session.state, state::CLOSED);
        let again = segment(SYN, 5_000, 0);
        assert!(!stands(&session, &again, &Timeouts { tcp_closing: 10, ..Timeouts::default() }, 0));
    }

    #[test]
    fn expiry_wraps_with_the_clock() {
        let timeouts = Timeouts { two_way: 100, ..Timeouts::default() };
        let session = Session { state: state::TWO_WAY, last_seen: 65_500, ..Session::default() };
        let flow = Flow { protocol: protocol::UDP, ..Flow::default() };
        assert!(stands(&session, &flow, &timeouts, 65_600_u32 as u16), "100 ticks");
        assert!(!stands(&session, &flow, &timeouts, 65_601_u32 as u16), "101 ticks");
        assert!(stands(&session, &flow, &timeouts, 65_499), "a packet came meanwhile");
    }
}
