//! Scenarios with a real agent on each hypervisor and real clients in the guests. Each makes its own fabric and
//! removes it; they run side by side.

mod counting;
mod differential;
mod failover;
mod faults;
mod foreign;
mod fragments;
mod global;
mod growth;
mod instances;
mod interop;
mod isolation;
mod live;
mod moving;
mod mtu;
mod north_south;
mod order;
mod packet_rate;
mod quota;
mod stateful;
mod tap;
mod traffic;
mod underlay;

#[test]
fn the_topologies_of_the_scenarios_are_valid() {
    let added = vpc_netns_tests::TOPOLOGY.to_owned() + live::A4;
    let texts: &[&str] = &[
        &added,
        &interop::TOPOLOGY,
        &underlay::two_uplinks(),
        &underlay::ipv6(),
        &live::with_blackhole(),
        &counting::topology(),
        &quota::TOPOLOGY,
        &stateful::TOPOLOGY,
        &stateful::with_acl(),
        &north_south::TOPOLOGY,
        &instances::TOPOLOGY,
        &moving::TOPOLOGY,
        &global::TOPOLOGY,
        differential::TOPOLOGY,
        &packet_rate::topology(),
        &failover::TOPOLOGY,
        &order::topology(),
    ];
    for text in texts {
        if let Err(problems) = vpc_topology::load(text, "topology.yaml") {
            panic!("{problems}");
        }
    }
}
