//! For which addresses outside a gateway speaks: the datapath answers ARP and neighbour solicitations for the same ones.

use crate::maps::{Image, image::Shared, outside::Outside};
use std::{cmp::Reverse, net::IpAddr, sync::Arc};
use vpc_common::{
    Be32, Ip, Mac, Vni,
    endpoint::EndpointKey,
    gateway::Gateways,
    route::{Route, RouteKey, kind},
};
use vpc_datapath::external::{speaker, speaker_at};
use vpc_topology::compile::Desired;

/// For what a gateway speaks, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Index of the external interface.
    pub ifindex: u32,
    /// Its address.
    pub own: Mac,
    /// The gateways of the segment that share its addresses.
    pub segment: Gateways,
    /// The addresses of this one, sorted: external ones of IPv4, then global ones of ports.
    pub addresses: Vec<Ip>,
}

impl Spoken {
    /// For what this gateway speaks on its segment. External addresses are those on the link; to which link the outside
    /// takes a global address, only the outside knows.
    pub fn now(desired: &Desired, image: &Image) -> Self {
        let Some(outlet) = &desired.outside.outlet else { return Self::default() };
        let on_link = |address: &Ip| {
            let external = IpAddr::from(*address);
            !address.is_v4() || outlet.networks.iter().any(|network| network.contains(&external))
        };
        let mut spoken = Self::of(desired.node.id, image);
        spoken.addresses.retain(on_link);
        spoken
    }

    /// For what an earlier agent had this gateway speak, and perhaps some more.
    pub fn before(image: &Image) -> Self {
        u16::try_from(image.node.id).map_or_else(|_| Self::default(), |id| Self::of(id, image))
    }

    fn of(id: u16, image: &Image) -> Self {
        let outside = &image.outside;
        let mut addresses = Vec::new();
        if outside.segment.lives(id) {
            let externals = outside.shared.externals.iter();
            let own = externals.filter(|(address, external)| speaker(&outside.segment, address, external) == id);
            addresses.extend(own.map(|(address, _)| Ip::v4(Be32::from_raw(address[0]))));
            let own = global(&image.shared)
                .filter(|(address, owner)| speaker_at(&outside.segment, address.low(), *owner) == id);
            addresses.extend(own.map(|(address, _)| address));
            addresses.sort();
        }
        Self { ifindex: outside.outlet.ifindex, own: outside.outlet.own, segment: outside.segment, addresses }
    }

    /// Whether this gateway speaks for an address.
    pub fn has(&self, address: &Ip) -> bool {
        self.addresses.binary_search(address).is_ok()
    }
}

/// A block of addresses that is reached from outside.
struct Block {
    first: u128,
    last: u128,
    vpc: Vni,
}

fn number(address: Ip) -> u128 {
    u128::from_be_bytes(address.bytes())
}

/// The global addresses that the outside has a route to, each with its node: what `vpc_datapath::global::resolve` finds,
/// without a look-up in a trie for each of very many endpoints. Blocks of ports lie in those of subnets, of which none overlap.
/// What a port may use besides its own addresses is announced if it is one address; of a block nobody knows which are used.
fn global(shared: &Shared) -> impl Iterator<Item = (Ip, u16)> + '_ {
    let of_outside = shared.routes.iter().filter(|(key, _)| key.table == RouteKey::OUTSIDE);
    let block = |(key, route): &(RouteKey, Route)| {
        let first = number(key.destination);
        let rest = u128::MAX.checked_shr(key.prefix_len.saturating_sub(32)).unwrap_or_default();
        Block { first, last: first | rest, vpc: route.vpc }
    };
    let mut blocks: Vec<Block> = of_outside.map(block).collect();
    blocks.sort_by_key(|block| (block.first, Reverse(block.last)));
    blocks.dedup_by(|inner, outer| inner.last <= outer.last);
    let is_in = move |key: &EndpointKey| {
        let address = number(key.address);
        let before = blocks.partition_point(|block| block.first <= address);
        let block = before.checked_sub(1).and_then(|at| blocks.get(at));
        block.is_some_and(|block| address <= block.last && key.vpc == block.vpc)
    };
    // The router's own addresses have flags, and only endpoints without one are reached from outside.
    let endpoints = shared.endpoints.iter().filter(move |(key, endpoint)| endpoint.flags == 0 && is_in(key));
    let of_ports = shared.routes.iter().filter(|(key, route)| {
        (key.table, key.prefix_len, route.kind) == (RouteKey::OUTSIDE, 32 + u128::BITS, kind::PORT)
    });
    let by_port = of_ports.filter_map(|(key, route)| {
        let known = |address| {
            let wanted = EndpointKey { vpc: route.vpc, address };
            let found = shared.endpoints.binary_search_by_key(&wanted, |(key, _)| *key).ok()?;
            shared.endpoints.get(found)
        };
        // Whoever has it as its own address comes first.
        let (_, owner) = known(route.next_hop).filter(|_| known(key.destination).is_none())?;
        Some((key.destination, owner.node))
    });
    endpoints.map(|(key, endpoint)| (key.address, endpoint.node)).chain(by_port)
}

/// What decides for which addresses a gateway speaks.
pub struct SpokenFrom {
    /// What is desired.
    pub desired: Arc<Desired>,
    /// What the maps hold of the outside.
    pub outside: Outside,
    /// What they hold of the VPCs.
    pub shared: Shared,
}

impl PartialEq for SpokenFrom {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.outside, &other.outside);
        let (our, their) = (&self.shared, &other.shared);
        // Tables that are the same keep their identity.
        Arc::ptr_eq(&self.desired, &other.desired)
            && Arc::ptr_eq(&ours.shared.externals, &theirs.shared.externals)
            && Arc::ptr_eq(&our.endpoints, &their.endpoints)
            && Arc::ptr_eq(&our.routes, &their.routes)
            && (ours.segment, ours.outlet) == (theirs.segment, theirs.outlet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::outside;
    use std::{net::Ipv6Addr, sync::Arc};
    use vpc_common::{
        endpoint::{Endpoint, flags},
        nat::External,
        node::Node,
    };

    fn ip(text: &str) -> Ip {
        Ip::from(text.parse::<IpAddr>().expect("an address"))
    }

    /// The gateways 2 and 3, of which this node is `id`; ports in the VPCs 1 and 2.
    fn image(id: u32, endpoints: &[(u32, &str, u16, u32)]) -> Image {
        let route = |bits: u32, table: Be32, block: &str| {
            let key = RouteKey { prefix_len: 32 + bits, table, destination: ip(block) };
            (key, Route { vpc: Vni(1), ..Route::default() })
        };
        let endpoint = |(vpc, address, node, flags): &(u32, &str, u16, u32)| {
            let key = EndpointKey { vpc: Vni(*vpc), address: ip(address) };
            (key, Endpoint { node: *node, flags: *flags, ..Endpoint::default() })
        };
        let routes = vec![
            route(64, RouteKey::OUTSIDE, "2001:db8:1:1::"),
            route(64, RouteKey::OUTSIDE, "2001:db8:1:3::"),
            route(56, Be32::new(7), "2001:db8:1::"),
        ];
        let externals = vec![([Be32([203, 0, 113, 20]).raw()], External::default())];
        Image {
            node: Node { id, ..Node::default() },
            outside: outside::Outside {
                shared: outside::Shared { externals: Arc::new(externals), ..outside::Shared::default() },
                segment: Gateways::of([2, 3], []),
                ..outside::Outside::default()
            },
            shared: Shared {
                endpoints: Arc::new(endpoints.iter().map(endpoint).collect()),
                routes: Arc::new(routes),
                ..Shared::default()
            },
            ..Image::default()
        }
    }

    #[test]
    fn every_address_that_is_reached_from_outside_has_one_speaker() {
        let ports: Vec<String> = (16..48).map(|host| format!("2001:db8:1:1::{host:x}")).collect();
        let mut endpoints: Vec<_> = ports.iter().map(|address| (1, address.as_str(), 1, 0)).collect();
        endpoints.extend([
            // Not so: the router's, in a subnet without such a route, another VPC's, not global.
            (1, "2001:db8:1:1::1", 0, flags::GATEWAY),
            (1, "2001:db8:1:2::10", 1, 0),
            (2, "2001:db8:1:1::11", 1, 0),
            (1, "10.0.1.10", 1, 0),
        ]);
        let [two, three] = [2, 3].map(|id| Spoken::before(&image(id, &endpoints)).addresses);
        assert!(two.len() > 5 && three.len() > 5, "{} and {}", two.len(), three.len());
        let mut both = [two, three].concat();
        both.sort();
        let mut expected: Vec<Ip> = ports.iter().map(|address| ip(address)).chain([ip("203.0.113.20")]).collect();
        expected.sort();
        assert_eq!(both, expected);
    }

    #[test]
    fn what_one_port_may_use_is_spoken_for_if_it_is_one_address_and_nobodys_own() {
        let mut image = image(2, &[(1, "2001:db8:1:3::10", 2, 0), (1, "2001:db8:1:3::11", 2, 0)]);
        let route = |bits: u32, block: &str| {
            let key = RouteKey { prefix_len: 32 + bits, table: RouteKey::OUTSIDE, destination: ip(block) };
            (key, Route { kind: kind::PORT, vpc: Vni(1), next_hop: ip("2001:db8:1:3::10") })
        };
        let of_port = [(128, "2001:db8:1:3::99"), (128, "2001:db8:1:3::11"), (80, "2001:db8:1:3:8::")];
        let routes = Arc::make_mut(&mut image.shared.routes);
        routes.extend(of_port.map(|(bits, block)| route(bits, block)));
        let spoken: Vec<Ip> = Spoken::before(&image).addresses.into_iter().filter(|address| !address.is_v4()).collect();
        assert_eq!(spoken, ["2001:db8:1:3::10", "2001:db8:1:3::11", "2001:db8:1:3::99"].map(ip));
    }

    #[test]
    fn a_gateway_speaks_for_its_own_ports() {
        let at = |host: u16| Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 0, 0, 0, host).to_string();
        let ports: Vec<String> = (1..32).map(at).collect();
        let endpoints: Vec<_> = ports.iter().map(|address| (1, address.as_str(), 3, 0)).collect();
        let spoken = Spoken::before(&image(3, &endpoints));
        assert!(ports.iter().all(|address| spoken.has(&ip(address))));
        assert!(!Spoken::before(&image(2, &endpoints)).addresses.iter().any(|address| !address.is_v4()));
    }
}
