//! One rule set: rules in their order to what the datapath asks.

use super::{
    PolicySizes,
    services::{Prefix, Rank, Services, resolve},
};
use crate::model::Cidr;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use vpc_common::{
    Be32, Ip,
    policy::{Answer, HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
};

/// One rule with everything that it is about.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it says.
    pub verdict: RuleVerdict,
    /// To what.
    pub services: Vec<Services>,
    /// To whom, by address.
    pub blocks: Vec<Cidr>,
    /// To whom, by the groups of its port: ids of identities.
    pub identities: BTreeSet<u32>,
}

/// The number of the subject that no rule is for.
const NO_ONE: u32 = 0;

/// A compiled rule set. Its id is not part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// Length and address of a prefix in its 128-bit form, with its subject.
    subjects: Vec<((u32, Ip), u32)>,
    /// Identities with their subjects.
    identities: Vec<(u32, u32)>,
    /// What is said to a subject.
    rules: Vec<(u32, Prefix, RuleVerdict)>,
}

impl RuleSet {
    /// Of several rules for the same peer and service the first one decides.
    pub fn new(rules: &[Rule]) -> Self {
        let mut compiler = Compiler { rules, lists: FxHashMap::default(), numbers: FxHashMap::default() };
        let mut set = Self { subjects: compiler.subjects(), identities: compiler.identities(), rules: Vec::new() };
        for (entries, number) in compiler.numbers {
            let verdicts = entries.iter().map(|(prefix, rank)| (number, *prefix, rules[*rank as usize].verdict));
            set.rules.extend(verdicts);
        }
        set.rules.sort_unstable_by_key(|(number, prefix, _)| (*number, *prefix));
        set
    }

    /// How many entries of `HOSTS` and `SUBJECTS` together, of `IDENTITIES` and of `RULES` it takes.
    pub fn sizes(&self) -> PolicySizes {
        PolicySizes { subjects: self.subjects.len(), identities: self.identities.len(), rules: self.tabled().count() }
    }

    /// Whether it tells single addresses apart.
    pub fn has_hosts(&self) -> bool {
        self.subjects.iter().any(|(prefix, _)| is_host(prefix))
    }

    /// What is said to a subject.
    fn said_to(&self, number: u32) -> &[(u32, Prefix, RuleVerdict)] {
        let from = self.rules.partition_point(|(subject, ..)| *subject < number);
        let to = self.rules.partition_point(|(subject, ..)| *subject <= number);
        &self.rules[from..to]
    }

    /// The entry of a subject, with all that is said to it if there is room.
    fn subject(&self, number: u32) -> Subject {
        let said = self.said_to(number);
        let mut subject = Subject { number, ..Subject::default() };
        if said.len() <= Subject::ANSWERS {
            // Rules are sorted by prefix; the longest match is to come first.
            let mut longest_first: Vec<_> = said.iter().collect();
            longest_first.sort_by_key(|(_, prefix, _)| std::cmp::Reverse(prefix.key_len()));
            for (answer, (_, prefix, verdict)) in subject.answers.iter_mut().zip(longest_first) {
                let bits = prefix.key_len() - RuleKey::ALL_SERVICES;
                let mask = u32::MAX.checked_shl(u32::BITS - bits).unwrap_or_default();
                *answer = Answer { service: prefix.service(), mask: Be32::new(mask), verdict: *verdict };
            }
            subject.answer_count = said.len() as u32;
        }
        subject
    }

    /// What is in `RULES`: all that does not stand with its subject.
    fn tabled(&self) -> impl Iterator<Item = &(u32, Prefix, RuleVerdict)> {
        let lists = self.rules.chunk_by(|(first, ..), (second, ..)| first == second);
        lists.filter(|list| list.len() > Subject::ANSWERS).flatten()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The whole content as bytes, for its hash.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 * (self.subjects.len() + self.rules.len()) + 8 * self.identities.len());
        let mut word = |word: u32| bytes.extend(word.to_be_bytes());
        word(self.subjects.len() as u32);
        for ((len, address), subject) in &self.subjects {
            word(*len);
            address.0.into_iter().for_each(|part| word(u32::from_be(part)));
            word(*subject);
        }
        word(self.identities.len() as u32);
        for (identity, subject) in &self.identities {
            word(*identity);
            word(*subject);
        }
        for (subject, prefix, verdict) in &self.rules {
            word(*subject);
            word(prefix.key_len());
            word(prefix.service().get());
            word(verdict.action);
            word(verdict.rule);
        }
        bytes
    }

    /// Its entries under an id.
    pub fn entries(&self, id: u32) -> Entries<'_> {
        Entries { set: self, id }
    }
}

/// The entries of a rule set under its id.
pub struct Entries<'s> {
    set: &'s RuleSet,
    id: u32,
}

impl Entries<'_> {
    /// Of `HOSTS`.
    pub fn hosts(&self) -> impl Iterator<Item = (HostKey, Subject)> + '_ {
        let hosts = self.set.subjects.iter().filter(|(prefix, _)| is_host(prefix));
        hosts.map(|((_, address), number)| (HostKey { rules: self.id, address: *address }, self.set.subject(*number)))
    }

    /// Of `SUBJECTS`.
    pub fn subjects(&self) -> impl Iterator<Item = (SubjectKey, Subject)> + '_ {
        let blocks = self.set.subjects.iter().filter(|(prefix, _)| !is_host(prefix));
        blocks.map(|((len, address), number)| {
            let key = SubjectKey { prefix_len: 32 + len, rules: Be32::new(self.id), address: *address };
            (key, self.set.subject(*number))
        })
    }

    /// Of `IDENTITIES`.
    pub fn identities(&self) -> impl Iterator<Item = (IdentityKey, Subject)> + '_ {
        let entries = self.set.identities.iter();
        entries
            .map(|(identity, number)| (IdentityKey { rules: self.id, identity: *identity }, self.set.subject(*number)))
    }

    /// Of `RULES`.
    pub fn rules(&self) -> impl Iterator<Item = (RuleKey, RuleVerdict)> + '_ {
        self.set.tabled().map(|(subject, prefix, verdict)| {
            let (rules, subject) = (Be32::new(self.id), Be32::new(*subject));
            (RuleKey { prefix_len: prefix.key_len(), rules, subject, service: prefix.service() }, *verdict)
        })
    }
}

/// Rules by rank, ascending.
type Ranks = Rc<[Rank]>;
/// What a list of rules comes to.
type Resolved = Rc<[(Prefix, Rank)]>;

struct Compiler<'r> {
    rules: &'r [Rule],
    /// Subjects by the rules that are for them.
    lists: FxHashMap<Ranks, u32>,
    /// Subjects by what the rules come to.
    numbers: FxHashMap<Resolved, u32>,
}

impl Compiler<'_> {
    /// The subject for which those rules are.
    fn subject(&mut self, ranks: &Ranks) -> u32 {
        if let Some(number) = self.lists.get(ranks) {
            return *number;
        }
        let of = |rank: Rank| self.rules[rank as usize].services.iter().map(move |services| (*services, rank));
        let resolved: Resolved = resolve(ranks.iter().copied().flat_map(of)).into();
        let next = self.numbers.len() as u32 + 1;
        let number = if resolved.is_empty() { NO_ONE } else { *self.numbers.entry(resolved).or_insert(next) };
        self.lists.insert(Rc::clone(ranks), number);
        number
    }

    /// Every block is a node of the trie, and has the rules of all blocks around it as well. A node that says what
    /// the one around it says is left out.
    fn subjects(&mut self) -> Vec<((u32, Ip), u32)> {
        // In this order a block comes before those inside it.
        let mut nodes: BTreeMap<(u128, u32), Vec<Rank>> = BTreeMap::new();
        for (rule, rank) in self.rules.iter().zip(0..) {
            for block in &rule.blocks {
                let (address, len) = block.mapped();
                let ranks = nodes.entry((u128::from_be_bytes(address.bytes()), len)).or_default();
                if ranks.last() != Some(&rank) {
                    ranks.push(rank);
                }
            }
            if rule.blocks.iter().any(|block| block.covers_mapped()) {
                nodes.entry(MAPPED).or_default();
            }
        }
        let mut around: Vec<Around> = Vec::new();
        let mut subjects = Vec::new();
        for ((first, len), own) in nodes {
            while around.pop_if(|outer| !outer.contains(first)).is_some() {}
            let outer = around.last();
            // Tables hold IPv4 inside ::ffff:0:0/96, but no block of IPv6 is about IPv4.
            let ranks = match outer.filter(|_| (first, len) != MAPPED) {
                Some(outer) => union(&outer.ranks, &own),
                None => own.into(),
            };
            let said_around = outer.map_or(NO_ONE, |outer| outer.subject);
            let subject = self.subject(&ranks);
            if subject != said_around {
                subjects.push(((len, Ip::from_bytes(first.to_be_bytes())), subject));
            }
            around.push(Around { first, len, ranks, subject });
        }
        subjects.sort_unstable();
        subjects
    }

    fn identities(&mut self) -> Vec<(u32, u32)> {
        let mut ranks: BTreeMap<u32, Vec<Rank>> = BTreeMap::new();
        for (rule, rank) in self.rules.iter().zip(0..) {
            for identity in &rule.identities {
                ranks.entry(*identity).or_default().push(rank);
            }
        }
        let subjects = ranks.into_iter().map(|(identity, ranks)| (identity, self.subject(&ranks.into())));
        subjects.filter(|(_, subject)| *subject != NO_ONE).collect()
    }
}

/// Whether a prefix of an address in its 128-bit form is all of it.
fn is_host((len, _): &(u32, Ip)) -> bool {
    *len == u128::BITS
}

/// The block as which tables hold IPv4: its first address, and the length of its prefix.
const MAPPED: (u128, u32) = (0xffff_0000_0000, Ip::MAPPED_BITS);

/// A block around the one that is looked at.
struct Around {
    first: u128,
    len: u32,
    ranks: Ranks,
    subject: u32,
}

impl Around {
    fn contains(&self, address: u128) -> bool {
        (self.first ^ address).checked_shr(u128::BITS - self.len).unwrap_or_default() == 0
    }
}

/// Both sorted lists as one, without duplicates.
fn union(outer: &Ranks, own: &[Rank]) -> Ranks {
    if own.is_empty() {
        return Rc::clone(outer);
    }
    let mut ranks = [outer, own].concat();
    ranks.sort_unstable();
    ranks.dedup();
    ranks.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vpc_common::policy::{action, service};

    /// Looks up as the datapath does: the longest match by address, by identity, then by service.
    fn look(set: &RuleSet, peer: Peer, wanted: (u8, u16)) -> (Option<RuleVerdict>, Option<RuleVerdict>) {
        let agree = |a: u128, b: u128, len: u32| (a ^ b).checked_shr(u128::BITS - len).unwrap_or_default() == 0;
        let number = |address: Ip| u128::from_be_bytes(address.bytes());
        let verdict = |number: u32| {
            let subject = set.subject(number);
            if subject.answer_count != 0 {
                let wanted = service(wanted.0, wanted.1);
                let answers = subject.answers.iter().take(subject.answer_count as usize);
                return answers.into_iter().find(|answer| answer.is_about(wanted)).map(|answer| answer.verdict);
            }
            let of_subject = set.tabled().filter(|(subject, ..)| *subject == number);
            let matching = of_subject.filter(|(_, prefix, _)| {
                let bits = u32::BITS - (prefix.key_len() - RuleKey::ALL_SERVICES);
                let differ = prefix.service().get() ^ service(wanted.0, wanted.1).get();
                differ.checked_shr(bits).unwrap_or_default() == 0
            });
            matching.max_by_key(|(_, prefix, _)| prefix.key_len()).map(|(.., verdict)| *verdict)
        };
        let around = set.subjects.iter().filter(|((len, at), _)| agree(number(*at), number(peer.address), *len));
        let by_address = around.max_by_key(|((len, _), _)| *len).map(|(_, subject)| *subject);
        let of_identity = set.identities.iter().find(|(identity, _)| *identity == peer.identity);
        (by_address.and_then(verdict), of_identity.and_then(|(_, subject)| verdict(*subject)))
    }

    #[derive(Clone, Copy, Debug)]
    struct Peer {
        address: Ip,
        identity: u32,
    }

    /// The first rule for a peer, by its address and by its identity.
    fn naive(rules: &[Rule], peer: Peer, (protocol, port): (u8, u16)) -> (Option<RuleVerdict>, Option<RuleVerdict>) {
        let about = |rule: &&Rule| rule.services.iter().any(|services| services.contains(protocol, port));
        let has = |rule: &&Rule| rule.blocks.iter().any(|block| block.contains(peer.address.into()));
        let verdict = |rule: &Rule| rule.verdict;
        let by_address = rules.iter().filter(about).find(has).map(verdict);
        let is_named = |rule: &&Rule| rule.identities.contains(&peer.identity);
        (by_address, rules.iter().filter(about).find(is_named).map(verdict))
    }

    /// Blocks that often contain each other, of both families.
    fn any_block() -> impl Strategy<Value = Cidr> {
        let v4 = (0..4u8, 0..3u8, 0..=32u8).prop_map(|(a, b, len)| format!("10.{a}.0.{b}/{len}"));
        let v6 = (0..3u8, 0..3u8, 0..=128u8).prop_map(|(a, b, len)| format!("fd00:{a}::{b}/{len}"));
        let fixed = prop_oneof![Just("0.0.0.0/0".to_owned()), Just("::/0".to_owned()), Just("::/80".to_owned())];
        prop_oneof![4 => v4, 3 => v6, 1 => fixed]
            .prop_filter_map("a block", |text| Cidr::of(text.parse::<ipnet::IpNet>().ok()?.trunc()))
    }

    fn any_services() -> impl Strategy<Value = Services> {
        prop_oneof![
            1 => Just(Services::ALL),
            1 => prop_oneof![Just(6u8), Just(17)].prop_map(Services::of),
            4 => (prop_oneof![Just(6u8), Just(17)], 0..9u16, 0..9u16)
                .prop_map(|(protocol, a, b)| Services::ports(protocol, a.min(b), a.max(b))),
        ]
    }

    fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
        let blocks = prop::collection::vec(any_block(), 0..4);
        let identities = prop::collection::btree_set(1..5u32, 0..3);
        let services = prop::collection::vec(any_services(), 1..3);
        let rule = (prop_oneof![Just(action::ALLOW), Just(action::DENY)], blocks, identities, services);
        prop::collection::vec(rule, 0..14).prop_map(|rules| {
            let numbered = rules.into_iter().zip(1..);
            numbered
                .map(|((action, blocks, identities, services), rule)| Rule {
                    verdict: RuleVerdict { action, rule },
                    services,
                    blocks,
                    identities,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_rule_set_says_what_its_rules_say_in_their_order(
            rules in any_rules(),
            others in prop::collection::vec(any_block(), 8),
            port in 0..10u16,
        ) {
            let set = RuleSet::new(&rules);
            let blocks = rules.iter().flat_map(|rule| &rule.blocks).chain(&others);
            let edges = blocks.flat_map(|block| [block.net().network(), block.net().broadcast()]);
            for (address, identity) in edges.zip((0..6u32).cycle()) {
                let peer = Peer { address: address.into(), identity };
                for protocol in [1, 6, 17] {
                    let asked = (protocol, port);
                    prop_assert_eq!(look(&set, peer, asked), naive(&rules, peer, asked), "{:?} {:?}", peer, asked);
                }
            }
        }

        #[test]
        fn the_same_rules_are_the_same_bytes(rules in any_rules()) {
            prop_assert_eq!(RuleSet::new(&rules).bytes(), RuleSet::new(&rules).bytes());
        }
    }
}
