//! A kernel for virtual machines: Debian's, unpacked below the target directory and not installed.

use crate::process::{run, target};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use vpc_lab::vm::MODULES;

/// The package that depends on the newest kernel of its kind.
pub const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel's path.
pub fn kernel() -> PathBuf {
    directory().join("vmlinuz")
}

/// Where kernel and modules are.
pub fn directory() -> PathBuf {
    target().join("vm")
}

/// Whether it was got.
pub fn is_there() -> bool {
    kernel().is_file()
}

/// Downloads and unpacks it.
pub fn get() -> Result<()> {
    let directory = directory();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let depends = Command::new("apt-cache").args(["depends", META_PACKAGE]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&depends.stdout);
    let package = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("apt knows no {META_PACKAGE}"))?;
    run(Command::new("apt-get").args(["download", "-q", package]).current_dir(&directory))?;
    let file = find(&directory, &|name| name.starts_with(package) && name.ends_with(".deb"))?;
    let unpacked = directory.join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
    for module in MODULES {
        if let Ok(found) = find(&unpacked, &|name| name == format!("{module}.ko")) {
            fs::copy(found, directory.join(format!("{module}.ko")))?;
        }
    }
    fs::copy(find(&unpacked, &|name| name.starts_with("vmlinuz-"))?, kernel())?;
    fs::remove_dir_all(unpacked)?;
    fs::remove_file(file)?;
    Ok(())
}

/// The first file below a directory whose name is wanted.
pub fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<PathBuf> {
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))?.flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            } else if wanted(&entry.file_name().to_string_lossy()) {
                return Ok(path);
            }
        }
    }
    bail!("what is looked for is not in {}", directory.display())
}
