//! A real virtual machine as a guest: QEMU without hardware acceleration, a distribution's kernel, busybox, a tap device.

use crate::{
    background::Background,
    blueprint::{PortPlan, SubnetPlan},
    cpio::Archive,
    node::Node,
    wait::eventually,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Modules that the machine loads, in this order: those which a kernel has built in are left out.
pub const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// What the machine runs: network up, a file to download, pings to whom it is told to.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /www
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in @MODULES@; do
    if [ -e /$module.ko ]; then insmod /$module.ko; fi
done
for word in $(cat /proc/cmdline); do
    case $word in lab_*) eval \"$word\" ;; esac
done
ip link set lo up
ip link set eth0 mtu $lab_mtu up
ip addr add $lab_address dev eth0
ip route add default via $lab_gateway
dd if=/dev/zero of=/www/file bs=1M count=8 2>/dev/null
httpd -h /www
echo LAB READY
for target in $(echo $lab_targets | tr , ' '); do
    echo LAB PING $target $(ping -c 5 -W 2 $target | grep received)
done
echo LAB DONE
exec sleep 1000000
";

/// Bytes of the file that the machine serves as `/file` by HTTP.
pub const FILE_BYTES: usize = 8 << 20;
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// What a machine is made of.
pub struct Image<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// Directory with the modules of [`MODULES`], by name.
    pub modules: &'a Path,
    /// A static busybox.
    pub busybox: &'a Path,
}

/// A running machine. Dropping it switches it off.
pub struct Vm {
    process: Background,
    plan: PortPlan,
}

impl Vm {
    /// Makes the port's tap device on the node and boots a machine behind it, which pings the targets when it is up.
    ///
    /// # Errors
    /// QEMU does not start, or the port has no IPv4 address.
    pub fn boot(
        node: &Node,
        plan: &PortPlan,
        subnet: &SubnetPlan,
        mtu: u32,
        image: &Image<'_>,
        targets: &[IpAddr],
    ) -> Result<Self> {
        let address = *plan.private_ips.iter().find(|address| address.is_ipv4()).context("no IPv4 address")?;
        let (block, gateway) = subnet.block_of(address).context("the address is not in the subnet")?;
        let initramfs = initramfs(node.directory(), &plan.name, image)?;
        node.netns().ip(&format!("tuntap add dev {} mode tap vnet_hdr", plan.device))?;
        node.netns().ip(&format!("link set {} mtu {mtu} up", plan.device))?;
        let targets = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let arguments = format!(
            "console=ttyS0 quiet panic=-1 lab_address={address}/{} lab_gateway={gateway} lab_mtu={mtu} \
             lab_targets={targets}",
            block.prefix_len()
        );
        let mut command = node.command("qemu-system-x86_64");
        command.args(["-M", "q35", "-accel", "tcg,thread=multi", "-m", "256"]);
        // Without this bit kernels of some versions crash under emulation.
        command.args(["-cpu", "qemu64,-cx16"]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(image.kernel).arg("-initrd").arg(&initramfs).args(["-append", &arguments]);
        command.arg("-netdev").arg(format!("tap,id=net,ifname={},script=no,downscript=no", plan.device));
        command.arg("-device").arg(format!("virtio-net-pci,netdev=net,mac={},romfile=", plan.mac));
        let log = node.directory().join(format!("{}.console", plan.name));
        Ok(Self { process: Background::start_releasable(command, log)?, plan: plan.clone() })
    }

    /// Waits until the machine is up. Returns how long that took.
    ///
    /// # Errors
    /// It does not come up within a minute.
    pub fn wait_ready(&mut self) -> Result<Duration> {
        self.wait_for("LAB READY")
    }

    /// Waits until the machine has pinged its targets. Returns what it says of each.
    ///
    /// # Errors
    /// It has not within a minute.
    pub fn wait_pings(&mut self) -> Result<Vec<String>> {
        self.wait_for("LAB DONE")?;
        let console = self.process.output();
        Ok(console.lines().filter_map(|line| line.trim().strip_prefix("LAB PING ")).map(str::to_owned).collect())
    }

    fn wait_for(&mut self, word: &str) -> Result<Duration> {
        let process = &mut self.process;
        let waited = eventually(BOOT_LIMIT, || {
            let console = process.output();
            if console.lines().any(|line| line.trim() == word) {
                return Ok(());
            }
            bail!("no {word:?} on the console:\n{console}")
        })?;
        Ok(waited.1)
    }

    /// The port.
    pub fn plan(&self) -> &PortPlan {
        &self.plan
    }

    /// Lets it run on when the value is dropped.
    pub fn release(&mut self) {
        self.process.release();
    }
}

fn initramfs(directory: &Path, name: &str, image: &Image<'_>) -> Result<PathBuf> {
    let mut archive = Archive::default();
    archive.directory("bin");
    let busybox = fs::read(image.busybox).with_context(|| format!("cannot read {}", image.busybox.display()))?;
    archive.file("bin/busybox", &busybox);
    archive.file("init", INIT.replace("@MODULES@", &MODULES.join(" ")).as_bytes());
    for module in MODULES {
        if let Ok(content) = fs::read(image.modules.join(format!("{module}.ko"))) {
            archive.file(&format!("{module}.ko"), &content);
        }
    }
    let path = directory.join(format!("{name}.initramfs"));
    fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
