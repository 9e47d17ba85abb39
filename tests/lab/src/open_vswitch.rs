//! Open vSwitch with its userspace datapath, in a network namespace.

use crate::{background::Background, command::output, netns::Netns, wait::eventually};
use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long a process may take to answer.
const START: Duration = Duration::from_secs(5);

/// A database and a switch of its own, whatever of Open vSwitch the machine runs otherwise. Dropping it ends both.
pub struct OpenVswitch {
    _switch: Background,
    _database: Background,
    directory: PathBuf,
}

impl OpenVswitch {
    /// Starts both in `netns`; their files go to `directory`, which is made. Beside its main thread, which is the datapath
    /// of ports that are sockets, the switch has one thread that takes up what it has no flow for and one that ages flows.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(netns: &Netns, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let at = directory.display();
        output(Command::new("ovsdb-tool").args(["create".to_owned(), format!("{at}/conf.db"), SCHEMA.to_owned()]))?;
        let start = |program: &str, arguments: &[String]| {
            let mut command = netns.command(program);
            command.args(arguments).env("OVS_RUNDIR", directory);
            Background::start(&command, directory.join(format!("{program}.out")))
        };
        let database = start(
            "ovsdb-server",
            &[format!("{at}/conf.db"), format!("--remote=punix:{at}/db.sock"), format!("--unixctl={at}/db.ctl")],
        )?;
        let init = "--no-wait init -- set Open_vSwitch . other_config:n-handler-threads=1 \
                    other_config:n-revalidator-threads=1";
        eventually(START, || vsctl(directory, init))?;
        let switch = start("ovs-vswitchd", &[format!("unix:{at}/db.sock"), format!("--unixctl={at}/switch.ctl")])?;
        eventually(START, || appctl(directory, "version"))?;
        Ok(Self { _switch: switch, _database: database, directory: directory.to_owned() })
    }

    /// Runs `ovs-vsctl`, which waits until the switch has done it.
    ///
    /// # Errors
    /// It fails.
    pub fn vsctl(&self, words: &str) -> Result<String> {
        vsctl(&self.directory, words)
    }

    /// Runs `ovs-appctl` on the switch.
    ///
    /// # Errors
    /// It fails.
    pub fn appctl(&self, words: &str) -> Result<String> {
        appctl(&self.directory, words)
    }

    /// Puts OpenFlow rules, one a line, in the place of those that a bridge has.
    ///
    /// # Errors
    /// The switch refuses one.
    pub fn replace_flows(&self, bridge: &str, flows: &str) -> Result<()> {
        let file = self.directory.join(format!("{bridge}.flows"));
        fs::write(&file, flows)?;
        let mut command = Command::new("ovs-ofctl");
        command
            .args(["--protocols=OpenFlow14", "--bundle", "replace-flows"])
            .arg(bridge)
            .arg(file)
            .env("OVS_RUNDIR", &self.directory);
        output(&mut command).map(drop)
    }
}

fn vsctl(directory: &Path, words: &str) -> Result<String> {
    let database = format!("--db=unix:{}/db.sock", directory.display());
    output(Command::new("ovs-vsctl").args(["--timeout=10", &database]).args(words.split_whitespace()))
}

fn appctl(directory: &Path, words: &str) -> Result<String> {
    let target = directory.join("switch.ctl");
    output(Command::new("ovs-appctl").arg("--target").arg(target).args(words.split_whitespace()))
}
