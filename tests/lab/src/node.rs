//! Hypervisors: a network namespace, and a mount namespace with its own /sys, BPF file system and /run.

use crate::{command::output, instance::Lab, netns::Netns};
use anyhow::Result;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What a node's mount namespace has of its own. /sys shows the node's interfaces; the BPF file system is empty, so
/// pins of one node are not another's; /run holds the agent's socket and lock.
const MOUNTS: &str = "set -e
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 run /run";

/// A node. Dropping it removes both namespaces; the pins of its BPF file system go with them.
pub struct Node {
    name: String,
    netns: Netns,
    mounts: PathBuf,
    directory: PathBuf,
}

impl Node {
    /// A node without any link.
    ///
    /// # Errors
    /// The kernel refuses a namespace or mount.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let netns = Netns::new(lab, name)?;
        let mounts = lab.directory().join(format!("{name}.mnt"));
        std::fs::write(&mounts, [])?;
        let mut command = netns.command("unshare");
        command.arg(format!("--mount={}", mounts.display()));
        output(command.args(["--propagation", "private", "sh", "-c", MOUNTS]))?;
        Ok(Self { name: name.to_owned(), netns, mounts, directory: lab.directory().to_owned() })
    }

    /// Its name in the topology.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, to keep it.
    pub fn netns_mut(&mut self) -> &mut Netns {
        &mut self.netns
    }

    /// Where the node's files (logs, sockets of the lab) lie, outside of what it has for itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that will run on the node, in both namespaces.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.enter_arguments()).arg("--").arg(program);
        command
    }

    /// Arguments for `nsenter` that enter the node.
    pub fn enter_arguments(&self) -> [String; 2] {
        [format!("--mount={}", self.mounts.display()), format!("--net={}", self.netns.path().display())]
    }

    /// Runs a command line on the node, split at spaces, and returns what it prints.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        output(self.command(words.next().unwrap_or("true")).args(words))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.netns.is_kept() {
            let _not_mounted = nix::mount::umount2(&self.mounts, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
