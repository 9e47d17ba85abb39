//! Getting what is missing.

use super::{
    kernel,
    needs::{BPF_LINKER, LLVM, Need, Source},
};
use crate::process::{cargo, cargo_home, describe, run};
use anyhow::{Context, Result};
use std::process::Command;

/// Gets all of these: packages first, since the rest is built with them.
pub fn all(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing
        .iter()
        .filter_map(|need| match need.source {
            Source::Apt(package) => Some(package),
            _ => None,
        })
        .collect();
    if !packages.is_empty() {
        apt(&packages)?;
    }
    for need in missing {
        match need.source {
            Source::Apt(_) | Source::Machine(_) => {}
            Source::BpfLinker => bpf_linker()?,
            Source::Kernel => kernel::get()?,
            Source::Rustup(component) => {
                loudly(Command::new("rustup").args(["component", "add", component]))?;
            }
        }
    }
    Ok(())
}

/// Installs packages. The package lists may be absent (containers are shipped without) or stale: they are fetched when
/// the first attempt fails.
fn apt(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    if loudly(&mut install()).is_ok() {
        return Ok(());
    }
    loudly(Command::new("apt-get").args(["update", "-q"]))?;
    loudly(&mut install()).context("the packages cannot be installed")
}

/// Builds bpf-linker into cargo's own directory of programs, which is where the build of the kernel programs looks.
fn bpf_linker() -> Result<()> {
    let mut command = cargo(BPF_LINKER);
    if let Some(home) = cargo_home() {
        command.arg("--root").arg(home);
    }
    // Outside of the repository, whose configuration is not meant for this build.
    command.current_dir("/").env("LLVM_PREFIX", LLVM).env("LLVM_SYS_221_PREFIX", LLVM);
    loudly(&mut command)
}

fn loudly(command: &mut Command) -> Result<()> {
    println!("+ {}", describe(command));
    run(command)
}
