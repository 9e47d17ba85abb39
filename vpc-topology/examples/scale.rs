//! How long a large topology takes: `cargo run --release -p vpc-topology --example scale -- --ports 100000`.

use std::{fmt::Write as _, process::ExitCode, time::Instant};
use vpc_topology::{Limits, Loader, Slots, Topology, compile, compile::Desired, diff::Plan, load};

/// Size of the topology that is made.
#[derive(Clone, Copy)]
struct Size {
    ports: usize,
    nodes: usize,
    vpcs: usize,
}

fn main() -> ExitCode {
    let mut size = Size { ports: 100_000, nodes: 1_000, vpcs: 500 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--ports", Some(value)) => size.ports = value,
            ("--nodes", Some(value @ 2..=4_095)) => size.nodes = value,
            ("--vpcs", Some(value @ 1..=4_096)) => size.vpcs = value,
            _ => {
                eprintln!("usage: scale [--ports N] [--nodes 2..4095] [--vpcs 1..4096]");
                return ExitCode::from(2);
            }
        }
    }
    match run(size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(size: Size) -> Result<(), String> {
    let before = topology(size, None);
    // Another port of the subnet of port 0, which is on hv1: hv1 sees the change.
    let after = topology(size, Some(size.vpcs * 4));
    println!("{} ports, {} nodes, {} VPCs: {:.1} MB", size.ports, size.nodes, size.vpcs, before.len() as f64 / 1e6);

    let limits = Limits::default();
    let mut loader = Loader::new();
    timed("parse and validate", || loader.load(&before, "scale.yaml", &limits).map(|_| ()).map_err(|e| e.to_string()))?;
    let compiled = |topology: &Topology, slots: &Slots| {
        compile(topology, "hv1", slots, &Limits::default()).map_err(|error| error.to_string())
    };
    let first = load(&before, "scale.yaml").map_err(|e| e.to_string())?;
    let old = timed("compile one node", || compiled(&first, &Slots::new()))?;
    println!("  {} local ports, {} endpoints, {} routes", old.ports.len(), old.endpoints.len(), old.routes.len());
    drop(first);
    println!("one port moved:");
    let second =
        timed("parse and validate the edit", || loader.load(&after, "scale.yaml", &limits).map_err(|e| e.to_string()))?;
    let new = timed("compile one node", || compiled(second, &slots(&old)))?;
    let plan = timed("diff", || Ok(Plan::between(&old, &new)))?;
    println!("  {} changes, {} epochs", plan.len(), plan.epochs.len());
    let lines = timed("describe", || Ok(plan.describe(&old, &new)))?;
    lines.iter().take(5).for_each(|line| println!("  {line}"));
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    let result = work()?;
    println!("{what:28} {:8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(result)
}

fn slots(state: &Desired) -> Slots {
    state.ports.iter().map(|(slot, port)| (port.record.uid, *slot)).collect()
}

/// A topology of four subnets per VPC, ports spread over all nodes. The port `moved` is on the next node.
fn topology(size: Size, moved: Option<usize>) -> String {
    let mut text = String::from("version: 1\nnodes:\n");
    for node in 1..=size.nodes {
        let (high, low) = (node >> 8, node & 255);
        line(&mut text, format_args!("  - {{name: hv{node}, id: {node}, vtep: 192.0.{high}.{low}, uplink: eth1}}"));
    }
    line(&mut text, format_args!("vpcs:"));
    for vpc in 0..size.vpcs {
        line(&mut text, format_args!("  - {{name: vpc-{vpc}, vni: {}, cidr_blocks: [10.0.0.0/8]}}", 5_000 + vpc));
    }
    line(&mut text, format_args!("subnets:"));
    for subnet in 0..size.vpcs * 4 {
        let (vpc, block) = (subnet / 4, subnet % 4);
        line(
            &mut text,
            format_args!("  - {{name: subnet-{subnet}, vpc: vpc-{vpc}, cidr_blocks: [10.{}.0.0/14]}}", block * 4),
        );
    }
    line(&mut text, format_args!("ports:"));
    for port in 0..size.ports {
        let subnet = port % (size.vpcs * 4);
        let host = port / (size.vpcs * 4) + 2;
        let (high, middle, low) = ((subnet % 4) * 4 + (host >> 16), host >> 8 & 255, host & 255);
        // Multiplication scatters the ports of a subnet, so that a node takes part in many VPCs.
        let scattered = port.wrapping_mul(2_654_435_761) >> 16;
        let node = (scattered + usize::from(moved == Some(port))) % size.nodes + 1;
        let mac = port + 1;
        line(
            &mut text,
            format_args!(
                "  - {{name: port-{port}, subnet: subnet-{subnet}, node: hv{node}, device: tap-{port}, \
                 mac: \"02:01:{:02x}:{:02x}:{:02x}:{:02x}\", private_ips: [10.{high}.{middle}.{low}]}}",
                mac >> 24 & 255,
                mac >> 16 & 255,
                mac >> 8 & 255,
                mac & 255,
            ),
        );
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
