//! A network namespace for the calling thread, with a veth for each interface of a case file.

use crate::{
    fabric::{Devices, Fabric},
    kernel::host_prefix,
    packet::Names,
    state::OFFLOAD as OFFLOAD_INDEX,
};
use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

/// The tunnel device.
pub const TUNNEL: &str = "vpc-tunnel";
/// The offload device.
const OFFLOAD: &str = "vpc-offload0";
/// Its far end.
pub const OFFLOAD_END: &str = "vpc-offload1";
/// Room for every packet that a case sends, or has sent to it.
const MTU: u32 = 9_500;

/// Runs a closure in a thread with a network namespace of its own, which ends with the thread.
///
/// # Errors
/// No namespace can be made (that needs root), or the closure's.
pub fn inside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace: are you root?")?;
            work()
        });
        thread.join().map_err(|panic| match panic.downcast_ref::<String>() {
            Some(text) => anyhow!("{text}"),
            None => anyhow!("the thread in the namespace panicked"),
        })?
    })
}

/// The other end of an interface's veth.
pub(super) fn peer_of(index: u32) -> String {
    format!("peer{index}")
}

/// Makes the interfaces of a fabric: each a veth whose other end, in the same namespace, is watched. IPv6 is on at
/// uplinks only, since its chatter would be taken for copies.
pub(super) fn make(fabric: &Fabric) -> Result<Devices> {
    let devices = Devices(fabric.device_names().into_iter().zip(101..).collect());
    let (own, _) = (fabric.desired.node.vtep, ());
    let own: std::net::IpAddr = own.into();
    sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    sysctl("net/ipv4/conf/default/rp_filter", "0")?;
    let mut batch = String::from("link set lo up\n");
    for (name, index) in &devices.0 {
        let mac = fabric.mac(name).map(|mac| format!(" address {mac}")).unwrap_or_default();
        let peer = peer_of(*index);
        let _ = writeln!(batch, "link add {name} index {index} mtu {MTU}{mac} type veth peer name {peer} mtu {MTU}");
        let _ = writeln!(batch, "link set {peer} up\nlink set {name} up");
    }
    let local = if own.is_ipv4() { "0.0.0.0" } else { "::" };
    let _ = writeln!(batch, "link add {TUNNEL} type vxlan external dstport 4789 local {local} udp6zerocsumrx");
    let _ = writeln!(batch, "link set {TUNNEL} mtu {MTU} up");
    // An offload device as agents make it.
    let _ = writeln!(
        batch,
        "link add {OFFLOAD} index {OFFLOAD_INDEX} mtu 65535 type veth peer name {OFFLOAD_END} mtu 65535"
    );
    let _ = writeln!(batch, "link set {OFFLOAD_END} arp off up\nlink set {OFFLOAD} arp off up");
    ip_batch(&batch)?;
    for uplink in fabric.uplinks() {
        if own.is_ipv6() {
            sysctl(&format!("net/ipv6/conf/{uplink}/disable_ipv6"), "0")?;
            sysctl(&format!("net/ipv6/conf/{uplink}/accept_dad"), "0")?;
        }
    }
    if own.is_ipv6() {
        sysctl("net/ipv6/conf/lo/disable_ipv6", "0")?;
    }
    for uplink in fabric.uplinks().iter().map(String::as_str).chain([OFFLOAD]) {
        // What leaves is finished before it can be seen: checksums filled in, segments cut.
        let status = Command::new("ethtool").args(["-K", uplink, "tx", "off"]).output().context("run ethtool")?;
        ensure!(status.status.success(), "ethtool: {}", String::from_utf8_lossy(&status.stderr));
    }
    let first = fabric.uplinks().first().context("the node has no uplink")?;
    let nodad = if own.is_ipv6() { " nodad" } else { "" };
    ip_batch(&format!("addr add {} dev {first}{nodad}\n", host_prefix(own)))?;
    Ok(devices)
}

fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    // /proc/sys shows the settings of the namespace of the thread that opens it.
    std::fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}

fn ip_batch(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip")?;
    child.stdin.take().context("its standard input")?.write_all(lines.as_bytes()).context("talk to ip")?;
    let output = child.wait_with_output().context("wait for ip")?;
    ensure!(output.status.success(), "ip: {}\n{lines}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
