//! Which instances cannot be next hops: those of this node by their interfaces, those of others by what their nodes say.

use crate::{
    liveness::{Health, Healths},
    maps::Image,
};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::{
    bfd,
    port::{Port, flags},
};
use vpc_topology::compile::Desired;

/// The ports that are next hops beside others and cannot be it now, by uid. Silence counts only where anybody was ever heard:
/// else it is more likely that questions get lost.
pub fn gone(desired: &Desired, image: &Image, healths: &Healths) -> BTreeSet<u64> {
    if desired.next_hops.is_empty() {
        return BTreeSet::new();
    }
    let here: BTreeMap<u64, &Port> = image.ports.values().map(|port| (port.uid, port)).collect();
    let heard = healths.values().any(|known| known.ever);
    let is_gone = |uid: &u64| match (here.get(uid), healths.get(&bfd::of_port(*uid)).map(|known| known.health)) {
        (Some(port), _) => port.ifindex == 0 || port.flags & flags::NO_CARRIER != 0,
        (None, Some(Health::OutOfService)) => true,
        (None, Some(Health::Silent)) => heard,
        (None, _) => false,
    };
    desired.next_hops.keys().copied().filter(is_gone).collect()
}

/// What is wrong with them.
pub fn problems(desired: &Desired, gone: &BTreeSet<u64>) -> impl Iterator<Item = String> {
    let names = desired.next_hops.iter().filter(|(uid, _)| gone.contains(uid)).map(|(_, name)| name);
    names.map(|name| format!("instance {name} is not used as a next hop beside others: nobody is behind its port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Known;
    use vpc_topology::compile::ProbeRole;

    const HERE: u64 = 1;
    const THERE: u64 = 2;

    fn is_gone(ifindex: u32, flags: u32, there: &[(Health, bool)]) -> [bool; 2] {
        let next_hops = BTreeMap::from([(HERE, "fw-1".to_owned()), (THERE, "fw-2".to_owned())]);
        let desired = Desired { next_hops, ..Desired::default() };
        let port = Port { uid: HERE, ifindex, flags, ..Port::default() };
        let image = Image { ports: BTreeMap::from([(1, port)]), ..Image::default() };
        let known = |(health, ever): &(Health, bool)| Known { health: *health, role: ProbeRole::Instance, ever: *ever };
        let healths = there.iter().map(|there| (bfd::of_port(THERE), known(there))).collect();
        let gone = gone(&desired, &image, &healths);
        [HERE, THERE].map(|uid| gone.contains(&uid))
    }

    #[test]
    fn one_of_this_node_is_gone_without_its_interface_or_its_carrier() {
        assert_eq!(is_gone(7, flags::ROUTES_FOR_OTHERS, &[]), [false, false]);
        assert_eq!(is_gone(0, flags::ROUTES_FOR_OTHERS, &[]), [true, false]);
        assert_eq!(is_gone(7, flags::ROUTES_FOR_OTHERS | flags::NO_CARRIER, &[]), [true, false]);
    }

    #[test]
    fn one_of_another_node_is_gone_if_that_says_so_or_falls_silent() {
        let there = |health, ever| is_gone(7, 0, &[(health, ever)])[1];
        assert!(!there(Health::Unknown, false) && !there(Health::Alive, true));
        assert!(there(Health::OutOfService, true) && there(Health::Silent, true));
        assert!(!there(Health::Silent, false), "nobody was ever heard");
    }
}
