//! The demo's virtual machine.

use super::table::Table;
use crate::setup::kernel;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};
use vpc_lab::{
    Blueprint, Fabric,
    ping::PingOptions,
    vm::{FILE_BYTES, Image, Vm},
    wait::eventually,
};

const PORT: &str = "  - {name: vm-1, subnet: red-web, node: hv2, device: tap-vm1, mac: \"02:00:00:01:01:20\", \
                    private_ips: [10.0.1.20]}\n";
const MTU: u32 = 1_450;
const PATIENCE: Duration = Duration::from_secs(5);

/// Adds a port with a virtual machine behind it, and shows that it talks.
pub fn line(fabric: &Fabric, topology: &str, table: &mut Table) -> Option<Vm> {
    println!(" a virtual machine");
    let mut machine = None;
    table.line("a machine boots behind a tap device, pings a guest", || {
        let (vm, figure) = boot(fabric, topology)?;
        machine = Some(vm);
        Ok(figure)
    });
    let to = machine.as_ref().map(|vm| vm.plan().private_ips[0])?;
    table.line("ping web-1 → vm-1", || ping(fabric, to));
    table.line("download web-1 ← vm-1", || download(fabric, to));
    machine
}

fn boot(fabric: &Fabric, topology: &str) -> Result<(Vm, String)> {
    let text = topology.to_owned() + PORT;
    let blueprint = Blueprint::parse(&text)?;
    let plan = blueprint.port("vm-1").context("the port is not in the file")?;
    let target = fabric.guest("db-1")?.ipv4()?;
    fabric.write_topology(&text)?;
    let image = Image { kernel: &kernel::kernel(), modules: &kernel::directory(), busybox: Path::new("/bin/busybox") };
    let node = fabric.node(&plan.node)?;
    let mut vm = Vm::boot(node, plan, blueprint.subnet(&plan.subnet)?, MTU, &image, &[target])?;
    let took = vm.wait_ready()?;
    let pings = vm.wait_pings()?.join("; ");
    ensure!(pings.contains(" 5 packets received"), "{pings}");
    Ok((vm, format!("up in {:.0} s, {pings}", took.as_secs_f64())))
}

fn ping(fabric: &Fabric, to: IpAddr) -> Result<String> {
    let pings = fabric.guest("web-1")?.ping(to, PingOptions { count: 10, ..PingOptions::default() })?;
    ensure!(pings.lost() == 0, "{} of {} lost", pings.lost(), pings.sent);
    let mean = pings.round_trip_ms.map_or(0.0, |times| times.mean);
    Ok(format!("{} of {}, {mean:.3} ms", pings.received, pings.sent))
}

fn download(fabric: &Fabric, to: IpAddr) -> Result<String> {
    fabric.guest("web-1")?.netns().enter(|| {
        let start = Instant::now();
        let (mut stream, _) = eventually(PATIENCE, || TcpStream::connect((to, 80)).context("no connection"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /file HTTP/1.0\r\n\r\n")?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        ensure!(received.len() > FILE_BYTES, "only {} bytes came", received.len());
        let rate = received.len() as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e6;
        Ok(format!("{} MiB at {rate:.0} Mbit/s", FILE_BYTES >> 20))
    })?
}
