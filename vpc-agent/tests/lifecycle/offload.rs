//! The offload device: made, kept as it must be, and left to others where they have its name.

use super::{attachment, map};
use crate::sandbox::{Sandbox, run};
use std::{fs, process::Command};
use vpc_common::{maps, node::Node};

/// The features of the near end that `ethtool` shows as on.
fn features(device: &str) -> Vec<String> {
    let output = Command::new("ethtool").args(["-k", device]).output().expect("ethtool");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let on = text.lines().filter_map(|line| line.trim().split_once(": ").filter(|(_, state)| state.starts_with("on")));
    on.map(|(name, _)| name.to_owned()).collect()
}

/// Whether the kernel has to finish TCP and UDP before the device.
fn leaves_nothing_undone() -> bool {
    let on = features("vpc-offload0");
    let finished = |name: &&str| !on.iter().any(|feature| feature == name);
    ["tx-checksumming", "tx-tcp-segmentation", "tx-udp-segmentation"].iter().all(finished)
        && !features("vpc-offload1").iter().any(|feature| feature == "generic-receive-offload")
}

fn index(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap_or_default()
}

#[test]
fn it_comes_back_whatever_is_done_to_it() {
    let mut sandbox = Sandbox::new("offload");
    let status = sandbox.start();
    let row = attachment(&status, "vpc-offload1");
    assert_eq!((row.role.as_str(), row.mode.as_str(), row.mtu), ("offload", "tcx", 65_535));
    assert!(leaves_nothing_undone(), "{:?}", features("vpc-offload0"));
    assert_eq!(map::<Node>(&sandbox, maps::NODE, 0).offload, index("vpc-offload0"));
    for device in ["vpc-offload0", "vpc-offload1"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        assert_eq!(fs::read_to_string(setting).expect("a setting").trim(), "1", "the host itself sends nothing there");
    }

    run("ethtool -K vpc-offload0 tx on tso on");
    sandbox.eventually("offloads are off again", |_| leaves_nothing_undone());

    let old = index("vpc-offload0");
    run("ip link del vpc-offload0");
    let status = sandbox.eventually("there is another device", |status| {
        let new = index("vpc-offload0");
        new != 0 && new != old && attachment(status, "vpc-offload1").ifindex == index("vpc-offload1")
    });
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(leaves_nothing_undone());
    assert_eq!(map::<Node>(&sandbox, maps::NODE, 0).offload, index("vpc-offload0"));
}

#[test]
fn without_it_the_rest_goes_on() {
    let mut sandbox = Sandbox::new("foreign-offload");
    run("ip link add vpc-offload0 type veth peer name other");
    let status = sandbox.start();
    assert!(status.problems.iter().any(|problem| problem.starts_with("offload: ")), "{:?}", status.problems);
    assert_eq!(attachment(&status, "vpc-offload1").mode, "failed");
    assert_eq!(attachment(&status, "web-1").mode, "tcx");
    assert_eq!(map::<Node>(&sandbox, maps::NODE, 0).offload, 0);
    run("ip link del other");
    sandbox.eventually("it is made", |status| attachment(status, "vpc-offload1").mode == "tcx");
    assert_eq!(map::<Node>(&sandbox, maps::NODE, 0).offload, index("vpc-offload0"));
}
