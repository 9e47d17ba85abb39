//! How long the sessions of a port live, and how many it may have.

use super::{Scope, TimeoutSeconds};
use crate::{
    Limits,
    diagnostics::Spanned,
    model::{Port, Quotas, SessionTimeout, Stated, Vpc},
};
use vpc_common::{port::Timeouts, session::TICK_SHIFT};

/// Where the file says nothing else (RFC 5382, RFC 4787, RFC 5508).
const DEFAULT: TimeoutSeconds = TimeoutSeconds {
    tcp_half_open: 30,
    tcp_established: 7_440,
    tcp_closing: 240,
    udp_one_way: 30,
    udp_stream: 300,
    icmp: 60,
};

/// The timeouts of a VPC's sessions.
pub(super) fn seconds(vpc: &Vpc) -> TimeoutSeconds {
    let Some(given) = &vpc.session_timeouts else { return DEFAULT };
    let or =
        |given: &Stated<Spanned<SessionTimeout>>, default| given.get().map_or(default, |given| given.value.seconds);
    TimeoutSeconds {
        tcp_half_open: or(&given.tcp_half_open, DEFAULT.tcp_half_open),
        tcp_established: or(&given.tcp_established, DEFAULT.tcp_established),
        tcp_closing: or(&given.tcp_closing, DEFAULT.tcp_closing),
        udp_one_way: or(&given.udp_one_way, DEFAULT.udp_one_way),
        udp_stream: or(&given.udp_stream, DEFAULT.udp_stream),
        icmp: or(&given.icmp, DEFAULT.icmp),
    }
}

/// The same for the datapath.
pub(super) fn timeouts(seconds: &TimeoutSeconds) -> Timeouts {
    Timeouts {
        tcp_half_open: in_ticks(seconds.tcp_half_open),
        tcp_established: in_ticks(seconds.tcp_established),
        tcp_closing: in_ticks(seconds.tcp_closing),
        one_way: in_ticks(seconds.udp_one_way),
        two_way: in_ticks(seconds.udp_stream),
        icmp: in_ticks(seconds.icmp),
    }
}

/// Seconds in the ticks of sessions, rounded up: a session never ends early.
fn in_ticks(seconds: u32) -> u16 {
    let ticks = (u64::from(seconds) * 1_000_000_000).div_ceil(1 << TICK_SHIFT);
    u16::try_from(ticks.max(1)).unwrap_or(u16::MAX)
}

/// How many sessions each port of the node may have where nothing else is said.
pub(super) fn share(scope: &Scope<'_>, limits: &Limits) -> u32 {
    session_share(scope.subnets.values().map(Vec::len).sum::<usize>() + scope.routers.len(), limits.sessions)
}

/// How many of a table's sessions each of so many ports may have where nothing else is said. The shares of all ports
/// together fit into the table. The number of ports is rounded up to a power of two: a port that comes or goes seldom
/// changes the share of the others.
pub fn session_share(ports: usize, sessions: u32) -> u32 {
    let ports = u32::try_from(ports.next_power_of_two()).unwrap_or(u32::MAX);
    (sessions / ports).max(1)
}

/// How many sessions a port may have.
pub(super) fn quota(vpc: &Vpc, port: Option<&Port>, share: u32) -> u32 {
    let given =
        |quotas: Option<&Quotas>| quotas.and_then(|quotas| quotas.sessions.get()).map(|sessions| sessions.value.0);
    let bounds = [given(vpc.quotas.as_ref()), port.and_then(|port| given(port.few().quotas.as_ref()))];
    bounds.into_iter().flatten().fold(share, u32::min)
}

/// How many sessions the ports of a VPC may have on one node together.
pub(super) fn vpc_quota(vpc: &Vpc, limits: &Limits) -> u32 {
    let given = vpc.quotas.as_ref().and_then(|quotas| quotas.sessions.get()).map(|sessions| sessions.value.0);
    given.map_or(limits.sessions, |given| given.min(limits.sessions))
}

#[cfg(test)]
mod tests {
    use super::in_ticks;

    #[test]
    fn ticks_are_rounded_up() {
        assert_eq!([1, 2, 3, 5, 30, 7_440].map(in_ticks), [1, 1, 2, 3, 14, 3_465]);
        assert_eq!(in_ticks(18 * 3_600), 30_175);
    }
}
