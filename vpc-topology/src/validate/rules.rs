//! The service of a rule: what its protocol has.

use crate::{
    diagnostics::{Problem, Spanned},
    document::Record,
    model::{Cidr, Protocol, Service},
};

/// Checks what a rule says of services, and the blocks that it is for.
pub(super) fn check_service(
    rule: &impl Record,
    service: &Service<'_>,
    blocks: &[Spanned<Cidr>],
    problems: &mut Vec<Problem>,
) {
    let Some(protocol) = service.protocol.given().copied() else { return };
    let place = service.protocol.span();
    if let Some(ports) = service.ports.first().filter(|_| !protocol.has_ports()) {
        let problem = Problem::new(ports.span(), format!("`ports` of a rule of protocol `{protocol}`"));
        let problem = problem.label("no ports here").also(place, "the protocol");
        problems.push(problem.help(match protocol {
            Protocol::ICMP | Protocol::ICMPV6 => "messages are told apart by `icmp_type` and `icmp_code`",
            _ => "tcp, udp and sctp have ports",
        }));
    }
    let icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    let typed = service.icmp_type.map(|icmp_type| ("icmp_type", icmp_type.span()));
    let coded = service.icmp_code.map(|code| ("icmp_code", code.span()));
    for (field, span) in typed.into_iter().chain(coded).filter(|_| !icmp) {
        let problem = Problem::new(span, format!("`{field}` of a rule of protocol `{protocol}`"));
        problems.push(problem.label("icmp and icmpv6 only").also(place, "the protocol"));
    }
    if let (true, Some(icmp_type)) = (icmp, service.icmp_type)
        && icmp_type.number(protocol).is_none()
    {
        let problem = Problem::new(icmp_type.span(), format!("`{protocol}` has no type `{}`", icmp_type.value));
        problems.push(problem.label("a type of the other family").also(place, "the protocol"));
    }
    if let (true, None, Some((_, span))) = (icmp && !rule.lacks("icmp_type"), service.icmp_type, coded) {
        let problem = Problem::new(span, "a code needs its type").label("`icmp_type` is missing");
        problems.push(problem);
    }
    let (family, other) = match protocol {
        Protocol::ICMP => (true, ("IPv6", "icmpv6")),
        Protocol::ICMPV6 => (false, ("IPv4", "icmp")),
        _ => return,
    };
    for block in blocks.iter().filter(|block| block.given().is_some_and(|block| block.is_v4() != family)) {
        let message = format!("a rule of protocol `{protocol}` for the {} block {}", other.0, block.value);
        let problem = Problem::new(block.span(), message).label(format!("{} has `{}`", other.0, other.1));
        problems.push(problem.also(place, "the protocol").help(format!("write a rule of `{}` for it", other.1)));
    }
}
