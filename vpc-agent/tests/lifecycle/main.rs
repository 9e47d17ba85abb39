//! An agent's life on a machine: start, restart, crash, changes of the topology and of the machine, uninstall.
//! Needs root.

mod clsact;
mod flush;
mod offload;
mod policies;
mod sandbox;
mod vacated;

use nix::sys::signal::Signal;
use sandbox::{Sandbox, TOPOLOGY, run};
use std::{fs, path::Path, process::Command};
use vpc_agent::maps::tables::Sessions;
use vpc_agent::{
    bpffs,
    control::{
        Kind, Request,
        client::ask,
        report::{Attachment, Listing, PlanReport, Status},
    },
    uninstall::uninstall,
};
use vpc_bpf::Table;
use vpc_common::{
    Be16, maps,
    nat::{ExternalPort, NatIn, NatOut, NatOutKey},
    port::Port,
    session::{Session, SessionKey, V4},
    vtep::Vtep,
};

fn attachment<'a>(status: &'a Status, name: &str) -> &'a Attachment {
    status.attachments.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name} in {status:#?}"))
}

fn map<V: bytemuck::Pod>(sandbox: &Sandbox, name: &str, index: u32) -> V {
    let table: Table<u32, V> = Table::open(&bpffs::maps(sandbox.bpffs()).join(name)).expect("a pinned map");
    table.get(&index).expect("readable").expect("an element")
}

fn mtu(device: &str) -> u32 {
    let text = fs::read_to_string(format!("/sys/class/net/{device}/mtu")).expect("an interface");
    text.trim().parse().expect("a number")
}

#[test]
fn a_node_comes_up_and_stays_up_without_its_agent() {
    let mut sandbox = Sandbox::new("up");
    let status = sandbox.start();
    assert_eq!(status.problems, Vec::<String>::new());
    assert_eq!(attachment(&status, "web-1").mode, "tcx");
    assert_eq!(attachment(&status, "web-1").mtu, 1_500, "that of the guest's end");
    let uplink = attachment(&status, "vag-up");
    assert!(uplink.mode == "tcx" && uplink.reason.contains("XDP on a veth"), "{uplink:?}");
    assert_eq!(attachment(&status, "vpc-vxlan").mode, "tcx");
    assert!(mtu("vag-p1") >= 65_521, "oversized frames must reach the router");
    let silent = fs::read_to_string("/proc/sys/net/ipv6/conf/vag-p1/disable_ipv6").expect("a setting");
    assert_eq!(silent.trim(), "1", "the host itself sends nothing to a guest");
    assert_eq!(status.vteps[0].mtu, Some(1_550));
    assert_eq!(status.vteps[0].next_hops[0].address, "192.0.2.1");
    let port: Port = map(&sandbox, maps::PORTS, 1);
    assert_eq!((port.ifindex, port.mtu), (attachment(&status, "web-1").ifindex, 1_500));
    let vtep: Vtep = map(&sandbox, maps::VTEPS, 2);
    assert_eq!((vtep.mtu, vtep.overhead, vtep.next_hop_count), (1_550, 50, 1));

    // A crash between the two steps of pinning a link.
    let links = bpffs::links(sandbox.bpffs());
    fs::rename(links.join("tunnel"), links.join("tunnel-next")).expect("rename a pin");
    // Stopped, killed, started again: nothing is written, the epoch stays.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        sandbox.end(signal);
        assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
        let length = sandbox.log().len();
        sandbox.start();
        assert!(!sandbox.applied_since(length), "{}", &sandbox.log()[length..]);
        assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
        assert!(links.join("tunnel").exists() && !links.join("tunnel-next").exists());
    }
}

#[test]
fn maps_of_another_size_take_over_what_the_old_ones_hold() {
    let mut sandbox = Sandbox::new("sizes");
    sandbox.start();
    let sessions = || -> Sessions<V4> {
        Table::open(&bpffs::maps(Path::new("/run/bpf")).join(maps::SESSIONS_V4)).expect("the sessions")
    };
    let key = SessionKey { slot: 1, protocol: 17, ..SessionKey::default() };
    let session = Session { seal: 7, last_seen: vpc_agent::sweeper::tick(), ..bytemuck::Zeroable::zeroed() };
    sessions().set(&key, &session).expect("write a session");
    let port: Port = map(&sandbox, maps::PORTS, 1);
    sandbox.end(Signal::SIGTERM);
    let status = sandbox.start_with(&["--sessions", "2048", "--ports", "8"]);
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(sandbox.log().contains("replaced the programs"), "{}", sandbox.log());
    assert_eq!(sessions().description().max_entries, 2_048);
    assert_eq!(sessions().get(&key).expect("read a session"), Some(session));
    // Its share of the sessions is another one, which is a change of the port.
    let now: Port = map(&sandbox, maps::PORTS, 1);
    assert_eq!((now.session_quota, now.vpc_quota), (2_048, 2_048));
    let Port { epoch, session_quota, vpc_quota, .. } = port;
    assert_eq!(Port { epoch, session_quota, vpc_quota, ..now }, port);
}

/// N5: nobody is given an external port to which another's peer may still send.
#[test]
fn a_nat_port_is_free_again_two_minutes_after_its_last_session() {
    const TICKS_OF_TWO_MINUTES: u16 = 56;
    let mut sandbox = Sandbox::new("mappings");
    sandbox.start();
    let pinned = |name: &str| bpffs::maps(Path::new("/run/bpf")).join(name);
    let nat_in: Table<ExternalPort, NatIn> = Table::open(&pinned(maps::NAT_IN)).expect("the mappings");
    let nat_out: Table<NatOutKey, NatOut> = Table::open(&pinned(maps::NAT_OUT)).expect("what leads to them");
    let sessions: Sessions<V4> = Table::open(&pinned(maps::SESSIONS_V4)).expect("the sessions");
    let now = vpc_agent::sweeper::tick();
    let external = |port| ExternalPort { address: [1], protocol: 17, reserved: 0, port: Be16::new(port) };
    for (port, idle) in [(2_000, 0), (2_001, TICKS_OF_TWO_MINUTES - 5), (2_002, 60), (2_003, 60)] {
        let last_used = now.wrapping_sub(idle);
        let mapping = NatIn { private: [2], slot: 1, port: Be16::new(port), last_used, ..NatIn::default() };
        let (out, value) = mapping.way_out(&external(port));
        nat_in.set(&external(port), &mapping).expect("write a mapping");
        nat_out.set(&out, &value).expect("write its key");
    }
    // A session uses the last one.
    let key = SessionKey { slot: 1, protocol: 17, local_port: Be16::new(2_003), ..SessionKey::default() };
    let state = vpc_common::session::state::TWO_WAY;
    let mut session = Session { state, last_seen: now, ..Session::default() };
    session.set_external([1], Be16::new(2_003));
    sessions.set(&key, &session).expect("write a session");
    let left = || {
        let of = |port: Be16| port.get();
        let mut mappings: Vec<_> = nat_in.entries().expect("read").into_iter().map(|(key, _)| of(key.port)).collect();
        let mut keys: Vec<_> = nat_out.entries().expect("read").into_iter().map(|(key, _)| of(key.port)).collect();
        mappings.sort_unstable();
        keys.sort_unstable();
        (mappings, keys)
    };
    let start = std::time::Instant::now();
    while left().0.len() == 4 {
        assert!(start.elapsed().as_secs() < 20, "not swept");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(left(), (vec![2_000, 2_001, 2_003], vec![2_000, 2_001, 2_003]));
}

#[test]
fn an_underlay_of_ipv6_with_two_ways() {
    let mut sandbox = Sandbox::new("v6");
    for line in [
        "ip link add vag-up2 type veth peer name r1 netns vag-router",
        "ip link set vag-up2 up",
        "ip -n vag-router link set r1 up",
        "ip address add 2001:db8:1::b/64 dev vag-up nodad",
        "ip address add 2001:db8:2::b/64 dev vag-up2 nodad",
        "ip -n vag-router address add 2001:db8:1::1/64 dev r0 nodad",
        "ip -n vag-router address add 2001:db8:2::1/64 dev r1 nodad",
        "ip -6 route add 2001:db8:9::/64 nexthop via 2001:db8:1::1 nexthop via 2001:db8:2::1",
    ] {
        run(line);
    }
    let text = TOPOLOGY.replace("192.0.2.11", "\"2001:db8:1::b\"").replace("198.51.100.12", "\"2001:db8:9::c\"");
    fs::write(sandbox.topology(), text.replace("uplink: vag-up}", "uplinks: [vag-up, vag-up2]}")).expect("write");
    sandbox.start();
    sandbox.eventually("both ways are used", |status| {
        let hops = &status.vteps[0].next_hops;
        status.problems.is_empty() && hops.len() == 2 && hops.iter().all(|hop| hop.state == "used")
    });
    let vtep: Vtep = map(&sandbox, maps::VTEPS, 2);
    assert_eq!((vtep.next_hop_count, vtep.mtu, vtep.overhead), (2, 1_430, 70));
    assert_eq!((vtep.header[0], vtep.header[39]), (0x60, 0x0c));
    run("ip -6 route replace 2001:db8:9::/64 nexthop via 2001:db8:1::1 nexthop via 2001:db8:2::1 weight 3");
    sandbox.eventually("weights count", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 4);
    // The kernel lists the ways of an IPv6 route in an order of its own.
    let uplink = nix::net::if_::if_nametoindex("vag-up2").expect("the second uplink");
    let heavier = map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hops.iter().filter(|hop| hop.ifindex == uplink).count();
    assert_eq!(heavier, 3);
    run("ip -n vag-router link set r1 down");
    sandbox.eventually("one is left", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 1);
}

#[test]
fn a_next_hop_that_dies_without_its_link_is_noticed() {
    let mut sandbox = Sandbox::new("dead");
    sandbox.start();
    // The router answers nobody any more, its link stays up.
    run("ip -n vag-router link set r0 arp off");
    run("ip -n vag-router address del 192.0.2.1/24 dev r0");
    let unresolved = |status: &Status| status.vteps[0].next_hops[0].state == "unresolved";
    std::thread::sleep(std::time::Duration::from_secs(3));
    sandbox.eventually("it is given up", unresolved);
    run("ip -n vag-router link set r0 arp on");
    run("ip -n vag-router address add 192.0.2.1/24 dev r0");
    sandbox.eventually("it is used again", |status| status.vteps[0].next_hops[0].state == "used");
}

#[test]
fn a_second_agent_exits_at_once_and_names_the_first() {
    let mut sandbox = Sandbox::new("second");
    let pid = sandbox.start().pid;
    let output = sandbox.command().output().expect("run a second agent");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("pid {pid}")), "{text}");
}

#[test]
fn a_second_agent_of_the_same_pins_exits_whatever_its_run_directory() {
    let mut sandbox = Sandbox::new("pins");
    let pid = sandbox.start().pid;
    let before = sandbox.log().len();
    // One that is not refused would run on.
    let mut command = Command::new("timeout");
    command.arg("5").arg(sandbox.command().get_program()).args(sandbox.command().get_args());
    let output = command.args(["--run-dir", "/run/other"]).output().expect("run a second agent");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.status.code() != Some(124), "it runs beside the first one: {text}");
    assert!(text.contains(&format!("pid {pid}")) && text.contains("/run/bpf/vpc"), "{text}");
    assert!(!sandbox.applied_since(before), "the first one had to write: {}", sandbox.log());
    let error = uninstall(Path::new("/run/other"), sandbox.bpffs()).expect_err("the pins are in use");
    assert!(error.to_string().contains(&format!("pid {pid}")), "{error}");

    // With pins of its own it is the agent of another machine, as far as locks go.
    let mut command = Command::new("timeout");
    command.args(["--signal=TERM", "3"]).arg(sandbox.command().get_program()).args(sandbox.command().get_args());
    let output = command.args(["--run-dir", "/run/other", "--bpffs", "/run/bpf2"]).output().expect("run a third agent");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "it is refused: {text}");
}

#[test]
fn a_bad_file_changes_nothing_not_even_over_a_restart() {
    let mut sandbox = Sandbox::new("bad");
    sandbox.start();
    let port: Port = map(&sandbox, maps::PORTS, 1);
    fs::write(sandbox.topology(), TOPOLOGY.replace("subnet: web,", "subnet: wob,")).expect("write");
    let status = sandbox.eventually("the file is rejected", |status| status.topology.state == "last_good");
    assert!(status.topology.errors.contains("wob"), "{}", status.topology.errors);
    assert_eq!(status.topology.errors.matches("error").count(), 3, "two problems and their count");
    sandbox.end(Signal::SIGKILL);
    let status = sandbox.start();
    assert_eq!(status.topology.state, "last_good");
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
    assert_eq!(attachment(&status, "web-1").mode, "tcx");
    fs::write(sandbox.topology(), TOPOLOGY).expect("write");
    let status = sandbox.eventually("the file is good", |status| status.topology.state == "file");
    assert_eq!(status.topology.errors, "");
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
}

#[test]
fn a_topology_larger_than_the_maps_is_refused_with_the_numbers() {
    let mut sandbox = Sandbox::new("large");
    fs::write(sandbox.topology(), TOPOLOGY.replace("10.0.1.10]", "10.0.1.10], allowed_address_pairs: [10.0.9.0/24]"))
        .expect("write");
    let status = sandbox.start_with(&["--sources", "1"]);
    assert_eq!(status.topology.state, "none");
    assert!(status.topology.errors.contains('1'), "{}", status.topology.errors);
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), Port::default());
}

#[test]
fn edits_add_move_and_remove_ports() {
    let mut sandbox = Sandbox::new("edits");
    sandbox.start();
    sandbox.plug("vag-p2");
    let added = format!(
        "{TOPOLOGY}  - {{name: web-3, subnet: web, node: hv1, device: vag-p2, mac: \"02:00:00:00:01:12\", private_ips: [10.0.1.12]}}\n"
    );
    let plan = |text: &str| -> PlanReport {
        let request = Request::Plan { name: "new.yaml".to_owned(), text: text.to_owned() };
        ask(Path::new("/run/vpc-agent"), request).expect("a plan")
    };
    assert_eq!(plan(TOPOLOGY).writes, 0);
    assert!(plan(&added).changes.iter().any(|line| line.contains("web-3")), "{:?}", plan(&added).changes);
    let old: Port = map(&sandbox, maps::PORTS, 1);

    fs::write(sandbox.topology().with_extension("new"), &added).expect("write");
    fs::rename(sandbox.topology().with_extension("new"), sandbox.topology()).expect("rename");
    let status = sandbox.eventually("the port is there", |status| {
        status.attachments.iter().any(|row| row.name == "web-3" && row.mode == "tcx")
    });
    assert_eq!(status.problems, Vec::<String>::new());
    let new: Port = map(&sandbox, maps::PORTS, 2);
    assert!(new.epoch != 0 && new.ifindex == attachment(&status, "web-3").ifindex);
    let first: Port = map(&sandbox, maps::PORTS, 1);
    assert!(first.epoch > old.epoch, "its VPC changed");

    // The port goes to the other node: the slot is empty, the link is gone, the endpoint is elsewhere.
    let moved = added.replace("name: web-3, subnet: web, node: hv1", "name: web-3, subnet: web, node: hv2");
    fs::write(sandbox.topology(), moved).expect("write");
    sandbox.eventually("the port is gone", |status| status.attachments.iter().all(|row| row.name != "web-3"));
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 2), Port::default());
    assert_eq!(fs::read_dir(bpffs::links(sandbox.bpffs())).expect("links").count(), 4);
    let endpoints: Listing = ask(sandbox.run_dir(), Request::Get(Kind::Endpoints)).expect("endpoints");
    assert!(endpoints.rows.iter().any(|row| row[1] == "10.0.1.12" && row[3] == "hv2"), "{endpoints:?}");
}

#[test]
fn interfaces_come_go_and_change() {
    let mut sandbox = Sandbox::new("devices");
    sandbox.start();
    run("ip link del vag-p1");
    let port = |status: &Status| attachment(status, "web-1").clone();
    sandbox.eventually("the port's interface is gone", |status| port(status).mode == "absent");
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1).ifindex, 0);
    sandbox.plug("vag-p1");
    let status = sandbox.eventually("it is back", |status| port(status).mode == "tcx");
    sandbox.eventually("the maps know it", |_| map::<Port>(&sandbox, maps::PORTS, 1).ifindex == port(&status).ifindex);

    run("ip link set vag-up mtu 1400");
    sandbox.eventually("the underlay's MTU counts", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).mtu == 1_350);
    run("ip -n vag-guest link set g-vag-p1 mtu 1300");
    sandbox.eventually("the guest's MTU counts", |_| map::<Port>(&sandbox, maps::PORTS, 1).mtu == 1_300);
    run("ip netns exec vag-guest ethtool -K g-vag-p1 gro on");
    sandbox.eventually("NAPI at the guest's end counts", |_| {
        map::<Port>(&sandbox, maps::PORTS, 1).flags & vpc_common::port::flags::XDP_DELIVERY != 0
    });

    run("ip -n vag-router link set r0 down");
    sandbox.eventually("the dead uplink is left out", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 0);
    run("ip -n vag-router link set r0 up");
    sandbox.eventually("the uplink is back", |status| {
        map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 1 && status.problems.is_empty()
    });
}

#[test]
fn a_tap_of_a_virtual_machine_is_a_port() {
    let mut sandbox = Sandbox::new("tap");
    run("ip link del vag-p1");
    run("ip tuntap add vag-p1 mode tap");
    run("ip link set vag-p1 up mtu 1450");
    let status = sandbox.start();
    assert_eq!(status.problems, Vec::<String>::new());
    let row = attachment(&status, "web-1");
    assert_eq!((row.mode.as_str(), row.mtu), ("tcx", 1_450), "{row:?}");
    assert!(row.reason.starts_with("XDP and TC redirect"), "{row:?}");
    let port: Port = map(&sandbox, maps::PORTS, 1);
    assert_eq!(port.flags & vpc_common::port::flags::PEER_DELIVERY, 0);
    assert!(mtu("vag-p1") > 65_000);
    // The guest's MTU is known from before the host's end was enlarged, also to the next agent.
    sandbox.end(Signal::SIGKILL);
    sandbox.start();
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
}

#[test]
fn two_uplinks_are_used_and_one_goes() {
    let mut sandbox = Sandbox::new("uplinks");
    for line in [
        "ip link add vag-up2 type veth peer name r1 netns vag-router",
        "ip address add 203.0.113.11/24 dev vag-up2",
        "ip link set vag-up2 up mtu 1500",
        "ip -n vag-router address add 203.0.113.1/24 dev r1",
        "ip -n vag-router link set r1 up",
        "ip route replace 198.51.100.0/24 nexthop via 192.0.2.1 nexthop via 203.0.113.1",
    ] {
        run(line);
    }
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", "uplinks: [vag-up, vag-up2]}")).expect("write");
    let status = sandbox.start();
    assert_eq!(status.problems, Vec::<String>::new());
    let vtep: Vtep = map(&sandbox, maps::VTEPS, 2);
    assert_eq!((vtep.next_hop_count, vtep.mtu), (2, 1_450));
    run("ip route replace 198.51.100.0/24 nexthop via 192.0.2.1 weight 2 nexthop via 203.0.113.1 weight 1");
    let status = sandbox.eventually("weights count", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 3);
    let [first, second] = [vtep.next_hops[0], vtep.next_hops[1]];
    assert_eq!(map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hops[..3], [first, first, second]);
    let shares: Vec<_> = status.vteps[0].next_hops.iter().map(|hop| hop.share.as_str()).collect();
    assert_eq!(shares, ["2/3", "1/3"]);
    run("ip -n vag-router link set r0 down");
    sandbox.eventually("one is left", |_| map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hop_count == 1);
    assert_eq!(map::<Vtep>(&sandbox, maps::VTEPS, 2).next_hops[0], second);
}

#[test]
fn a_foreign_program_is_left_in_place() {
    let mut sandbox = Sandbox::new("foreign");
    let loaded = vpc_bpf::Loader::new(vpc_bpf::Sizes { sessions: 16, ..Default::default() }).load().expect("load");
    // A veth would have no XDP in any case.
    run("ip tuntap add vag-tap mode tap");
    run("ip link set vag-tap up");
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", "uplinks: [vag-up, vag-tap]}")).expect("write");
    let index = nix::net::if_::if_nametoindex("vag-tap").expect("the uplink");
    let program = loaded.program_fd(maps::programs::UPLINK_XDP).expect("a program");
    let foreign = vpc_bpf::Link::attach(program, index, vpc_bpf::Hook::XdpNative).expect("attach");
    let status = sandbox.start();
    assert_eq!(attachment(&status, "vag-tap").mode, "tcx");
    assert!(status.problems.iter().any(|problem| problem.contains("another XDP program")), "{:?}", status.problems);
    assert_eq!(foreign.info().expect("info").ifindex, index);
    drop(foreign);
    sandbox.eventually("XDP is used once it is free", |status| attachment(status, "vag-tap").mode == "xdp");

    let by = |mode: &str| format!("uplinks: [vag-up, vag-tap], receive_mode: {mode}}}");
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", &by("tc"))).expect("write");
    let status = sandbox.eventually("TC is used", |status| attachment(status, "vag-tap").mode == "tcx");
    assert_eq!(status.problems, Vec::<String>::new());
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", &by("xdp"))).expect("write");
    let by_xdp = |status: &Status| ["vag-up", "vag-tap"].iter().all(|name| attachment(status, name).mode == "xdp");
    let status = sandbox.eventually("XDP is used on a veth too", by_xdp);
    assert_eq!(status.problems, Vec::<String>::new());
}

#[test]
fn uninstalling_leaves_nothing() {
    for running in [Agent::Runs, Agent::Killed] {
        let mut sandbox = Sandbox::new("uninstall");
        sandbox.start();
        if running == Agent::Killed {
            sandbox.end(Signal::SIGKILL);
        }
        let removed = uninstall(sandbox.run_dir(), sandbox.bpffs()).expect("uninstall");
        assert_eq!(removed.len(), 5, "{removed:?}");
        if running == Agent::Runs {
            sandbox.ended();
        }
        assert!(!bpffs::directory(sandbox.bpffs()).exists());
        assert!(!sandbox.run_dir().exists());
        for device in ["vpc-vxlan", "vpc-offload0", "vpc-offload1"] {
            assert!(nix::net::if_::if_nametoindex(device).is_err(), "{device}");
        }
        let index = nix::net::if_::if_nametoindex("vag-p1").expect("the port");
        assert_eq!(vpc_bpf::tcx_ingress_programs(index).expect("query"), Vec::<u32>::new());
        let text = Command::new("ip").args(["link", "show", "vag-up"]).output().expect("ip").stdout;
        assert!(!String::from_utf8_lossy(&text).contains("xdp"));
        assert_eq!(uninstall(sandbox.run_dir(), sandbox.bpffs()).expect("again"), Vec::<String>::new());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Agent {
    Runs,
    Killed,
}
