//! What is known of one node that is asked whether it is alive: the initiator's side of RFC 7880 §7.3, without a socket
//! or a clock.

use std::time::{Duration, Instant};
use vpc_common::bfd::{Control, State};
use vpc_topology::compile::{DesiredProbe, ProbeRole};

/// A node that is not up is asked no more often than that (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);
/// A node that came back waits for its detection time before it is used; one that comes and goes twice as long each time,
/// up to so many doublings.
const DOUBLINGS: u32 = 5;
/// So long a node must have been in use for its earlier failures to be forgotten.
const FORGIVEN: Duration = Duration::from_secs(60);

/// What is thought of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It was not asked long enough to tell.
    Unknown,
    /// It answers.
    Alive,
    /// It answers again, and has yet to prove itself.
    Returning,
    /// It does not answer.
    Silent,
    /// It says that it is out of service.
    OutOfService,
}

impl Health {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Returning => "returning",
            Self::Silent => "silent",
            Self::OutOfService => "out_of_service",
        }
    }
}

/// Counters of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Questions.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// How often it went out of use.
    pub failures: u64,
    /// From the last question to its answer.
    pub round_trip: Duration,
}

/// One node.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) target: DesiredProbe,
    /// Tells answers to these questions from any others.
    pub(super) discriminator: u32,
    health: Health,
    /// Whether it ever answered.
    pub(super) known: bool,
    pub(super) tally: Tally,
    /// The interval in force: what is configured, or what the reflector asks for.
    interval: Duration,
    heard: Instant,
    asked: Instant,
    unanswered: u32,
    next: Instant,
    /// When [`Health::Returning`] ends, or [`Health::Alive`] began.
    since: Instant,
    /// How often it failed without being forgiven.
    relapses: u32,
}

impl Session {
    pub(super) fn new(target: DesiredProbe, discriminator: u32, now: Instant) -> Self {
        let interval = target.interval;
        Self {
            target,
            discriminator,
            health: Health::Unknown,
            known: false,
            tally: Tally::default(),
            interval,
            heard: now,
            asked: now,
            unanswered: 0,
            next: now,
            since: now,
            relapses: 0,
        }
    }

    /// Takes over what the topology says now.
    pub(super) fn retarget(&mut self, target: DesiredProbe) {
        self.interval = target.interval;
        self.target = target;
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// The state that questions carry.
    pub(super) fn state(&self) -> State {
        match self.health {
            Health::Alive | Health::Returning => State::Up,
            Health::Unknown | Health::Silent | Health::OutOfService => State::Down,
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        match self.health {
            Health::Returning => self.next.min(self.since),
            _ => self.next,
        }
    }

    /// How long silence lasts before it counts.
    fn detection(&self) -> Duration {
        self.pace() * self.target.multiplier.into()
    }

    fn pace(&self) -> Duration {
        match self.health {
            Health::Silent | Health::OutOfService => self.interval.max(SLOW),
            _ => self.interval,
        }
    }

    /// Whether a question is to be sent now; `jitter` takes up to a quarter off the interval after it (RFC 5880 §6.8.7).
    pub(super) fn ask(&mut self, now: Instant, jitter: f64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.pace().mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0);
        self.asked = now;
        self.unanswered += 1;
        self.tally.asked += 1;
        true
    }

    /// An answer to one of its questions.
    pub(super) fn answered(&mut self, control: &Control, now: Instant) {
        if self.unanswered > 0 {
            self.tally.round_trip = now - self.asked;
        }
        self.tally.answered += 1;
        (self.heard, self.unanswered, self.known) = (now, 0, true);
        let wanted = Duration::from_micros(control.required_min_rx.get().into());
        self.interval = self.target.interval.max(wanted);
        // A witness is asked for its answer, whatever that says.
        let up = control.state() == State::Up || self.target.role == ProbeRole::Witness;
        match (up, self.health) {
            (true, Health::Alive | Health::Returning) | (false, Health::OutOfService) => {}
            (true, Health::Unknown) => self.turn(Health::Alive, now),
            // Its own node uses an instance at once: whoever waited would take another one for the same flow.
            (true, _) if self.target.role == ProbeRole::Instance => self.turn(Health::Alive, now),
            (true, Health::Silent | Health::OutOfService) => {
                self.turn(Health::Returning, now);
                self.since = now + self.detection() * (1 << self.relapses.saturating_sub(1).min(DOUBLINGS));
            }
            (false, _) => self.fail(Health::OutOfService, now),
        }
    }

    /// Time has passed. All answers that have arrived were told before.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.health == Health::Returning && now >= self.since {
            self.turn(Health::Alive, now);
        }
        // Only questions that were asked can be unanswered: a process that got no CPU time has heard nothing either.
        let silent = now.saturating_duration_since(self.heard) >= self.detection()
            && self.unanswered >= self.target.multiplier.into();
        if silent && self.health != Health::Silent {
            self.fail(Health::Silent, now);
        }
    }

    fn fail(&mut self, health: Health, now: Instant) {
        if self.health == Health::Alive && now.saturating_duration_since(self.since) >= FORGIVEN {
            self.relapses = 0;
        }
        if !matches!(self.health, Health::Silent | Health::OutOfService) {
            self.relapses += 1;
            self.tally.failures += 1;
        }
        self.turn(health, now);
    }

    fn turn(&mut self, health: Health, now: Instant) {
        (self.health, self.since) = (health, now);
        // What was put off for a node that was not up is due by the pace of one that is.
        self.next = self.next.min(now + self.pace());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_common::Be32;

    const MS: Duration = Duration::from_millis(1);

    fn session(role: ProbeRole) -> (Session, Instant) {
        let now = Instant::now();
        let target = DesiredProbe {
            node: 2,
            name: "hv2".to_owned(),
            discriminator: 2,
            address: vpc_common::Ip::UNSPECIFIED,
            role,
            interval: 100 * MS,
            multiplier: 3,
        };
        (Session::new(target, 7, now), now)
    }

    fn says(state: State) -> Control {
        Control { state_flags: state.bits(), required_min_rx: Be32::new(10_000), ..Control::default() }
    }

    /// Asks and is not answered until `end`, a millisecond at a time. When it fell silent.
    fn silence(session: &mut Session, from: Instant, end: Instant) -> Option<Instant> {
        let mut now = from;
        while now < end {
            let _asked = session.ask(now, 0.0);
            session.pass(now);
            if session.health() == Health::Silent {
                return Some(now);
            }
            now += MS;
        }
        None
    }

    /// Asks and is answered until `end`. When it was used again.
    fn answers(session: &mut Session, from: Instant, end: Instant) -> Option<Instant> {
        let mut now = from;
        while now < end {
            if session.ask(now, 0.5) {
                session.answered(&says(State::Up), now);
            }
            session.pass(now);
            if session.health() == Health::Alive {
                return Some(now);
            }
            now += MS;
        }
        None
    }

    #[test]
    fn the_first_answer_is_enough_at_the_start_and_silence_takes_the_detection_time() {
        let (mut session, start) = session(ProbeRole::Gateway);
        assert_eq!(session.health(), Health::Unknown);
        assert!(session.ask(start, 0.0));
        session.answered(&says(State::Up), start + MS);
        assert_eq!((session.health(), session.tally.round_trip), (Health::Alive, MS));
        let silent = silence(&mut session, start + MS, start + 1_000 * MS).unwrap();
        assert!((300..=310).contains(&(silent - start).as_millis()), "{:?}", silent - start);
        assert_eq!(session.tally.failures, 1);
    }

    #[test]
    fn who_was_never_heard_falls_silent_too() {
        let (mut session, start) = session(ProbeRole::Gateway);
        let silent = silence(&mut session, start, start + 1_000 * MS).unwrap();
        assert!((300..=310).contains(&(silent - start).as_millis()), "{:?}", silent - start);
        assert!(!session.known);
    }

    #[test]
    fn a_process_without_cpu_time_takes_nobody_for_dead() {
        let (mut session, start) = session(ProbeRole::Gateway);
        assert!(session.ask(start, 0.0));
        session.answered(&says(State::Up), start);
        session.pass(start + 5_000 * MS);
        assert_eq!(session.health(), Health::Alive, "nothing was asked in that time");
    }

    #[test]
    fn who_comes_back_proves_itself_first_and_longer_each_time() {
        let (mut session, start) = session(ProbeRole::Gateway);
        let mut now = answers(&mut session, start, start + MS).unwrap();
        let mut waits = Vec::new();
        for _ in 0..3 {
            let silent = silence(&mut session, now, now + 5_000 * MS).unwrap();
            // It is asked once a second while it is silent.
            let back = silent + 1_000 * MS;
            assert!(session.ask(back, 0.0));
            session.answered(&says(State::Up), back);
            assert_eq!(session.health(), Health::Returning);
            now = answers(&mut session, back, back + 5_000 * MS).unwrap();
            waits.push((now - back).as_millis());
        }
        assert_eq!(waits, [300, 600, 1_200]);
        let later = now + FORGIVEN;
        let mut asked = now;
        while asked < later {
            assert_eq!(answers(&mut session, asked, asked + MS), Some(asked));
            asked += 10 * MS;
        }
        let silent = silence(&mut session, later, later + 5_000 * MS).unwrap();
        let back = silent + 1_000 * MS;
        assert!(session.ask(back, 0.0));
        session.answered(&says(State::Up), back);
        assert_eq!((answers(&mut session, back, back + 5_000 * MS).unwrap() - back).as_millis(), 300);
    }

    #[test]
    fn out_of_service_counts_at_once_but_not_of_a_witness() {
        let (mut gateway, start) = session(ProbeRole::Gateway);
        gateway.answered(&says(State::AdminDown), start);
        assert_eq!((gateway.health(), gateway.state()), (Health::OutOfService, State::Down));
        let (mut witness, start) = session(ProbeRole::Witness);
        witness.answered(&says(State::AdminDown), start);
        assert_eq!(witness.health(), Health::Alive);
    }

    #[test]
    fn an_instance_is_used_as_soon_as_its_node_says_so() {
        let (mut instance, start) = session(ProbeRole::Instance);
        let silent = silence(&mut instance, start, start + 1_000 * MS).unwrap();
        instance.answered(&says(State::Up), silent + MS);
        assert_eq!(instance.health(), Health::Alive);
        instance.answered(&says(State::AdminDown), silent + 2 * MS);
        assert_eq!(instance.health(), Health::OutOfService);
        instance.answered(&says(State::Up), silent + 3 * MS);
        assert_eq!(instance.health(), Health::Alive);
    }

    #[test]
    fn a_reflector_is_asked_no_more_often_than_it_says() {
        let (mut session, start) = session(ProbeRole::Gateway);
        assert!(session.ask(start, 0.0));
        let slow = Control { required_min_rx: Be32::new(500_000), ..says(State::Up) };
        session.answered(&slow, start);
        assert!(session.ask(start + 100 * MS, 0.0), "that question was due already");
        assert!(!session.ask(start + 599 * MS, 0.0));
        assert!(session.ask(start + 600 * MS, 0.0));
    }
}
