//! The one table of everything that building, the demo and the tests need.

use super::kernel;
use crate::process::{cargo_home, find_program, is_root};
use std::{fs, path::Path, process::Command};

/// For what the machine is prepared. Each stage includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Stage {
    /// Building everything
    Build,
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask bench`
    Bench,
    /// `cargo xtask test`
    Test,
    /// `cargo xtask demo --vm`
    Vm,
}

impl Stage {
    /// The verb's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Demo => "demo",
            Self::Bench => "bench",
            Self::Test => "test",
            Self::Vm => "vm",
        }
    }
    /// In words.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Build => "building",
            Self::Demo => "building and the demo",
            Self::Bench => "building, the demo and benchmarks",
            Self::Test => "building, the demo, benchmarks and the tests",
            Self::Vm => "building, the demo, benchmarks, the tests and virtual machines",
        }
    }
}

/// Where a need comes from.
pub enum Source {
    /// A Debian package.
    Apt(&'static str),
    /// `bpf-linker`, built by cargo against LLVM 22.
    BpfLinker,
    /// A component of the rustup toolchain in use.
    Rustup(&'static str),
    /// A kernel for virtual machines.
    Kernel,
    /// Nothing that could be installed: the machine has it or not.
    Machine(&'static str),
}

impl Source {
    /// How one gets it, in one line.
    pub fn how(&self) -> String {
        match self {
            Self::Apt(package) => format!("apt-get install {package}"),
            Self::BpfLinker => format!("LLVM_PREFIX={LLVM} LLVM_SYS_221_PREFIX={LLVM} cargo {}", BPF_LINKER.join(" ")),
            Self::Rustup(component) => format!("rustup component add {component}"),
            Self::Kernel => format!("apt-get download {} into target/vm", kernel::META_PACKAGE),
            Self::Machine(advice) => (*advice).to_owned(),
        }
    }
}

/// How to tell that a need is there.
enum Probe {
    /// This program is found.
    Program(&'static str),
    /// This file exists.
    File(&'static str),
    /// This says yes.
    Check(fn() -> bool),
}

/// When a need need not be met.
enum Unless {
    /// Always needed.
    Never,
    /// Not needed while this says yes.
    Check(fn() -> bool),
}

/// One thing that is needed.
pub struct Need {
    /// Its name, mostly the package's.
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    /// The first stage that needs it.
    pub stage: Stage,
    /// Where it comes from.
    pub source: Source,
    probe: Probe,
    unless: Unless,
}

impl Need {
    const fn package(name: &'static str, probe: Probe, stage: Stage, why: &'static str) -> Self {
        Self { name, why, stage, source: Source::Apt(name), probe, unless: Unless::Never }
    }
    const fn unless(mut self, check: fn() -> bool) -> Self {
        self.unless = Unless::Check(check);
        self
    }
    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(name) => find_program(name).is_some(),
            Probe::File(path) => Path::new(path).exists(),
            Probe::Check(check) => check(),
        }
    }
    /// Whether that stage needs it on this machine as it is now.
    pub fn is_wanted(&self, stage: Stage) -> bool {
        let obsolete = match self.unless {
            Unless::Never => false,
            Unless::Check(check) => check(),
        };
        self.stage <= stage && !obsolete
    }
}

/// Where Debian's LLVM 22 lives.
pub const LLVM: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";
/// Arguments for cargo that install bpf-linker. This version takes the bitcode of LLVM 22, which is rustc-web's.
pub const BPF_LINKER: &[&str] = &[
    "install",
    "bpf-linker",
    "--version",
    LINKER_VERSION,
    "--locked",
    "--force",
    "--no-default-features",
    "--features",
    "llvm-22",
];

use Probe::{Check, File, Program};
use Stage::{Bench, Build, Demo, Test, Vm};

/// Everything, in the order in which it is got.
pub const NEEDS: &[Need] = &[
    machine("Linux 6.1 or later", Check(kernel_is_recent), "boot a newer kernel", "the kernel programs"),
    machine(
        "BTF of the kernel",
        File("/sys/kernel/btf/vmlinux"),
        "a kernel with CONFIG_DEBUG_INFO_BTF",
        "loading them",
    ),
    machine("root", Check(is_root), "run as root", "network namespaces, BPF"),
    Need::package("gcc", Program("cc"), Build, "linking Rust programs"),
    Need::package("libc6-dev", File("/usr/include/stdio.h"), Build, "linking Rust programs"),
    Need::package("rustc-web", Check(debian_rustc), Build, "compiler of the kernel programs")
        .unless(nightly_with_source),
    Need::package("libstd-rust-web-dev-bpf", File(DEBIAN_CORE), Build, "its core library for bpfel-unknown-none")
        .unless(nightly_with_source),
    Need::package("llvm-22-dev", File("/usr/lib/llvm-22/bin/llvm-config"), Build, "building bpf-linker")
        .unless(linker_is_there),
    Need::package("libpolly-22-dev", File("/usr/lib/llvm-22/lib/libPolly.a"), Build, "building bpf-linker")
        .unless(linker_is_there),
    Need::package("libzstd-dev", File("/usr/include/zstd.h"), Build, "building bpf-linker").unless(linker_is_there),
    Need::package("g++", Program("c++"), Build, "building bpf-linker").unless(linker_is_there),
    Need {
        name: "bpf-linker",
        why: "linking the kernel programs",
        stage: Build,
        source: Source::BpfLinker,
        probe: Check(linker_is_there),
        unless: Unless::Never,
    },
    Need::package("iproute2", Program("ip"), Demo, "network namespaces and links of the lab"),
    Need::package("iputils-ping", Program("ping"), Demo, "a guest's client"),
    Need::package("iperf3", Program("iperf3"), Demo, "a guest's client and server"),
    Need::package("traceroute", Program("traceroute"), Demo, "a guest's client"),
    Need::package("ethtool", Program("ethtool"), Demo, "offloads of the lab's links"),
    Need::package("tcpdump", Program("tcpdump"), Demo, "seeing what a guest hears"),
    Need::package(
        "openvswitch-switch",
        Program("ovs-vswitchd"),
        Bench,
        "Open vSwitch, to compare with and as a peer VTEP",
    ),
    Need::package("nftables", Program("nft"), Bench, "Linux's firewall, to compare with, and instances that filter"),
    component("rustfmt", Program("cargo-fmt"), "cargo fmt --check"),
    component("clippy", Program("cargo-clippy"), "cargo clippy"),
    Need::package("iputils-arping", Program("arping"), Test, "ARP from a guest"),
    Need::package("bpftool", Program("bpftool"), Test, "seeing what is left in the kernel"),
    Need::package("qemu-system-x86", Program("qemu-system-x86_64"), Vm, "a virtual machine as a guest"),
    Need::package("busybox-static", File("/bin/busybox"), Vm, "its user space"),
    Need {
        name: "cloud kernel",
        why: "its kernel",
        stage: Vm,
        source: Source::Kernel,
        probe: Check(kernel::is_there),
        unless: Unless::Never,
    },
];

const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

const fn machine(name: &'static str, probe: Probe, advice: &'static str, why: &'static str) -> Need {
    Need { name, why, stage: Demo, source: Source::Machine(advice), probe, unless: Unless::Never }
}

const fn component(name: &'static str, probe: Probe, why: &'static str) -> Need {
    Need { name, why, stage: Test, source: Source::Rustup(name), probe, unless: Unless::Never }
}

fn kernel_is_recent() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 1)
}

/// Debian's compiler lives beside rustup's; only its fixed path tells the two apart.
fn debian_rustc() -> bool {
    Path::new("/usr/bin/rustc").is_file() && Path::new("/usr/lib/rustlib").is_dir()
}

/// A rustup nightly that can build `core` itself. It serves in place of Debian's packages.
fn nightly_with_source() -> bool {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")));
    let Some(entries) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else { return false };
    entries.flatten().any(|toolchain| {
        toolchain.file_name().to_string_lossy().starts_with("nightly")
            && toolchain.path().join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn linker_is_there() -> bool {
    let installed = cargo_home().map(|home| home.join("bin/bpf-linker")).filter(|path| path.is_file());
    let Some(linker) = installed.or_else(|| find_program("bpf-linker")) else { return false };
    Command::new(linker)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains(LINKER_VERSION))
}
