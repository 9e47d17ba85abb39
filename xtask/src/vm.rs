//! `cargo xtask vm`: other kernels, each in a virtual machine, with two nodes and their agents inside.

mod kernels;

use crate::{
    build::{Profile, programs},
    process::{cargo, run, target},
    setup::{self, Stage},
};
use anyhow::{Context, Result, bail};
use kernels::{KERNELS, Kernel};
use std::{fs, path::Path, time::Duration};
use vpc_vm_tests::{image::Image, machine::Machine};

/// How long a machine may be on. It takes about half a minute on two cores that have nothing else to do.
const LIMIT: Duration = Duration::from_secs(300);

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
    let programs = ["vpc-agent", "vpcctl", "vpc-vm-scenario"].map(|name| built.join(name));
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

fn choose(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let known = || KERNELS.iter().map(|kernel| kernel.series).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let kernel = KERNELS.iter().find(|kernel| kernel.series == name);
        kernel.with_context(|| format!("kernel {name} is none of {}", known()))
    };
    if names.is_empty() { Ok(KERNELS.iter().collect()) } else { names.iter().map(find).collect() }
}

fn on(kernel: &Kernel, programs: &[std::path::PathBuf]) -> Result<()> {
    let files = kernel.ensure()?;
    // Where the kernel has TCX, filters are tried as well.
    let commands: Vec<String> =
        kernel.runs.iter().map(|arguments| format!("vpc-vm-scenario {arguments}").trim().to_owned()).collect();
    let image = Image {
        busybox: Path::new("/bin/busybox"),
        modules: &files.directory,
        programs,
        directories: &[],
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
