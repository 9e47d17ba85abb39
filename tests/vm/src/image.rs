//! The machine's root file system: busybox, some tools and programs with the libraries that they need, kernel modules.

use crate::{FAILED, MARK};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use vpc_lab::cpio::Archive;

/// Modules that the programs need, in the order of their dependencies; those which a kernel has built in are left out.
pub const MODULES: [&str; 6] = ["udp_tunnel", "ip6_udp_tunnel", "veth", "vxlan", "cls_bpf", "sch_ingress"];

/// What the lab runs that busybox does not have, or not as the lab uses it.
const TOOLS: [&str; 7] = ["ip", "tc", "ping", "ethtool", "nsenter", "unshare", "setpriv"];

/// Mounts what programs expect, loads the modules, runs the command, and switches the machine off.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -s /run /var/run
for module in @MODULES@; do
    if [ -e /modules/$module.ko ]; then insmod /modules/$module.ko; fi
done
ip link set lo up
@COMMANDS@
poweroff -f
";

/// Directories that are there although nothing lies in them at first.
const DIRECTORIES: [&str; 9] = ["proc", "sys", "dev", "run", "tmp", "var", "var/lib", "root", "modules"];

/// What a root file system is made of.
pub struct Image<'a> {
    /// A static busybox.
    pub busybox: &'a Path,
    /// Directory with the modules of [`MODULES`], by name.
    pub modules: &'a Path,
    /// Programs, which will lie in /usr/bin.
    pub programs: &'a [PathBuf],
    /// Directories that will be found where they are now, with the files in them.
    pub directories: &'a [PathBuf],
    /// Command lines to run one after the other, as long as they succeed.
    pub commands: &'a [String],
}

impl Image<'_> {
    /// The archive that the kernel takes.
    ///
    /// # Errors
    /// A file is missing, or what libraries a program needs cannot be found out.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut tree = Tree::default();
        DIRECTORIES.iter().for_each(|path| tree.directory(Path::new(path)));
        tree.copy(self.busybox, Path::new("bin/busybox"))?;
        for tool in TOOLS {
            tree.program(&find(tool)?)?;
        }
        for program in self.programs {
            tree.program(program)?;
        }
        for directory in self.directories {
            tree.directory(directory);
            for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
                let path = entry?.path();
                if path.is_file() {
                    tree.copy(&path, &path)?;
                }
            }
        }
        for module in MODULES {
            let name = format!("{module}.ko");
            let path = self.modules.join(&name);
            if path.is_file() {
                tree.copy(&path, &Path::new("modules").join(name))?;
            }
        }
        tree.file(Path::new("init"), self.init().as_bytes());
        Ok(tree.archive.finish())
    }

    fn init(&self) -> String {
        let commands: Vec<String> =
            self.commands.iter().map(|command| format!("{command} || echo {MARK}{FAILED}")).collect();
        INIT.replace("@MODULES@", &MODULES.join(" ")).replace("@COMMANDS@", &commands.join("\n"))
    }
}

/// An archive that knows what is in it already.
#[derive(Default)]
struct Tree {
    archive: Archive,
    there: BTreeSet<PathBuf>,
}

impl Tree {
    fn directory(&mut self, path: &Path) {
        let path = relative(path);
        let above: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
        for path in above.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            if self.there.insert(path.clone()) {
                self.archive.directory(&path.to_string_lossy());
            }
        }
    }

    fn file(&mut self, path: &Path, content: &[u8]) {
        let path = relative(path);
        if let Some(parent) = path.parent() {
            self.directory(parent);
        }
        if self.there.insert(path.clone()) {
            self.archive.file(&path.to_string_lossy(), content);
        }
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, &content);
        Ok(())
    }

    /// A program, and the libraries that it is linked with.
    fn program(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
        self.copy(path, &Path::new("usr/bin").join(name))?;
        for library in libraries(path)? {
            self.copy(&library, &library)?;
        }
        Ok(())
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Paths of the libraries that a program is linked with, the loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} needs a library that is not there: {}", program.display(), line.trim());
    }
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn find(tool: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{tool} is not installed"))
}

#[cfg(test)]
mod tests {
    use super::Tree;
    use std::path::Path;

    #[test]
    fn directories_come_before_what_is_in_them_and_only_once() {
        let mut tree = Tree::default();
        tree.file(Path::new("/a/b/c"), b"1");
        tree.file(Path::new("a/b/d"), b"2");
        tree.file(Path::new("/a/b/d"), b"3");
        let names: Vec<String> = tree.there.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d"]);
        let text = String::from_utf8_lossy(&tree.archive.finish()).into_owned();
        let at = |name: &str| text.find(name).unwrap();
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"));
        assert_eq!(text.matches("a/b/d\0").count(), 1);
    }
}
