//! Security groups, policy groups and network ACLs, in the one form that the datapath asks: an address or an identity
//! has a subject in a rule set, and a subject's service has a verdict.
//!
//! A rule set is immutable: its id is made from its content. Order and union are resolved when it is compiled, so that
//! the longest match of a [`RuleKey`] is the verdict: the same few look-ups, however many rules there are. What they cost
//! grows with the depth of the tries.

use crate::{Be32, Ip};
use bytemuck::{Pod, Zeroable};

/// The rule set in which nothing is allowed.
pub const NOTHING: u32 = 0;
/// The identity of an address that no port has.
pub const NOBODY: u32 = 0;

/// Bit of a rule set's id: some of its subjects are single addresses, in `HOSTS`.
pub const WITH_HOSTS: u32 = 1 << 31;

/// Key of the `HOSTS` hash, whose value is a [`Subject`]: the single addresses that a rule set tells apart. In the trie
/// they would be the many leaves for which it is deep.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct HostKey {
    /// Id of the rule set.
    pub rules: u32,
    /// The peer's address.
    pub address: Ip,
}

/// Key of the `SUBJECTS` trie, whose value is a [`Subject`]: the blocks of addresses that a rule set tells apart.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct SubjectKey {
    /// 32 for the rule set, plus the prefix of the address in its 128-bit form.
    pub prefix_len: u32,
    /// Id of the rule set, in network order so that it is a prefix.
    pub rules: Be32,
    /// The peer's address.
    pub address: Ip,
}

/// Key of the `IDENTITIES` hash, whose value is a [`Subject`]: the sets of groups that a rule set tells apart.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct IdentityKey {
    /// Id of the rule set.
    pub rules: u32,
    /// [`crate::endpoint::Endpoint::identity`] of the peer.
    pub identity: u32,
}

/// What a rule set calls a peer, and what it says to it where that is little.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Subject {
    /// See [`RuleKey::subject`]; the rule set's own number.
    pub number: u32,
    /// How many of `answers` are valid; 0: the rule set says more, ask `RULES`.
    pub answer_count: u32,
    /// All that it says: of several that match the first one counts.
    pub answers: [Answer; Subject::ANSWERS],
}

impl Subject {
    /// Room for answers: with them a subject is one cache line or less.
    pub const ANSWERS: usize = 3;
}

/// What is said to some services of a subject.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Answer {
    /// The services: see [`service`].
    pub service: Be32,
    /// The bits of them that count.
    pub mask: Be32,
    /// What is said.
    pub verdict: RuleVerdict,
}

impl Answer {
    /// Whether it is about a service.
    #[inline(always)]
    pub const fn is_about(&self, service: Be32) -> bool {
        service.raw() & self.mask.raw() == self.service.raw()
    }
}

/// Key of the `RULES` trie, whose value is a [`RuleVerdict`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    /// [`RuleKey::ALL_SERVICES`], [`RuleKey::ALL_PORTS`] or up to [`RuleKey::WHOLE`].
    pub prefix_len: u32,
    /// Id of the rule set, network order.
    pub rules: Be32,
    /// Number of the subject, network order.
    pub subject: Be32,
    /// IP protocol, then the destination port (for ICMP: type, then code), then zero; see [`service`].
    pub service: Be32,
}

impl RuleKey {
    /// Every protocol.
    pub const ALL_SERVICES: u32 = 64;
    /// Every port of a protocol, every type and code of ICMP.
    pub const ALL_PORTS: u32 = 72;
    /// One port; one type and code.
    pub const WHOLE: u32 = 88;
}

/// The last word of a [`RuleKey`].
#[inline(always)]
pub const fn service(protocol: u8, port: u16) -> Be32 {
    Be32::new((protocol as u32) << 24 | (port as u32) << 8)
}

/// Values of [`RuleVerdict::action`].
pub mod action {
    /// Allowed.
    pub const ALLOW: u32 = 1;
    /// Denied.
    pub const DENY: u32 = 2;
    /// Allowed, by a group whose established flows outlive the rule (`established_flows: keep`).
    pub const ALLOW_KEEP: u32 = 3;
    /// Allowed, as an ICMP error about a flow that stands. No rule set says so.
    pub const RELATED: u32 = 4;
}

/// What a rule set says to a service of a subject.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct RuleVerdict {
    /// See [`action`].
    pub action: u32,
    /// The rule, for people: see the agent's list of rules.
    pub rule: u32,
}

const _: () = {
    assert!(size_of::<HostKey>() == 20 && size_of::<SubjectKey>() == 24);
    assert!(size_of::<IdentityKey>() == 8 && size_of::<Subject>() == 56);
    assert!(size_of::<RuleKey>() == 16 && size_of::<RuleVerdict>() == 8);
};
