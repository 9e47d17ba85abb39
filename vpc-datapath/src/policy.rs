//! Security groups, policy groups and network ACLs: one to five look-ups, however many rules there are.

use crate::{
    Packet, Part, Scratch, Stage, Tables,
    conntrack::Side,
    family::Family,
    packet::REACH,
    respond::nd,
    route,
    scratch::{Flow, Question, flow_flags},
    session::{self, Known},
};
use vpc_common::{
    Be16, Be32, DropReason, Ip,
    policy::{
        HostKey, IdentityKey, NOBODY, NOTHING, RuleKey, RuleVerdict, Subject, SubjectKey, WITH_HOSTS, action, service,
    },
    port::{Port, flags},
    route::{RouteKey, kind},
    session::decided,
    wire::protocol,
};

/// Whether the port's groups let a packet of `side` pass: as part of a flow that they allowed, or because they allow the
/// flow that it opens. Leaves in `flow.allowed_by` who did.
#[inline(always)]
pub fn admit<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    side: Side,
    known: Known,
) -> Stage {
    scratch.flow.allowed_by = RuleVerdict { action: action::ALLOW, rule: 0 };
    if port.flags & flags::ROUTER != 0 || is_exempt::<F>(&scratch.flow, side) || known.is_confirmed() {
        return Ok(());
    }
    let opener = if known.stands() { known.opener() } else { side.opener() };
    if !known.stands()
        && scratch.flow.flags & flow_flags::UNTRACKED != 0
        && is_related::<F, P, T>(packet, tables, scratch, port, side)
    {
        scratch.flow.allowed_by.action = action::RELATED;
        return Ok(());
    }
    let peer = match side {
        Side::Guest => scratch.flow.destination,
        Side::Peer => scratch.flow.source,
    };
    let wanted = service_of(&scratch.flow, opener == side.opener());
    let rules = if opener == decided::OPENED_HERE { port.egress_rules } else { port.ingress_rules };
    scratch.question = Question::about(port, rules, peer, wanted);
    let judged = packet.part::<F, T>(tables, scratch, Part::Judge);
    if judged.is_err() && known.outlives_its_rule() {
        scratch.flow.allowed_by = RuleVerdict { action: action::ALLOW_KEEP, rule: 0 };
        return Ok(());
    }
    judged
}

/// Whether a port hears a broadcast or multicast packet.
#[inline(always)]
pub fn hears<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
    scratch.question = Question::about(port, port.ingress_rules, scratch.flow.source, service_of(&scratch.flow, true));
    is_exempt::<F>(&scratch.flow, Side::Peer) || packet.part::<F, T>(tables, scratch, Part::Judge).is_ok()
}

/// What a network ACL, if there is one, says to a packet that passes the router, whatever its flow.
#[inline(always)]
pub fn acl<T: Tables>(tables: &T, scratch: &mut Scratch, rules: u32, peer: Ip) -> Stage {
    if rules == Port::NO_ACL { Ok(()) } else { of_acl(tables, scratch, rules, peer) }
}

#[inline(never)]
fn of_acl<T: Tables>(tables: &T, scratch: &mut Scratch, rules: u32, peer: Ip) -> Stage {
    let wanted = service_of(&scratch.flow, true);
    match by_address(tables, scratch, rules, peer, wanted) {
        Some(verdict) if verdict.action == action::ALLOW => Ok(()),
        _ => Err(DropReason::NetworkAcl.into()),
    }
}

/// What the egress allow list of a NAT gateway says to a packet of a guest: replies, and errors about what came, pass.
#[inline(never)]
pub fn egress_allowed<T: Tables>(tables: &T, scratch: &mut Scratch, known: Known) -> Stage {
    let rules = scratch.egress_rules;
    let opens = if known.stands() {
        known.opener() == decided::OPENED_HERE
    } else {
        scratch.flow.allowed_by.action != action::RELATED
    };
    if rules == Port::NO_ACL || !opens {
        return Ok(());
    }
    let wanted = service_of(&scratch.flow, true);
    match by_address(tables, scratch, rules, scratch.flow.destination, wanted) {
        Some(verdict) if verdict.action == action::ALLOW => Ok(()),
        _ => Err(DropReason::EgressAllow.into()),
    }
}

/// What keeps a link alive belongs to no flow: neighbour discovery, multicast listeners, and asking all
/// for an address.
#[inline(always)]
fn is_exempt<F: Family>(flow: &Flow, side: Side) -> bool {
    if flow.protocol == protocol::ICMPV6 && F::ICMP == protocol::ICMPV6 {
        return nd::is_nd(flow.icmp_type) || is_listener_report(flow.icmp_type);
    }
    const DHCP: [(Be16, Be16); 2] = [(Be16::new(68), Be16::new(67)), (Be16::new(546), Be16::new(547))];
    let ports = (flow.source_port, flow.destination_port);
    let asks_all = side == Side::Guest && flow.ethernet.destination.is_group();
    flow.protocol == protocol::UDP && asks_all && (ports == DHCP[0] || ports == DHCP[1])
}

/// Multicast listener discovery (RFC 2710, RFC 9777).
pub const fn is_listener_report(kind: u8) -> bool {
    matches!(kind, 130..=132 | 143)
}

/// The service that a packet's flow is about: the port of the side that was asked, the type and code of ICMP.
#[inline(always)]
fn service_of(flow: &Flow, by_opener: bool) -> Be32 {
    match flow.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let port = if by_opener { flow.destination_port } else { flow.source_port };
            service(flow.protocol, port.get())
        }
        protocol::ICMP | protocol::ICMPV6 => {
            // A flow of ICMP is an echo: its replies are judged as the request was.
            let kind = match (flow.protocol, by_opener) {
                (_, true) => flow.icmp_type,
                (protocol::ICMP, false) => 8,
                (_, false) => 128,
            };
            service(flow.protocol, (kind as u16) << 8 | flow.icmp_code as u16)
        }
        other => service(other, 0),
    }
}

/// Asks a rule set of groups: `scratch.question`. Leaves in `flow.allowed_by` who allows it.
///
/// # Errors
/// Nobody does.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, scratch: &mut Scratch) -> Stage {
    let Question { peer, rules, service, .. } = scratch.question;
    if rules == NOTHING {
        return Err(DropReason::SecurityGroup.into());
    }
    if let Some(verdict) = by_address(tables, scratch, rules, peer, service)
        && verdict.action != action::DENY
    {
        scratch.flow.allowed_by = *verdict;
        return Ok(());
    }
    let identity = identity_of(tables, scratch);
    if identity == NOBODY {
        return Err(DropReason::SecurityGroup.into());
    }
    scratch.identity = IdentityKey { rules, identity };
    if let Some(subject) = tables.identity(&scratch.identity)
        && let Some(verdict) = said_to(tables, &mut scratch.rule, rules, subject, service)
        && verdict.action != action::DENY
    {
        scratch.flow.allowed_by = *verdict;
        return Ok(());
    }
    Err(DropReason::SecurityGroup.into())
}

#[inline(always)]
fn by_address<'t, T: Tables>(
    tables: &'t T,
    scratch: &mut Scratch,
    rules: u32,
    peer: Ip,
    service: Be32,
) -> Option<&'t RuleVerdict> {
    let subject = match host(tables, scratch, rules, peer) {
        Some(host) => host,
        None => {
            scratch.subject = SubjectKey { prefix_len: 32 + 128, rules: Be32::new(rules), address: peer };
            tables.subject(&scratch.subject)?
        }
    };
    said_to(tables, &mut scratch.rule, rules, subject, service)
}

/// What a rule set calls a single address, if it tells any apart.
#[inline(always)]
fn host<'t, T: Tables>(tables: &'t T, scratch: &mut Scratch, rules: u32, address: Ip) -> Option<&'t Subject> {
    if rules & WITH_HOSTS == 0 {
        return None;
    }
    scratch.host = HostKey { rules, address };
    tables.host(&scratch.host)
}

/// What a rule set says to a service of a subject: most say little, and that stands with the subject.
#[inline(always)]
fn said_to<'t, T: Tables>(
    tables: &'t T,
    key: &mut RuleKey,
    rules: u32,
    subject: &'t Subject,
    service: Be32,
) -> Option<&'t RuleVerdict> {
    if subject.answer_count == 0 {
        let number = Be32::new(subject.number);
        *key = RuleKey { prefix_len: 96, rules: Be32::new(rules), subject: number, service };
        return tables.rule(key);
    }
    let [first, second, third] = &subject.answers;
    if first.is_about(service) {
        Some(&first.verdict)
    } else if subject.answer_count > 1 && second.is_about(service) {
        Some(&second.verdict)
    } else if subject.answer_count > 2 && third.is_about(service) {
        Some(&third.verdict)
    } else {
        None
    }
}

/// The groups of the question's peer: in the port's VPC, or in a peer's where the route table leads there.
#[inline(always)]
fn identity_of<T: Tables>(tables: &T, scratch: &mut Scratch) -> u32 {
    let Question { peer, vpc, route_table, .. } = scratch.question;
    if let Some(endpoint) = route::endpoint(tables, scratch, vpc, peer) {
        return endpoint.identity;
    }
    scratch.route = RouteKey { prefix_len: 32 + 128, table: Be32::new(route_table), destination: peer };
    match tables.route(&scratch.route) {
        Some(route) if route.kind == kind::LOCAL && route.vpc != vpc => {
            route::endpoint(tables, scratch, route.vpc, peer).map_or(NOBODY, |endpoint| endpoint.identity)
        }
        _ => NOBODY,
    }
}

/// Whether an ICMP error is about a packet of a flow of this port, whoever sent the error. It changes no state.
#[inline(never)]
fn is_related<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    side: Side,
) -> bool {
    if !F::is_error(scratch.flow.icmp_type) {
        return false;
    }
    packet.pull(REACH as u32 + 1);
    let at = scratch.flow.l4 as usize + size_of::<vpc_common::wire::Icmp>();
    F::quoted(packet, at, scratch, side) && session::stands::<F, T>(tables, scratch, port)
}
