//! Nodes whose external ports have left with their guests: packets of such flows go by the node of the slice.

use crate::maps::outside::Shared;
use vpc_common::nat::{ExternalPort, kind};

/// Tells whose slice an external port belongs to.
#[derive(Default)]
pub(super) struct Lenders {
    own: u16,
    shared: Shared,
}

impl Lenders {
    pub(super) fn new(own: u16, shared: &Shared) -> Self {
        Self { own, shared: shared.clone() }
    }

    /// The other node that has lent an external port to a guest of this one, as `vpc_datapath::moved::lender` has it.
    pub(super) fn of(&self, port: &ExternalPort) -> Option<u16> {
        let externals = &self.shared.externals;
        let at = externals.binary_search_by_key(&port.address, |(address, _)| *address).ok()?;
        let external = externals.get(at).map(|(_, external)| external).filter(|external| external.kind == kind::NAT)?;
        let is_forward = || self.shared.forwards.binary_search_by_key(port, |(key, _)| *key).is_ok();
        let owner = external.owner(port.port);
        (owner != 0 && owner != self.own && !is_forward()).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vpc_common::{
        Be16, Be32,
        nat::{External, Forward},
    };

    fn port(last: u8, port: u16) -> ExternalPort {
        ExternalPort { address: [Be32([203, 0, 113, last]).raw()], protocol: 17, reserved: 0, port: Be16::new(port) }
    }

    #[test]
    fn a_port_of_another_nodes_slice_is_lent_unless_it_is_forwarded() {
        // Nodes 1, 2 and 3 have slices of 1,000 ports from 2,000 on; 2,005 is a forward.
        let slices = External { first_port: 2_000, slice_ports: 1_000, slices: 3, ..External::default() };
        let nat = External { kind: kind::NAT, node: 1, ..slices };
        let elastic = External { kind: kind::ELASTIC, node: 1, ..External::default() };
        let shared = Shared {
            externals: Arc::new(vec![(port(10, 0).address, nat), (port(20, 0).address, elastic)]),
            forwards: Arc::new(vec![(port(10, 2_005), Forward::default())]),
            ..Shared::default()
        };
        let lenders = Lenders::new(2, &shared);
        assert_eq!(lenders.of(&port(10, 2_000)), Some(1));
        assert_eq!(lenders.of(&port(10, 4_999)), Some(3));
        for own in
            [port(10, 3_000), port(10, 2_005), port(10, 1_999), port(10, 5_000), port(20, 2_000), port(30, 2_000)]
        {
            assert_eq!(lenders.of(&own), None, "{own:?}");
        }
    }
}
