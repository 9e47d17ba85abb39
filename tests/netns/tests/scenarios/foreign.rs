//! Programs of other tools on the interfaces of ports: none is replaced, ours goes first, and what goes before ours
//! shows.

use anyhow::ensure;
use std::time::Duration;
use vpc_lab::{
    Fabric, Lab, UnderlayOptions,
    agent::vpcctl_json,
    foreign::{Effect, ForeignProgram, NAME, Place},
    wait::eventually,
};
use vpc_netns_tests::{TOPOLOGY, does_not_reach, reaches, soon_reaches};

/// What `vpcctl status` says of the interface of a port: names of the programs before ours, and the problems.
fn seen(fabric: &Fabric, port: &str) -> (Vec<String>, Vec<String>) {
    let status = vpcctl_json(fabric.node("hv1").expect("a node"), "status").expect("a status");
    let rows = status["attachments"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == port).expect("the port's row");
    assert_eq!(row["mode"], "tcx", "{row}");
    let names = row["before"].as_array().expect("a list").iter().map(|program| text(&program["name"])).collect();
    (names, status["problems"].as_array().expect("a list").iter().map(text).collect())
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn a_program_that_was_there_first_stays_and_runs_behind_ours() {
    let mut fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    // Before ours it would take every frame away.
    let _foreign =
        ForeignProgram::attach(fabric.node("hv1").unwrap().netns(), "tap-a1", Place::First, Effect::Drop).unwrap();
    fabric.start_agents().unwrap();
    reaches(&fabric, "a1", "a2").unwrap();
    assert_eq!(seen(&fabric, "a1"), (vec![], vec![]));
    // Nor does one that comes later change anything, as long as it goes behind.
    let _another =
        ForeignProgram::attach(fabric.node("hv1").unwrap().netns(), "tap-a1", Place::Last, Effect::Drop).unwrap();
    fabric.agent_mut("hv1").unwrap().kill().unwrap();
    fabric.restart_agent("hv1").unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    assert_eq!(seen(&fabric, "a1"), (vec![], vec![]));
}

#[test]
fn a_program_before_ours_shows_in_the_status_and_stays() {
    let mut fabric = vpc_netns_tests::fabric(TOPOLOGY).unwrap();
    let attach = |fabric: &Fabric, effect| {
        ForeignProgram::attach(fabric.node("hv1").unwrap().netns(), "tap-a1", Place::First, effect).unwrap()
    };
    let watcher = attach(&fabric, Effect::Next);
    reaches(&fabric, "a1", "a2").unwrap();
    let thief = attach(&fabric, Effect::Drop);
    does_not_reach(&fabric, "a1", "a2").unwrap();
    for _ in 0..2 {
        let (before, problems) = seen(&fabric, "a1");
        assert_eq!(before, [NAME, NAME]);
        let told = |problem: &&String| problem.contains("a1") && problem.contains("tap-a1") && problem.contains(NAME);
        assert_eq!(problems.iter().filter(told).count(), 1, "{problems:?}");
        assert_eq!(seen(&fabric, "a3").0, Vec::<String>::new());
        // The next agent neither removes nor passes them.
        fabric.agent_mut("hv1").unwrap().kill().unwrap();
        fabric.restart_agent("hv1").unwrap();
    }
    drop(thief);
    soon_reaches(&fabric, "a1", "a2").unwrap();
    drop(watcher);
    assert_eq!(seen(&fabric, "a1"), (vec![], vec![]));
}

#[test]
fn filters_of_tc_stay_and_run_behind_ours() {
    let mut fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    let filters = |fabric: &Fabric| {
        let shown = fabric.node("hv1").unwrap().netns().run("tc filter show dev tap-a1 ingress").unwrap();
        assert!(shown.contains("bpf"), "the filter is gone: {shown}");
    };
    let netns = fabric.node("hv1").unwrap().netns();
    netns.run("tc qdisc add dev tap-a1 clsact").unwrap();
    // `bpf bytecode`: one instruction, which returns 2: drop.
    let mut command = netns.command("tc");
    command.args(["filter", "add", "dev", "tap-a1", "ingress", "bpf", "da", "bytecode", "1,6 0 0 2,"]);
    vpc_lab::command::output(&mut command).unwrap();
    fabric.start_agents().unwrap();
    reaches(&fabric, "a1", "a2").unwrap();
    reaches(&fabric, "a2", "a1").unwrap();
    filters(&fabric);
    assert_eq!(seen(&fabric, "a1"), (vec![], vec![]));
    fabric.agent_mut("hv1").unwrap().stop().unwrap();
    vpc_lab::agent::vpcctl(fabric.node("hv1").unwrap(), "uninstall").unwrap();
    filters(&fabric);
}

#[test]
fn programs_behind_ours_on_an_uplink_see_what_is_not_ours() {
    let fabric = vpc_netns_tests::fabric(&TOPOLOGY.replace("receive_mode: xdp", "receive_mode: tc")).unwrap();
    let hv1 = fabric.node("hv1").unwrap().netns();
    let (router, _) = fabric.underlay().far_end("hv1", "eth1").unwrap();
    let to_node = || router.run("ping -c 1 -W 1 192.0.2.11");
    reaches(&fabric, "a1", "a2").unwrap();
    to_node().unwrap();
    let foreign = ForeignProgram::attach(hv1, "eth1", Place::Last, Effect::Drop).unwrap();
    to_node().expect_err("the program behind ours was passed over");
    drop(foreign);
    to_node().unwrap();
    reaches(&fabric, "a1", "a2").unwrap();
}

#[test]
fn a_renamed_device_is_given_up_and_served_again_within_a_second() {
    let fabric = vpc_netns_tests::fabric(TOPOLOGY).unwrap();
    let hv1 = fabric.node("hv1").unwrap();
    let mode = || -> anyhow::Result<String> {
        let status = vpcctl_json(hv1, "status")?;
        let rows = status["attachments"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["name"] == "a1");
        row.and_then(|row| Some(row["mode"].as_str()?.to_owned())).ok_or_else(|| anyhow::anyhow!("no row"))
    };
    let rename = |from: &str, to: &str| {
        hv1.netns().ip(&format!("link set {from} down")).unwrap();
        hv1.netns().ip(&format!("link set {from} name {to}")).unwrap();
        hv1.netns().ip(&format!("link set {to} up")).unwrap();
    };
    for _ in 0..2 {
        rename("tap-a1", "somebody");
        let (_, took) = eventually(Duration::from_secs(1), || {
            ensure!(mode()? == "absent", "still attached");
            Ok(())
        })
        .unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        // No longer a port's: what it sends goes nowhere.
        does_not_reach(&fabric, "a1", "a2").unwrap();
        rename("somebody", "tap-a1");
        let took = soon_reaches(&fabric, "a1", "a2").unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(mode().unwrap(), "tcx");
    }
}
