//! How long the sessions of a port live, and how many it may have.

use super::Scope;
use crate::{
    Limits,
    diagnostics::Spanned,
    model::{Port, Quotas, SessionTimeout, Stated, Vpc},
};
use vpc_common::{port::Timeouts, session::TICK_SHIFT};

/// Seconds after which sessions end where the file says nothing else (RFC 5382, RFC 4787, RFC 5508).
mod default {
    pub(super) const TCP_ESTABLISHED: u32 = 7_440;
    pub(super) const TCP_HALF_OPEN: u32 = 30;
    pub(super) const TCP_CLOSING: u32 = 240;
    pub(super) const UDP_STREAM: u32 = 300;
    pub(super) const UDP_ONE_WAY: u32 = 30;
    pub(super) const ICMP: u32 = 60;
}

/// The timeouts of a VPC's sessions.
pub(super) fn timeouts(vpc: &Vpc) -> Timeouts {
    type Given = Stated<Spanned<SessionTimeout>>;
    let ticks = |given: Option<&Given>, default| {
        let given = given.and_then(|given| given.get()).map(|timeout| timeout.value.seconds);
        in_ticks(given.unwrap_or(default))
    };
    let given = vpc.session_timeouts.as_ref();
    Timeouts {
        tcp_half_open: ticks(given.map(|given| &given.tcp_half_open), default::TCP_HALF_OPEN),
        tcp_established: ticks(given.map(|given| &given.tcp_established), default::TCP_ESTABLISHED),
        tcp_closing: ticks(given.map(|given| &given.tcp_closing), default::TCP_CLOSING),
        one_way: ticks(given.map(|given| &given.udp_one_way), default::UDP_ONE_WAY),
        two_way: ticks(given.map(|given| &given.udp_stream), default::UDP_STREAM),
        icmp: ticks(given.map(|given| &given.icmp), default::ICMP),
    }
}

/// Seconds in the ticks of sessions, rounded up: a session never ends early.
fn in_ticks(seconds: u32) -> u16 {
    let ticks = (u64::from(seconds) * 1_000_000_000).div_ceil(1 << TICK_SHIFT);
    u16::try_from(ticks.max(1)).unwrap_or(u16::MAX)
}

/// How many sessions each port of a node may have where nothing else is said. The shares of all ports together fit
/// into the table. The number of ports is rounded up to a power of two: a port that comes or goes seldom changes the
/// share of the others.
pub(super) fn share(scope: &Scope<'_>, limits: &Limits) -> u32 {
    let ports = scope.subnets.values().map(Vec::len).sum::<usize>() + scope.routers.len();
    let ports = u32::try_from(ports.next_power_of_two()).unwrap_or(u32::MAX);
    (limits.sessions / ports).max(1)
}

/// How many sessions a port may have.
pub(super) fn quota(vpc: &Vpc, port: Option<&Port>, share: u32) -> u32 {
    let given = |quotas: &Option<Quotas>| {
        quotas.as_ref().and_then(|quotas| quotas.sessions.get()).map(|sessions| sessions.value.0)
    };
    let bounds = [given(&vpc.quotas), port.and_then(|port| given(&port.quotas))];
    bounds.into_iter().flatten().fold(share, u32::min)
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
