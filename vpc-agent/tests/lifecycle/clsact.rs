//! The same life where the kernel has no TCX, or the agent is told so: programs hang on filters of a clsact qdisc.

use super::{attachment, map};
use crate::sandbox::{Sandbox, TOPOLOGY, run};
use nix::sys::signal::Signal;
use std::{fs, process::Command};
use vpc_agent::{attach::LinkName, control::report::Status, uninstall::uninstall};
use vpc_bpf::{Filter, Filters, program_info_by_id, tcx_ingress_programs};
use vpc_common::{maps, port::Port};

const CLSACT: [&str; 2] = ["--attach", "clsact"];

fn filters() -> Vec<Filter> {
    Filters::open().and_then(|filters| filters.all()).expect("the filters")
}

fn index(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).expect("an interface")
}

fn on(device: &str) -> Option<Filter> {
    Filters::open().and_then(|filters| filters.on(index(device))).expect("the filters of an interface")
}

fn has_qdisc(device: &str) -> bool {
    let text = Command::new("tc").args(["qdisc", "show", "dev", device]).output().expect("tc").stdout;
    String::from_utf8_lossy(&text).contains("clsact")
}

/// Somebody else's filter, which lets everything pass.
fn add_filter(place: &[&str]) {
    let mut command = Command::new("tc");
    command.args(["filter", "add", "dev"]).args(place).args(["bpf", "bytecode", "1,6 0 0 0,", "flowid", "1:1"]);
    assert!(command.status().expect("tc").success(), "{place:?}");
}

fn is_clsact(status: &Status, name: &str) -> bool {
    attachment(status, name).mode == "clsact"
}

#[test]
fn filters_outlive_the_agent_and_are_known_again() {
    let mut sandbox = Sandbox::new("clsact");
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", "uplink: vag-up, receive_mode: xdp}"))
        .expect("write");
    let status = sandbox.start_with(&CLSACT);
    assert_eq!(status.problems, Vec::<String>::new());
    for name in ["web-1", "vpc-vxlan", "vpc-offload1"] {
        let row = attachment(&status, name);
        assert_eq!(row.mode, "clsact");
        assert!(row.reason.starts_with("`--attach clsact` says so; "), "{}", row.reason);
    }
    assert_eq!(attachment(&status, "vag-up").mode, "xdp");
    let first = filters();
    assert_eq!(first.len(), 3, "{first:?}");
    assert_eq!(program_info_by_id(on("vag-p1").expect("a filter").program).expect("its program").name, "vpc_port");
    for device in ["vag-p1", "vpc-vxlan", "vpc-offload1"] {
        assert_eq!(tcx_ingress_programs(index(device)).expect("query"), Vec::<u32>::new());
    }
    let port: Port = map(&sandbox, maps::PORTS, 1);

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        sandbox.end(signal);
        assert_eq!(filters(), first, "they stay without an agent");
        let length = sandbox.log().len();
        let status = sandbox.start_with(&CLSACT);
        assert!(is_clsact(&status, "web-1"));
        assert!(!sandbox.applied_since(length), "{}", &sandbox.log()[length..]);
        assert_eq!(filters(), first, "the same programs in the same places");
        assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), port);
    }

    // Maps of other sizes take other programs: they replace the old ones in their places.
    sandbox.end(Signal::SIGKILL);
    let status = sandbox.start_with(&["--attach", "clsact", "--sessions", "2048", "--ports", "8"]);
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(sandbox.log().contains("replaced the programs"), "{}", sandbox.log());
    let second = filters();
    assert_eq!(second.len(), 3, "{second:?}");
    for (old, new) in first.iter().zip(&second) {
        assert_eq!((old.ifindex, &old.name), (new.ifindex, &new.name));
        assert_ne!(old.program, new.program);
    }
}

#[test]
fn the_way_can_change_from_one_agent_to_the_next() {
    let mut sandbox = Sandbox::new("ways");
    let programs = || tcx_ingress_programs(index("vag-p1")).expect("query").len();
    for (arguments, mode, by_tcx) in [(&[][..], "tcx", 1), (&CLSACT[..], "clsact", 0), (&[][..], "tcx", 1)] {
        let status = sandbox.start_with(arguments);
        assert_eq!(attachment(&status, "web-1").mode, mode);
        assert_eq!((programs(), on("vag-p1").is_some()), (by_tcx, by_tcx == 0));
        assert_eq!(has_qdisc("vag-p1"), by_tcx == 0);
        sandbox.end(Signal::SIGKILL);
    }
}

#[test]
fn a_filter_that_is_taken_away_is_back_at_once() {
    let mut sandbox = Sandbox::new("taken");
    sandbox.start_with(&CLSACT);
    run("tc qdisc del dev vag-p1 clsact");
    sandbox.eventually("the filter is back", |_| on("vag-p1").is_some());

    run("ip link del vag-p1");
    sandbox.eventually("the interface is gone", |status| attachment(status, "web-1").mode == "absent");
    sandbox.plug("vag-p1");
    sandbox.eventually("it is back", |status| is_clsact(status, "web-1"));
    assert!(on("vag-p1").is_some());
}

#[test]
fn ports_come_change_their_interface_and_go() {
    let mut sandbox = Sandbox::new("moves");
    sandbox.start_with(&CLSACT);
    sandbox.plug("vag-p2");
    fs::write(sandbox.topology(), TOPOLOGY.replace("device: vag-p1", "device: vag-p2")).expect("write");
    sandbox.eventually("the port is on the other interface", |_| on("vag-p2").is_some() && on("vag-p1").is_none());
    assert!(!has_qdisc("vag-p1"), "what came with the filter goes with it");

    // Another port on the same interface: the program is replaced in its place.
    let other = TOPOLOGY.replace("device: vag-p1", "device: vag-p2").replace("name: web-1", "name: web-9");
    fs::write(sandbox.topology(), other).expect("write");
    let status = sandbox.eventually("the other port is there", |status| {
        status.attachments.iter().any(|row| row.name == "web-9" && row.mode == "clsact")
    });
    assert_eq!(status.problems, Vec::<String>::new());
    assert_eq!(filters().len(), 4, "the port's, the uplink's, and those of the tunnel and the offload device");
    assert!(matches!(LinkName::parse(&on("vag-p2").expect("a filter").name), Some(LinkName::Port(_))));

    fs::write(sandbox.topology(), TOPOLOGY.replace("node: hv1, device", "node: hv2, device")).expect("write");
    sandbox.eventually("no port is here", |_| on("vag-p2").is_none());
    assert!(!has_qdisc("vag-p2"));
}

#[test]
fn a_foreign_filter_is_left_in_place() {
    let mut sandbox = Sandbox::new("foreign-filter");
    run("tc qdisc add dev vag-p1 clsact");
    add_filter(&["vag-p1", "ingress", "pref", "1", "handle", "0x76706301"]);
    let status = sandbox.start_with(&CLSACT);
    assert_eq!(attachment(&status, "web-1").mode, "failed");
    assert!(attachment(&status, "web-1").reason.contains("it is left in place"), "{status:#?}");
    assert!(status.problems.iter().any(|problem| problem.contains("somebody else's bpf filter")), "{status:#?}");
    assert_eq!(on("vag-p1"), None);
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1).ifindex, 0, "nothing leads to a port without its policy");

    run("tc filter del dev vag-p1 ingress pref 1");
    sandbox.eventually("the place is taken once it is free", |status| is_clsact(status, "web-1"));
    // Others may follow ours, and the qdisc that was there before stays.
    uninstall(sandbox.run_dir(), sandbox.bpffs()).expect("uninstall");
    sandbox.ended();
    assert_eq!(on("vag-p1"), None);
    assert!(has_qdisc("vag-p1"));
}

#[test]
fn a_filter_that_somebody_puts_before_ours_shows() {
    let mut sandbox = Sandbox::new("before");
    let status = sandbox.start_with(&CLSACT);
    assert_eq!(attachment(&status, "web-1").before, []);
    // Of one priority the youngest comes first; one of a later priority is no matter.
    add_filter(&["vag-p1", "ingress", "pref", "2"]);
    add_filter(&["vag-p1", "ingress", "pref", "1"]);
    let status = sandbox.status().expect("a status");
    let before = &attachment(&status, "web-1").before;
    assert_eq!(before.iter().map(|filter| filter.name.as_str()).collect::<Vec<_>>(), ["bpf"], "{before:?}");
    assert!(status.problems.iter().any(|problem| problem.contains("`bpf`")), "{:?}", status.problems);
    run("tc filter del dev vag-p1 ingress pref 1 handle 1 bpf");
    assert_eq!(attachment(&sandbox.status().expect("a status"), "web-1").before, []);
    assert!(on("vag-p1").is_some());
}

#[test]
fn uninstalling_leaves_no_filter() {
    let mut sandbox = Sandbox::new("clsact-uninstall");
    fs::write(sandbox.topology(), TOPOLOGY.replace("uplink: vag-up}", "uplink: vag-up, receive_mode: tc}"))
        .expect("write");
    let status = sandbox.start_with(&CLSACT);
    assert!(["web-1", "vag-up", "vpc-vxlan"].iter().all(|name| is_clsact(&status, name)), "{status:#?}");
    // Somebody else's filter on our qdisc keeps that there.
    add_filter(&["vag-up", "egress"]);
    sandbox.end(Signal::SIGKILL);
    let removed = uninstall(sandbox.run_dir(), sandbox.bpffs()).expect("uninstall");
    assert_eq!(removed.iter().filter(|what| what.starts_with("filter ")).count(), 3, "{removed:?}");
    assert_eq!(filters(), Vec::new());
    assert!(!has_qdisc("vag-p1"));
    assert!(has_qdisc("vag-up"));
    assert_eq!(uninstall(sandbox.run_dir(), sandbox.bpffs()).expect("again"), Vec::<String>::new());
}
