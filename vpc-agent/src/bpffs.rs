//! The BPF file system, where programs' links and maps outlive the agent.

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// It could not be mounted.
#[derive(Debug, Error)]
#[error("mount a BPF file system at {}", path.display())]
pub struct MountError {
    /// Where.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Everything that the agent pins is under this directory.
pub fn directory(bpffs: &Path) -> PathBuf {
    bpffs.join("vpc")
}

/// Maps, by the version of their layout: those of another version are never reused.
pub fn maps(bpffs: &Path) -> PathBuf {
    directory(bpffs).join(format!("v{}", vpc_common::ABI_VERSION))
}

/// Links. They have no version: an upgrade replaces the programs in them.
pub fn links(bpffs: &Path) -> PathBuf {
    directory(bpffs).join("links")
}

/// Mounts a BPF file system if none is there.
///
/// # Errors
/// Where the kernel refuses it.
pub fn ensure(bpffs: &Path) -> Result<(), MountError> {
    let failed = |source: io::Error| MountError { path: bpffs.to_owned(), source };
    fs::create_dir_all(bpffs).map_err(failed)?;
    let there = statfs(bpffs).map_err(|error| failed(error.into()))?;
    if there.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), bpffs, Some("bpf"), flags, Some("mode=0700")).map_err(|error| failed(error.into()))
}
