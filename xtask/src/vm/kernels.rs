//! Debian's cloud kernels, downloaded into the target directory and not installed.

use crate::{
    process::{run, target},
    setup::kernel::{META_PACKAGE, find},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use vpc_vm_tests::image::MODULES;

/// A kernel to test on.
pub struct Kernel {
    /// Its series.
    pub series: &'static str,
    /// The suite of Debian that has it.
    pub suite: &'static str,
    /// Arguments of the scenario's runs.
    pub runs: &'static [&'static str],
}

/// All of them, the oldest first: that one is the oldest that is supported.
pub const KERNELS: &[Kernel] = &[
    Kernel { series: "6.1", suite: "bookworm", runs: &[""] },
    Kernel { series: "6.12", suite: "bookworm-backports", runs: &["", "clsact"] },
];

/// A kernel that is there.
pub struct Files {
    /// The kernel.
    pub kernel: PathBuf,
    /// Directory with its modules.
    pub directory: PathBuf,
}

impl Kernel {
    /// Gets it if it is not there.
    pub fn ensure(&self) -> Result<Files> {
        let directory = target().join("vm").join(self.series);
        let kernel = directory.join("vmlinuz");
        if !kernel.is_file() {
            self.get(&directory).with_context(|| {
                format!("cannot get Linux {} of Debian {}; it takes a network", self.series, self.suite)
            })?;
        }
        Ok(Files { kernel, directory })
    }

    fn get(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let apt = PrivateApt::new(&directory.join("apt"), self.suite)?;
        run(apt.command("apt-get").args(["update", "-q", "--error-on=any"]))?;
        let depends =
            apt.command("apt-cache").args(["depends", META_PACKAGE]).output().context("cannot run apt-cache")?;
        let text = String::from_utf8_lossy(&depends.stdout);
        let package = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .with_context(|| format!("Debian {} has no {META_PACKAGE}", self.suite))?;
        ensure!(package.contains(&format!("-{}.", self.series)), "Debian {} has {package}", self.suite);
        run(apt.command("apt-get").args(["download", "-q", package]).current_dir(directory))?;
        let file = find(directory, &|name| name.starts_with(package) && name.ends_with(".deb"))?;
        let unpacked = directory.join("unpacked");
        run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
        for module in MODULES {
            copy_module(&unpacked, directory, module)?;
        }
        // Last, since it tells that all is there.
        fs::copy(find(&unpacked, &|name| name.starts_with("vmlinuz-"))?, directory.join("vmlinuz"))?;
        fs::remove_dir_all(unpacked)?;
        fs::remove_dir_all(directory.join("apt"))?;
        Ok(fs::remove_file(file)?)
    }
}

/// Copies a module if the kernel has it as one, unpacked if it is packed.
fn copy_module(from: &Path, to: &Path, module: &str) -> Result<()> {
    let name = format!("{module}.ko");
    let Ok(found) = find(from, &|file| file == name || file == format!("{name}.xz")) else { return Ok(()) };
    if found.extension().is_some_and(|extension| extension == "xz") {
        let unpacked = Command::new("/bin/busybox").arg("xzcat").arg(&found).output().context("cannot run busybox")?;
        ensure!(unpacked.status.success(), "cannot unpack {}", found.display());
        fs::write(to.join(name), unpacked.stdout)?;
    } else {
        fs::copy(found, to.join(name))?;
    }
    Ok(())
}

/// apt with a source list and a state of its own: what the machine installs from stays as it is.
struct PrivateApt {
    directory: PathBuf,
}

impl PrivateApt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(directory.join("sources.list"), format!("deb [signed-by={keys}] {} {suite} main\n", mirror()?))?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, part: &str| format!("{name}={}", self.directory.join(part).display());
        for option in [
            option("Dir::Etc::sourcelist", "sources.list"),
            option("Dir::State", "state"),
            option("Dir::Cache", "cache"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            // The directory is not the unprivileged user's.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let arguments = ["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(SITE)", "Created-By: Packages"];
    let output = Command::new("apt-get").args(arguments).output().context("cannot run apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        // The archive of security fixes is another one, and so is its codename.
        if let [origin, codename, site] = line.split(' ').collect::<Vec<_>>()[..]
            && origin == "Debian"
            && !codename.contains("-security")
        {
            return Ok(site.to_owned());
        }
    }
    bail!("apt knows no Debian mirror: `apt-get update` with one in its source list first")
}
