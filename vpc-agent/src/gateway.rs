//! The way to the outside on a gateway node: its external interface, and the router beyond.

use crate::{
    attach::LinkName,
    control::report::Attachment,
    datapath::Datapath,
    liveness::{Health, Healths, Known},
    machine::Machine,
    netlink::neighbours::{Neighbour, NeighbourKey, Permanence},
    reconcile::{Outcome, chain},
};
use std::collections::BTreeMap;
use vpc_common::{
    Mac,
    gateway::{Gateways, Outlet},
    port::Port,
    vtep::Vtep,
};
use vpc_topology::compile::{Desired, DesiredOutlet, ProbeRole};

/// How a gateway reaches the outside.
#[derive(Clone, Debug, Default)]
pub struct DescribedOutlet {
    /// The record.
    pub record: Outlet,
    /// The next hops that the kernel should ask for.
    pub unresolved: Vec<NeighbourKey>,
    /// The next hops that the kernel should confirm from time to time.
    pub learned: Vec<NeighbourKey>,
}

impl DescribedOutlet {
    /// The MAC of a next hop; all zero while it is not known.
    fn resolve(&mut self, key: NeighbourKey, machine: &Machine) -> Mac {
        match machine.neighbours.get(&key) {
            Some(Neighbour::Usable { mac, permanence }) => {
                self.learned.extend((*permanence == Permanence::Learned).then_some(key));
                *mac
            }
            _ => {
                self.unresolved.push(key);
                Mac::default()
            }
        }
    }
}

/// Makes the record of the node's outlet from what the kernel knows.
pub fn outlet(desired: &DesiredOutlet, machine: &Machine) -> DescribedOutlet {
    let mut described = DescribedOutlet::default();
    described.record.router = Port { gateway_v4: desired.address, gateway_v6: desired.address_v6, ..Port::default() };
    let Some(link) = machine.links.get(&desired.device) else { return described };
    let Some(own) = link.mac.filter(|_| link.running) else { return described };
    (described.record.ifindex, described.record.mtu, described.record.own) = (link.index, link.mtu, own);
    described.record.next_hop = described.resolve((link.index, desired.next_hop), machine);
    if let Some(next_hop) = desired.next_hop_v6 {
        described.record.next_hop_v6 = described.resolve((link.index, next_hop), machine);
    }
    described
}

/// What is known of the gateways.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// What this agent heard.
    pub healths: Healths,
    /// Those that an earlier agent used. They are believed in until this one knows better: that it starts changes nothing.
    pub before: Gateways,
}

impl Heard {
    /// Something else is known. Once everyone has been judged, nobody is taken at an earlier agent's word any more.
    pub fn hear(&mut self, healths: Healths) {
        if of_nodes(&healths).all(|known| known.health != Health::Unknown) {
            self.before = Gateways::default();
        }
        self.healths = healths;
    }
}

/// Which gateways are used, as the maps say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Element `FABRIC` of `GATEWAYS`.
    pub fabric: Gateways,
    /// Element `SEGMENT`.
    pub segment: Gateways,
    /// Whether this gateway stays silent outside because it has lost the fabric.
    pub cut_off: bool,
}

/// Chooses among the gateways, by what is known of them. A gateway says itself that it cannot serve, or its underlay has
/// no next hop: then it is not used. Silence counts only while another gateway speaks: where all are silent, it is more
/// likely that questions get lost than that all gateways died at once. One that never said that it can serve, a new one
/// or one that starts, is used only while none has said so.
pub fn choose(desired: &Desired, vteps: &BTreeMap<u32, Vtep>, outlet: &Outlet, heard: &Heard) -> Choice {
    let (outside, healths) = (&desired.outside, &heard.healths);
    let reachable = |id: u16| vteps.get(&u32::from(id)).is_some_and(|vtep| vtep.next_hop_count > 0);
    let health = |id: u16| {
        if id == desired.node.id {
            return if outlet.is_usable() { Health::Alive } else { Health::OutOfService };
        }
        let known = healths.get(&id.into()).map_or(Health::Unknown, |known| known.health);
        if reachable(id) { known } else { Health::OutOfService }
    };
    let tier = |id: &u16| match health(*id) {
        Health::Alive => Some(0),
        Health::Unknown if heard.before.lives(*id) => Some(0),
        Health::Returning => Some(1),
        Health::Unknown => Some(2),
        Health::Silent => Some(3),
        Health::OutOfService => None,
    };
    let best = outside.gateways.iter().filter_map(tier).min();
    let (used, others): (Vec<u16>, Vec<u16>) =
        outside.gateways.iter().partition(|id| best.is_some() && tier(id) == best);
    // Who answers speaks for himself at once: one that comes back does not know for how long others wait. Nobody speaks
    // for those who do not.
    let cut_off = is_cut_off(desired, &reachable, healths);
    let speaks = |id: &u16| !cut_off && matches!(health(*id), Health::Unknown | Health::Alive | Health::Returning);
    let (speaking, silent): (Vec<u16>, Vec<u16>) = outside.segment.iter().partition(|id| speaks(id));
    Choice { fabric: Gateways::of(used, others), segment: Gateways::of(speaking, silent), cut_off }
}

/// Whether this gateway has lost the fabric while others on its segment may have it. Whoever speaks outside for what he
/// cannot reach takes it away from those who can.
fn is_cut_off(desired: &Desired, reachable: &dyn Fn(u16) -> bool, healths: &Healths) -> bool {
    if desired.outside.segment.len() < 2 {
        return false;
    }
    if desired.vteps.iter().all(|vtep| !reachable(vtep.id)) {
        return true;
    }
    // Two gateways that hear nothing from each other do not know which of them is cut off: a third one that has fallen
    // silent as well tells. One that never spoke tells nothing.
    let silent = |known: &Known| known.health == Health::Silent;
    let witness = |known: &Known| known.role == ProbeRole::Witness && known.ever;
    of_nodes(healths).all(|known| silent(known) || (known.role == ProbeRole::Witness && !known.ever))
        && of_nodes(healths).any(witness)
}

/// What is known of nodes, and not of ports of theirs.
fn of_nodes(healths: &Healths) -> impl Iterator<Item = &Known> {
    healths.values().filter(|known| known.role != ProbeRole::Instance)
}

/// What is wrong with the gateways.
pub fn problems(desired: &Desired, choice: &Choice, healths: &Healths) -> Vec<String> {
    let mut problems = Vec::new();
    for probe in desired.outside.probes.iter().filter(|probe| probe.role == ProbeRole::Gateway) {
        let used = if choice.fabric.lives(probe.node) { ", but is used since no other one does better" } else { "" };
        match healths.get(&probe.discriminator).map(|known| known.health) {
            Some(Health::Silent) => problems.push(format!("gateway {} does not answer{used}", probe.name)),
            Some(Health::OutOfService) => {
                problems.push(format!("gateway {} says that it is out of service", probe.name))
            }
            _ => {}
        }
    }
    if choice.cut_off {
        problems.push("this gateway hears nothing of the fabric: it speaks for no address outside".to_owned());
    }
    problems
}

/// Attaches the program of the external interface.
pub fn attach(desired: &DesiredOutlet, machine: &Machine, datapath: &mut Datapath, outcome: &mut Outcome) {
    let mut row = Attachment {
        role: "external".to_owned(),
        name: desired.device.clone(),
        device: desired.device.clone(),
        mode: "absent".to_owned(),
        reason: format!("there is no interface {}", desired.device),
        ..Attachment::default()
    };
    let problem = match machine.links.get(&desired.device) {
        Some(link) => {
            (row.ifindex, row.mtu) = (link.index, link.mtu);
            match datapath.attach(&LinkName::External(desired.device.clone()), link.index) {
                Ok(()) => {
                    row.mode = datapath.way().mode().to_owned();
                    row.reason = datapath.way().explain("what comes from outside goes to its owner");
                    None
                }
                Err(error) => {
                    row.mode = "failed".to_owned();
                    row.reason = chain(&error);
                    Some(row.reason.clone())
                }
            }
        }
        None => Some(row.reason.clone()),
    };
    outcome.problems.extend(problem.map(|text| format!("external interface {}: {text}", desired.device)));
    outcome.attachments.push(row);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use vpc_common::Mac;

    /// Gateways 2, 3 and 4 on one segment, of which this node is 2, and the node 1 as a witness.
    fn desired() -> Desired {
        let mut desired = Desired::default();
        desired.node.id = 2;
        (desired.outside.gateways, desired.outside.segment) = (vec![2, 3, 4], vec![2, 3, 4]);
        let address = vpc_common::Ip::UNSPECIFIED;
        let vtep = |id: u16| vpc_topology::compile::DesiredVtep { id, name: format!("hv{id}"), address };
        desired.vteps = [1, 3, 4].map(vtep).into();
        desired
    }

    fn usable() -> Outlet {
        Outlet { ifindex: 7, next_hop: Mac::new([2, 0, 0, 0, 0, 9]), ..Outlet::default() }
    }

    fn ways(reachable: &[u32]) -> BTreeMap<u32, Vtep> {
        let vtep = |id: &u32| (*id, Vtep { next_hop_count: 1, ..Vtep::zeroed() });
        reachable.iter().map(vtep).collect()
    }

    fn heard(healths: impl Into<Healths>) -> Heard {
        Heard { healths: healths.into(), ..Heard::default() }
    }

    fn known(health: Health) -> Known {
        Known { health, role: ProbeRole::Gateway, ever: true }
    }

    /// Gateways in use, and those that speak, by what is known of 3 and 4.
    fn chosen(three: Health, four: Health) -> (Vec<u16>, Vec<u16>) {
        let heard = heard([(3, known(three)), (4, known(four))]);
        let choice = choose(&desired(), &ways(&[1, 3, 4]), &usable(), &heard);
        assert!([2, 3, 4].iter().all(|id| choice.fabric.contains(*id)), "all may send what comes from outside");
        (choice.fabric.alive().to_vec(), choice.segment.alive().to_vec())
    }

    #[test]
    fn the_best_are_used_and_who_answers_speaks() {
        use Health::{Alive, OutOfService, Returning, Silent, Unknown};
        assert_eq!(chosen(Alive, Alive), (vec![2, 3, 4], vec![2, 3, 4]));
        assert_eq!(chosen(Unknown, Alive), (vec![2, 4], vec![2, 3, 4]));
        assert_eq!(chosen(Silent, OutOfService), (vec![2], vec![2]));
        assert_eq!(chosen(Returning, Alive), (vec![2, 4], vec![2, 3, 4]));
    }

    #[test]
    fn where_all_are_silent_all_are_used_but_who_says_that_it_cannot_serve() {
        let out_of_service = Outlet::default();
        let choice = |three, four| {
            let heard = heard([(3, known(three)), (4, known(four))]);
            let choice = choose(&desired(), &ways(&[1, 3, 4]), &out_of_service, &heard);
            (choice.fabric.alive().to_vec(), choice.segment.alive().to_vec())
        };
        assert_eq!(choice(Health::Silent, Health::Silent), (vec![3, 4], vec![]));
        assert_eq!(choice(Health::Silent, Health::Returning), (vec![4], vec![4]));
        assert_eq!(choice(Health::OutOfService, Health::Silent), (vec![4], vec![]));
        assert_eq!(choice(Health::OutOfService, Health::OutOfService), (vec![], vec![]));
    }

    #[test]
    fn who_was_not_heard_of_yet_is_used_while_nobody_answers_or_if_he_was_before() {
        use Health::{Alive, OutOfService, Returning, Silent, Unknown};
        let mut heard = Heard::default();
        let used = |heard: &Heard| {
            let choice = choose(&desired(), &ways(&[1, 3, 4]), &Outlet::default(), heard);
            choice.fabric.alive().to_vec()
        };
        assert_eq!(used(&heard), [3, 4]);
        for (three, expected) in
            [(Unknown, vec![3, 4]), (OutOfService, vec![4]), (Silent, vec![4]), (Returning, vec![3]), (Alive, vec![3])]
        {
            heard.hear([(3, known(three)), (4, known(Unknown))].into());
            assert_eq!(used(&heard), expected, "{three:?}");
        }
        // An agent that starts again, of which the earlier one used 4 only.
        heard = Heard { before: Gateways::of([4], [2, 3]), ..Heard::default() };
        assert_eq!(used(&heard), [4]);
        heard.hear([(3, known(Alive)), (4, known(Unknown))].into());
        assert_eq!(used(&heard), [3, 4]);
        // Everyone was judged. One that is new has to answer, whatever was before.
        heard.hear([(3, known(Alive)), (4, known(Alive))].into());
        heard.hear([(3, known(Alive)), (4, known(Unknown))].into());
        assert_eq!(used(&heard), [3]);
    }

    #[test]
    fn a_gateway_without_next_hop_is_not_used() {
        let heard = heard([3, 4].map(|id| (id, known(Health::Alive))));
        let choice = choose(&desired(), &ways(&[1, 3]), &usable(), &heard);
        assert_eq!((choice.fabric.alive(), choice.segment.alive()), (&[2, 3][..], &[2, 3][..]));
    }

    #[test]
    fn who_is_cut_off_speaks_for_nobody_and_uses_its_own_way_out() {
        let choice = choose(&desired(), &ways(&[]), &usable(), &Heard::default());
        assert_eq!((choice.cut_off, choice.fabric.alive(), choice.segment.alive()), (true, &[2][..], &[][..]));
        // With ways to all, silence alone proves nothing, that of a witness who has spoken before does.
        let witness = |health, ever| Known { health, role: ProbeRole::Witness, ever };
        let cut_off = |one, three| {
            let heard = heard([(1, one), (3, known(three)), (4, known(Health::Silent))]);
            choose(&desired(), &ways(&[1, 3, 4]), &usable(), &heard).cut_off
        };
        assert!(cut_off(witness(Health::Silent, true), Health::Silent));
        assert!(!cut_off(witness(Health::Silent, false), Health::Silent));
        assert!(!cut_off(witness(Health::Alive, true), Health::Silent));
        assert!(!cut_off(witness(Health::Silent, true), Health::OutOfService));
        let alone =
            Desired { outside: vpc_topology::compile::Outside { segment: vec![2], ..desired().outside }, ..desired() };
        assert!(!choose(&alone, &ways(&[]), &usable(), &Heard::default()).cut_off);
    }
}
