//! `cargo xtask vm`: other kernels, each in a virtual machine, with two nodes and their agents inside.

mod kernels;

use crate::{
    build::{Profile, programs},
    process::{cargo, repository, run, target},
    setup::{self, Stage},
};
use anyhow::{Context, Result, bail, ensure};
use kernels::{KERNELS, Kernel};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use vpc_vm_tests::{MARK, image::Image, machine::Machine};

/// How long a machine may be on. It takes six to nine minutes on two cores that have nothing else to do.
const LIMIT: Duration = Duration::from_secs(1_200);

/// The program that runs the packet cases.
const CASES: &str = "vpc-packet-cases";

/// Arguments of the verb.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask vm         all of them\n  cargo xtask vm 6.1     the oldest that is supported"
)]
pub struct Arguments {
    /// Only these kernels, such as 6.1
    kernels: Vec<String>,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    let chosen = choose(&arguments.kernels)?;
    setup::ensure(Stage::Vm)?;
    let built = programs(Profile::Dev)?;
    run(&mut cargo(["build", "--package", "vpc-vm-tests"]))?;
    let mut programs = ["vpc-agent", "vpcctl", "vpc-vm-scenario"].map(|name| built.join(name)).to_vec();
    programs.push(packet_cases()?);
    let mut failed = Vec::new();
    for kernel in chosen {
        println!("\nLinux {} ({})", kernel.series, kernel.suite);
        if let Err(error) = on(kernel, &programs) {
            println!("{error:#}");
            failed.push(kernel.series);
        }
    }
    if !failed.is_empty() {
        bail!("failed on Linux {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the test that runs the packet cases in the kernel, and gives it a name that does not change.
fn packet_cases() -> Result<PathBuf> {
    let mut command = cargo(["test", "--package", "vpc-cases", "--test", "kernel", "--no-run", "--quiet"]);
    let output =
        command.args(["--message-format", "json"]).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the packet cases cannot be built");
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.split("\"executable\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let path = target().join("vm").join(CASES);
    fs::create_dir_all(target().join("vm"))?;
    fs::copy(built.context("cargo names no test")?, &path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn choose(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let known = || KERNELS.iter().map(|kernel| kernel.series).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let kernel = KERNELS.iter().find(|kernel| kernel.series == name);
        kernel.with_context(|| format!("kernel {name} is none of {}", known()))
    };
    if names.is_empty() { Ok(KERNELS.iter().collect()) } else { names.iter().map(find).collect() }
}

fn on(kernel: &Kernel, programs: &[PathBuf]) -> Result<()> {
    let files = kernel.ensure()?;
    // Where the kernel has TCX, filters are tried as well.
    let scenarios = kernel.runs.iter().map(|arguments| format!("vpc-vm-scenario {arguments}").trim().to_owned());
    let cases = format!("VPC_CASES_STILLNESS_MS=50 {CASES} --nocapture && echo {MARK}packet cases in the kernel");
    let commands: Vec<String> = std::iter::once(cases).chain(scenarios).collect();
    let image = Image {
        busybox: Path::new("/bin/busybox"),
        modules: &files.directory,
        programs,
        directories: &[repository().join("tests/packets"), repository().join("tests/cases")],
        commands: &commands,
    };
    let initramfs = target().join("vm").join(kernel.series).join("initramfs");
    fs::write(&initramfs, image.archive()?).with_context(|| format!("cannot write {}", initramfs.display()))?;
    let console = initramfs.with_file_name("console");
    let machine = Machine { kernel: &files.kernel, initramfs: &initramfs, console };
    let end = machine.run(LIMIT)?;
    end.lines.iter().for_each(|line| println!("  {line}"));
    println!("  on for {:.0} s", end.took.as_secs_f64());
    Ok(())
}
