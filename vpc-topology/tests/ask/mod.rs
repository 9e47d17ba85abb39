//! Asks compiled tables as the datapath does.

use std::net::IpAddr;
use vpc_common::{
    Ip,
    endpoint::EndpointKey,
    policy::{Answer, IdentityKey, NOBODY, NOTHING, RuleKey, RuleVerdict, Subject, action, service},
};
use vpc_topology::{
    Limits, Slots,
    compile::{Desired, DesiredPort},
};

/// What a flow is for.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub protocol: u8,
    /// Destination port, or type and code of ICMP.
    pub port: u16,
}

pub fn tcp(port: u16) -> Flow {
    Flow { protocol: 6, port }
}

/// A compiled topology.
pub struct Network {
    pub text: String,
    pub desired: Desired,
}

pub fn ip(text: &str) -> Ip {
    text.parse::<IpAddr>().unwrap().into()
}

/// Whether two numbers agree in their first bits.
fn agree(a: u128, b: u128, len: u32) -> bool {
    (a ^ b).checked_shr(u128::BITS - len).unwrap_or_default() == 0
}

impl Network {
    pub fn new(text: &str, node: &str) -> Self {
        let topology = vpc_topology::load(text, "test.yaml").unwrap();
        let desired = vpc_topology::compile(&topology, node, &Slots::new(), &Limits::default()).unwrap();
        Self { text: text.to_owned(), desired }
    }

    pub fn port(&self, name: &str) -> &DesiredPort {
        self.desired.ports.values().find(|port| port.name == name).unwrap()
    }

    pub fn identity(&self, port: &str) -> u32 {
        self.port(port).record.identity
    }

    /// The address of a port.
    fn address(&self, name: &str) -> Ip {
        let port = self.port(name);
        let owned = self.desired.endpoints.iter().filter(|(_, endpoint)| endpoint.mac == port.record.mac);
        owned.map(|(key, _)| key.address).find(|address| *address != port.record.mac.link_local()).unwrap()
    }

    /// What a rule set says to an address.
    pub fn look_by_address(&self, rules: u32, peer: Ip, flow: Flow) -> Option<RuleVerdict> {
        let address = u128::from_be_bytes(peer.bytes());
        let subjects = self.desired.subjects.iter().filter(|(key, _)| key.rules.get() == rules);
        let longest = subjects
            .filter(|(key, _)| agree(u128::from_be_bytes(key.address.bytes()), address, key.prefix_len - 32))
            .max_by_key(|(key, _)| key.prefix_len);
        longest.and_then(|(_, subject)| self.rule(rules, subject, flow))
    }

    /// What a rule set says to a subject: with the subject where it is little.
    fn rule(&self, rules: u32, subject: &Subject, flow: Flow) -> Option<RuleVerdict> {
        if subject.answer_count > 0 {
            let answers = &subject.answers[..subject.answer_count as usize];
            let about = |answer: &&Answer| answer.is_about(service(flow.protocol, flow.port));
            return answers.iter().find(about).map(|answer| answer.verdict);
        }
        let wanted = service(flow.protocol, flow.port).get();
        let of_subject = |key: &RuleKey| key.rules.get() == rules && key.subject.get() == subject.number;
        self.desired
            .rules
            .iter()
            .filter(|(key, _)| of_subject(key))
            .filter(|(key, _)| agree(key.service.get().into(), wanted.into(), 96 + key.prefix_len - 64))
            .max_by_key(|(key, _)| key.prefix_len)
            .map(|(_, verdict)| *verdict)
    }

    /// What a rule set says to a peer of a port.
    pub fn look(&self, port: &str, rules: u32, peer: Ip, flow: Flow) -> Option<RuleVerdict> {
        if rules == NOTHING {
            return None;
        }
        let identity = self.port(port).reach.iter().find_map(|vpc| {
            let key = EndpointKey { vpc: *vpc, address: peer };
            let at = self.desired.endpoints.binary_search_by_key(&key, |(key, _)| *key).ok()?;
            Some(self.desired.endpoints[at].1.identity)
        });
        let by_identity = identity.filter(|identity| *identity != NOBODY).and_then(|identity| {
            let key = IdentityKey { rules, identity };
            let at = self.desired.identities.binary_search_by_key(&key, |(key, _)| *key).ok()?;
            self.rule(rules, &self.desired.identities[at].1, flow)
        });
        let mut verdicts = self.look_by_address(rules, peer, flow).into_iter().chain(by_identity);
        verdicts.find(|verdict| matches!(verdict.action, action::ALLOW | action::ALLOW_KEEP))
    }

    /// The rule of a port's ACL for a packet that comes in, if it passes.
    pub fn acl(&self, port: &str, peer: &str, flow: Flow) -> Result<&str, Option<&str>> {
        let verdict = self.look_by_address(self.port(port).record.ingress_acl, ip(peer), flow);
        match verdict {
            Some(verdict) if verdict.action == action::ALLOW => Ok(self.name(Some(verdict)).unwrap()),
            verdict => Err(self.name(verdict)),
        }
    }

    /// What a port says to a flow that a peer opens.
    pub fn verdict(&self, port: &str, peer: &str, flow: Flow) -> Option<RuleVerdict> {
        self.look(port, self.port(port).record.ingress_rules, ip(peer), flow)
    }

    fn name(&self, verdict: Option<RuleVerdict>) -> Option<&str> {
        verdict.map(|verdict| self.desired.names.rules[&verdict.rule].as_str())
    }

    /// The rule that lets a peer open a flow.
    pub fn ingress(&self, port: &str, peer: &str, flow: Flow) -> Option<&str> {
        self.name(self.verdict(port, peer, flow))
    }

    /// The rules of both ports that let one open a flow to the other.
    pub fn ask(&self, from: &str, to: &str, flow: Flow) -> (Option<&str>, Option<&str>) {
        let egress = self.look(from, self.port(from).record.egress_rules, self.address(to), flow);
        let ingress = self.look(to, self.port(to).record.ingress_rules, self.address(from), flow);
        (self.name(egress), self.name(ingress))
    }
}
