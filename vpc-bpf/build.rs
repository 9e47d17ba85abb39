//! Compiles `vpc-dataplane-ebpf` into an object that the library embeds.
//!
//! The kernel programs need a compiler with a `core` for `bpfel-unknown-none`. Debian's `rustc-web` ships one; a
//! rustup nightly builds one from `rust-src`. Neither may see the environment of this build: its flags and wrappers
//! are meant for the host.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const OBJECT: &str = "vpc-dataplane.o";

/// Which compiler builds the kernel programs.
enum Toolchain {
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`.
    Debian,
    /// rustup's nightly with `rust-src`.
    Nightly,
}

fn main() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent().ok_or("the package has no parent directory")?;
    let programs = workspace.join("vpc-dataplane-ebpf");
    for path in ["vpc-dataplane-ebpf/src", "vpc-dataplane-ebpf/Cargo.toml", "vpc-dataplane-ebpf/Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    for part in ["vpc-common", "vpc-datapath"] {
        println!("cargo:rerun-if-changed={}", workspace.join(part).join("src").display());
        println!("cargo:rerun-if-changed={}", workspace.join(part).join("Cargo.toml").display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-env-changed=CARGO_HOME");

    let linker = find_linker().ok_or_else(|| missing("bpf-linker is not in $CARGO_HOME/bin, ~/.cargo/bin or PATH"))?;
    let toolchain = find_toolchain().ok_or_else(|| {
        missing(&format!(
            "no compiler for {TARGET}: neither Debian's rustc-web with libstd-rust-web-dev-bpf ({DEBIAN_RUSTC}) nor a \
             rustup nightly with rust-src"
        ))
    })?;
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("ebpf");
    let mut command = cargo(&toolchain, &linker);
    command.current_dir(&programs).args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    if programs.join("Cargo.lock").exists() {
        command.arg("--locked");
    }
    if matches!(toolchain, Toolchain::Nightly) {
        command.arg("-Zbuild-std=core");
    }
    let status = command.status().map_err(|error| format!("run {command:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{command:?} failed with {status}").into());
    }
    let built = target_dir.join(TARGET).join("release/vpc");
    let object = PathBuf::from(env::var("OUT_DIR")?).join(OBJECT);
    fs::copy(&built, &object).map_err(|error| format!("copy {} to {}: {error}", built.display(), object.display()))?;
    Ok(())
}

/// The error for something that is not installed.
fn missing(what: &str) -> String {
    format!("{what}. `cargo xtask setup` installs what is missing, `cargo xtask setup --check` lists it.")
}

fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let candidates = cargo_home.into_iter().chain(home).map(|dir| dir.join("bin")).chain(path);
    candidates.map(|dir| dir.join("bpf-linker")).find(|file| file.is_file())
}

fn find_toolchain() -> Option<Toolchain> {
    let sysroot = |rustc: &mut Command| {
        let output =
            clean(rustc).args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|path| PathBuf::from(path.trim()))
    };
    if sysroot(&mut Command::new(DEBIAN_RUSTC)).is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir()) {
        return Some(Toolchain::Debian);
    }
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]))?;
    nightly.join("lib/rustlib/src/rust/library/core").is_dir().then_some(Toolchain::Nightly)
}

fn cargo(toolchain: &Toolchain, linker: &Path) -> Command {
    let mut command = match toolchain {
        Toolchain::Debian => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        Toolchain::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
    };
    clean(&mut command);
    if matches!(toolchain, Toolchain::Debian) {
        command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    }
    // v3 has the atomics that return a value. Packet headers have alignment 1: without the last feature each of their
    // words would be loaded byte by byte.
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // In order, LLVM would call a memcpy() that copies byte by byte for whatever is not aligned.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
    ];
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command
}

/// Removes what the outer cargo set for this build script and what the user set for the host's programs.
fn clean(command: &mut Command) -> &mut Command {
    const KEEP: [&str; 4] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_"];
    const DROP: [&str; 12] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTUP_TOOLCHAIN",
        "LD_LIBRARY_PATH",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "MAKEFLAGS",
    ];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let inherited = name.starts_with("CARGO") && !KEEP.iter().any(|prefix| name.starts_with(prefix));
        if inherited || name.starts_with("RUSTC") || DROP.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    command
}
