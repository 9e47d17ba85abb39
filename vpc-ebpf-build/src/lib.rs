//! Compiles a crate of kernel programs into an object that a library embeds. For build scripts.
//!
//! The kernel programs need a compiler with a `core` for `bpfel-unknown-none`. Debian's `rustc-web` ships one; a
//! rustup nightly builds one from `rust-src`. Neither may see the environment of this build: its flags and wrappers
//! are meant for the host.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};
use thiserror::Error;

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What to compile.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    /// The root of the repository.
    pub repository: &'a Path,
    /// Directory of the crate of kernel programs, which is a workspace of its own.
    pub directory: &'a str,
    /// Directories of the crates that it is made of besides.
    pub parts: &'a [&'a str],
    /// Name of its binary.
    pub binary: &'a str,
    /// Name of the object in `OUT_DIR`.
    pub object: &'a str,
}

/// The kernel programs could not be compiled.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Something is not installed.
    #[error("{0}. `cargo xtask setup` installs what is missing, `cargo xtask setup --check` lists it.")]
    Missing(String),
    /// Not run by cargo as a build script.
    #[error("OUT_DIR is not set: this is for build scripts")]
    NoOutputDirectory,
    /// The compiler could not be started.
    #[error("run {command}")]
    Run {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The compiler failed; it has said why.
    #[error("{command} failed with {status}")]
    Compile {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The object could not be put in its place.
    #[error("copy {} to {}", from.display(), to.display())]
    Copy {
        /// Where the compiler put it.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Which compiler builds the kernel programs.
enum Toolchain {
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`.
    Debian,
    /// rustup's nightly with `rust-src`.
    Nightly,
}

/// Compiles the programs and puts the object into `OUT_DIR`; tells cargo what to watch.
///
/// # Errors
/// See [`BuildError`].
pub fn compile(programs: &Programs<'_>) -> Result<(), BuildError> {
    let crate_directory = programs.repository.join(programs.directory);
    for name in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", crate_directory.join(name).display());
    }
    for part in programs.parts {
        println!("cargo:rerun-if-changed={}", programs.repository.join(part).join("src").display());
        println!("cargo:rerun-if-changed={}", programs.repository.join(part).join("Cargo.toml").display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-env-changed=CARGO_HOME");

    let linker = find_linker()
        .ok_or_else(|| BuildError::Missing("bpf-linker is not in $CARGO_HOME/bin, ~/.cargo/bin or PATH".to_owned()))?;
    let toolchain = find_toolchain().ok_or_else(|| {
        BuildError::Missing(format!(
            "no compiler for {TARGET}: neither Debian's rustc-web with libstd-rust-web-dev-bpf ({DEBIAN_RUSTC}) nor a \
             rustup nightly with rust-src"
        ))
    })?;
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or(BuildError::NoOutputDirectory)?);
    let target_dir = output.join("ebpf");
    let mut command = cargo(&toolchain, &linker);
    command.current_dir(&crate_directory).args(["build", "--release", "--target", TARGET, "--target-dir"]);
    command.arg(&target_dir);
    if crate_directory.join("Cargo.lock").exists() {
        command.arg("--locked");
    }
    if matches!(toolchain, Toolchain::Nightly) {
        command.arg("-Zbuild-std=core");
    }
    let status = command.status().map_err(|source| BuildError::Run { command: format!("{command:?}"), source })?;
    if !status.success() {
        return Err(BuildError::Compile { command: format!("{command:?}"), status });
    }
    let from = target_dir.join(TARGET).join("release").join(programs.binary);
    let to = output.join(programs.object);
    match fs::copy(&from, &to) {
        Ok(_) => Ok(()),
        Err(source) => Err(BuildError::Copy { from, to, source }),
    }
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
        // A table that a `match` becomes would be a map of constants, made anew at each load: programs would then seem to be
        // others than those that run.
        "-Cjump-tables=no".to_owned(),
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
