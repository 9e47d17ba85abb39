//! How long sessions live, and how many there may be.

use super::{
    Stated,
    number::{SessionCount, SessionTimeout},
};
use crate::{diagnostics::Spanned, document::record};

record! {
    /// How long the sessions of a VPC live without a packet: 5 s to 18 h, written like 30s, 5m or 2h.
    pub struct SessionTimeouts, "set of session timeouts" {
        /// TCP once both sides have spoken. Default: 7440s (RFC 5382).
        tcp_established: Stated<Spanned<SessionTimeout>>,
        /// TCP until then. Default: 30s.
        tcp_half_open: Stated<Spanned<SessionTimeout>>,
        /// TCP after a FIN or an RST. Default: 240s.
        tcp_closing: Stated<Spanned<SessionTimeout>>,
        /// UDP, and every other protocol without states, once both sides have spoken. Default: 300s.
        udp_stream: Stated<Spanned<SessionTimeout>>,
        /// UDP, and every other protocol without states, until then. Default: 30s.
        udp_one_way: Stated<Spanned<SessionTimeout>>,
        /// ICMP queries. Default: 60s.
        icmp: Stated<Spanned<SessionTimeout>>,
    }
    later []
}

record! {
    /// What may be used at most.
    pub struct Quotas, "set of quotas" {
        /// Sessions. A port's share of the node's session table is a bound as well.
        sessions: Stated<Spanned<SessionCount>>,
    }
    later []
}
