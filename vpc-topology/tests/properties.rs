//! What holds for every topology, and for every text.
#![expect(clippy::unwrap_used, reason = "a test")]

use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, fmt::Write as _};
use vpc_topology::{Limits, Slots, compile, compile::Desired, diagnostics::Style, diff::Plan, load, load_within};

/// One port: its number, which gives it name, MAC and host address; the subnet; the node.
#[derive(Clone, Copy, Debug)]
struct Port {
    number: u8,
    subnet: usize,
    node: u8,
}

const SUBNETS: [(&str, &str); 4] = [("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")];

fn text(ports: &[Port]) -> String {
    let mut text = String::from(
        "version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1}
  - {name: hv2, id: 2, vtep: 192.0.2.2, uplink: eth1}
  - {name: tor, id: 3, vtep: 192.0.2.3, agent: false}
vpcs:
  - {name: one, vni: 5001, cidr_blocks: [10.0.0.0/16, \"fd00:1::/56\"]}
  - {name: two, vni: 5002, cidr_blocks: [10.1.0.0/16]}
  - {name: three, vni: 5003, cidr_blocks: [10.0.0.0/16]}
peerings: [{name: p, requester: one, accepter: two}]
route_tables: [{name: rt, vpc: one, routes: [{destination: 10.1.0.0/16, peering: p}]}]
subnets:
  - {name: a, vpc: one, cidr_blocks: [10.0.0.0/24, \"fd00:1::/64\"], route_table: rt}
  - {name: b, vpc: one, cidr_blocks: [10.0.1.0/24], vni: 6001}
  - {name: c, vpc: two, cidr_blocks: [10.1.2.0/24]}
  - {name: d, vpc: three, cidr_blocks: [10.0.3.0/24]}
ports:
",
    );
    for port in ports {
        let name = SUBNETS[port.subnet].0;
        let network = ["10.0.0", "10.0.1", "10.1.2", "10.0.3"][port.subnet];
        let v6 = if port.subnet == 0 { format!(", \"fd00:1::{:x}\"", port.number + 2) } else { String::new() };
        let node = ["hv1", "hv2", "tor"][usize::from(port.node)];
        let (number, host) = (port.number, port.number + 2);
        writeln!(
            text,
            "  - {{name: p{number}, subnet: {name}, node: {node}, device: tap{number}, \
             mac: \"02:00:00:00:00:{number:02x}\", private_ips: [{network}.{host}{v6}]}}"
        )
        .unwrap();
    }
    text
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = (0..30_u8, 0..SUBNETS.len(), 0..3_u8).prop_map(|(number, subnet, node)| Port { number, subnet, node });
    vec(port, 0..24).prop_map(|ports| {
        let unique: BTreeMap<u8, Port> = ports.into_iter().map(|port| (port.number, port)).collect();
        unique.into_values().collect()
    })
}

fn state(ports: &[Port], previous: &Slots) -> Desired {
    compile(&load(&text(ports), "test.yaml").unwrap(), "hv1", previous, &Limits::default()).unwrap()
}

fn slots(state: &Desired) -> Slots {
    state.ports.iter().map(|(slot, port)| (port.record.uid, *slot)).collect()
}

fn sorted<K: Ord, V>(table: &[(K, V)]) -> bool {
    table.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn ports_keep_their_slots(before in ports(), after in ports()) {
        let old = state(&before, &Slots::new());
        let new = state(&after, &slots(&old));
        let (old, new) = (slots(&old), slots(&new));
        for (uid, slot) in &old {
            prop_assert!(new.get(uid).is_none_or(|now| now == slot));
        }
        prop_assert!(new.values().all(|slot| *slot > 0));
        let highest = new.values().max().copied().unwrap_or_default();
        prop_assert!(usize::from(highest) <= old.len().max(new.len()) + old.len(), "the lowest free slots are taken");
    }

    #[test]
    fn plans_lead_to_the_new_state(before in ports(), after in ports()) {
        let old = state(&before, &Slots::new());
        let new = state(&after, &slots(&old));
        let plan = Plan::between(&old, &new);
        let mut applied = old.clone();
        plan.apply(&mut applied);
        prop_assert_eq!(&applied, &new);
        prop_assert!(Plan::between(&applied, &new).is_empty());
        prop_assert_eq!(plan.is_empty(), old == new);
        prop_assert_eq!(plan.describe(&old, &new).is_empty(), plan.is_empty());
        // A port whose world changed is decided again.
        for (slot, port) in &new.ports {
            let touched = plan.endpoints.keys().any(|key| port.reach.contains(&key.vpc));
            prop_assert!(!touched || plan.epochs.contains(slot));
        }
    }

    #[test]
    fn states_do_not_depend_on_the_order_of_the_file(ports in ports(), seed in any::<u64>()) {
        let mut shuffled = ports.clone();
        shuffled.sort_by_key(|port| (u64::from(port.number) + 1).wrapping_mul(seed | 1));
        prop_assert_eq!(state(&ports, &Slots::new()), state(&shuffled, &Slots::new()));
    }

    #[test]
    fn tables_are_sorted_and_closed(ports in ports()) {
        let state = state(&ports, &Slots::new());
        prop_assert!(sorted(&state.endpoints) && sorted(&state.macs) && sorted(&state.routes));
        prop_assert!(sorted(&state.sources) && sorted(&state.flood));
        for port in state.ports.values() {
            prop_assert!(state.routes.iter().any(|(key, _)| key.table.get() == port.record.route_table));
            prop_assert!(port.reach.contains(&port.record.vpc));
        }
        // A node knows no address of a VPC that none of its ports can reach.
        for (key, _) in state.endpoints.iter() {
            prop_assert!(state.ports.values().any(|port| port.reach.contains(&key.vpc)));
        }
        for (_, endpoint) in state.endpoints.iter().filter(|(_, endpoint)| endpoint.flags == 0) {
            prop_assert!(endpoint.node == 1 || state.vteps.iter().any(|vtep| vtep.id == endpoint.node));
        }
    }

    /// A topology that validation lets pass compiles within the same limits.
    #[test]
    fn what_is_valid_fits(ports in ports(), size in 1..40_u32) {
        let limits = Limits {
            local_ports: size,
            endpoints: size * 2,
            routes: size / 8,
            sources: size,
            flood_members: size / 2,
            flood_fanout: size / 4,
            ..Limits::default()
        };
        let fits = ["hv1", "hv2"].iter().all(|node| {
            compile(&load(&text(&ports), "").unwrap(), node, &Slots::new(), &limits).is_ok()
        });
        prop_assert_eq!(load_within(&text(&ports), "test.yaml", &limits).is_ok(), fits);
    }

    #[test]
    fn no_text_is_too_strange(at in 0_usize..4_000, cut in 0_usize..12, new in "(\\PC|[\\[\\]{}:,&*!|>'\"%@`#\\n\\t -]){0,6}") {
        let text = include_str!("ui/vocabulary.yaml");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        let end = (at + cut..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        let mutated = format!("{}{new}{}", &text[..at], &text[end..]);
        for text in [mutated.as_str(), &mutated[..at + new.len()]] {
            if let Err(diagnostics) = load(text, "strange.yaml") {
                prop_assert!(!diagnostics.problems().is_empty());
                prop_assert!(diagnostics.render(Style::Plain).contains("strange.yaml"));
            }
        }
    }
}
