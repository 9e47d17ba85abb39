//! One lab: the owner of everything that is made for it, and the sweeper of what dead owners left.

use crate::{
    claim::{self, Claim},
    netns::{NETNS_DIR, delete_netns},
};
use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering},
};

/// Where labs keep their files. Not below /run, which each node has for itself.
const BASE: &str = "/var/lib/vpc-lab";
/// First part of every network namespace's name.
const PREFIX: &str = "vpclab-";
/// Content of the `owner` file of a lab that outlives its maker.
const KEPT: &str = "kept";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A lab. Dropping it kills what runs in its namespaces and removes them.
pub struct Lab {
    id: String,
    directory: PathBuf,
    end: End,
    _claim: Rc<Claim>,
}

/// What becomes of a lab when its value is dropped.
#[derive(PartialEq, Eq)]
enum End {
    Removed,
    Kept,
}

impl Lab {
    /// A new lab that lives as long as the value, at most as long as this process.
    ///
    /// # Errors
    /// Not root, or the kernel refuses mounts.
    pub fn new() -> Result<Self> {
        Self::create(unique(), claim::shared())
    }

    /// The same, while no other lab of this process is up: for what is measured in time, or in packets that a machine
    /// with too much to do would lose. It waits until those of other threads have gone.
    ///
    /// # Errors
    /// As for [`Lab::new`], or the calling thread has a lab already.
    pub fn alone() -> Result<Self> {
        Self::create(unique(), claim::alone()?)
    }

    /// A lab of a fixed name, of which there can be one on the machine. See [`Lab::keep`].
    ///
    /// # Errors
    /// As for [`Lab::new`], or a lab of that name is up.
    pub fn named(name: &str) -> Result<Self> {
        Self::create(name.to_owned(), claim::shared())
    }

    fn create(id: String, claim: Rc<Claim>) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces take root: run this as root");
        }
        fs::create_dir_all(BASE).with_context(|| format!("cannot make {BASE}"))?;
        make_private(Path::new(BASE))?;
        // Under the lock no other process sees a directory whose owner is not written yet.
        let _lock = lock()?;
        sweep()?;
        let directory = Path::new(BASE).join(&id);
        fs::create_dir(&directory).with_context(|| format!("cannot make {}; is that lab up?", directory.display()))?;
        fs::write(directory.join("owner"), owner_mark(std::process::id()).unwrap_or_default())?;
        Ok(Self { id, directory, end: End::Removed, _claim: claim })
    }

    /// Full name of a network namespace of this lab.
    pub fn netns_name(&self, name: &str) -> String {
        format!("{PREFIX}{}-{name}", self.id)
    }

    /// Directory of this lab's files. Nodes see it too.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves the lab up when the value is dropped, and when this process ends. [`remove`] takes it down.
    ///
    /// # Errors
    /// The lab's directory cannot be written.
    pub fn keep(&mut self) -> Result<()> {
        fs::write(self.directory.join("owner"), KEPT)?;
        self.end = End::Kept;
        Ok(())
    }

    /// Whether [`Lab::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.end == End::Kept
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.end == End::Removed
            && let Err(error) = lock().and_then(|_lock| tear_down(&self.id))
        {
            eprintln!("lab {}: {error:#}", self.id);
        }
    }
}

/// A name that no other lab has.
fn unique() -> String {
    format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Takes down the lab of that name; false if there is none.
///
/// # Errors
/// Something of it cannot be removed.
pub fn remove(name: &str) -> Result<bool> {
    let there = Path::new(BASE).join(name).exists();
    if there {
        let _lock = lock()?;
        tear_down(name)?;
    }
    Ok(there)
}

fn lock() -> Result<Flock<File>> {
    let file = File::create(Path::new(BASE).join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {BASE}"))
}

/// Removes what labs of dead processes left. A lab's directory is there before and after all else of it.
fn sweep() -> Result<()> {
    for entry in fs::read_dir(BASE)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && is_abandoned(&entry.path()) {
            tear_down(&name)?;
        }
    }
    for name in namespaces(PREFIX) {
        let id = id_of(&name);
        if !Path::new(BASE).join(&id).exists() {
            tear_down(&id)?;
        }
    }
    Ok(())
}

/// The lab's id in a namespace's name: `pid-number`, or a word.
fn id_of(name: &str) -> String {
    let words: Vec<&str> = name[PREFIX.len()..].split('-').collect();
    let is_number = |word: &&str| word.parse::<u32>().is_ok();
    let length = if words.iter().take(2).filter(|word| is_number(word)).count() == 2 { 2 } else { 1 };
    words[..length].join("-")
}

fn is_abandoned(directory: &Path) -> bool {
    let owner = fs::read_to_string(directory.join("owner")).unwrap_or_default();
    if owner == KEPT {
        return false;
    }
    let pid = owner.split(' ').next().and_then(|pid| pid.parse().ok());
    pid.and_then(owner_mark).is_none_or(|mark| mark != owner)
}

/// Pid and start time of a process, which together are never used twice; none if it does not run.
fn owner_mark(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the name before it, in parentheses, may contain anything.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
}

fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(NETNS_DIR) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

fn tear_down(id: &str) -> Result<()> {
    let names = namespaces(&format!("{PREFIX}{id}-"));
    for name in &names {
        delete_netns(name)?;
    }
    let directory = Path::new(BASE).join(id);
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "mnt") {
            let _not_mounted = umount2(&entry.path(), MntFlags::MNT_DETACH);
        }
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a directory a mount point of its own whose mounts stay in this mount namespace. Files on which mount
/// namespaces are pinned must lie on such a mount.
fn make_private(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let path = directory.to_string_lossy();
    if mounts.lines().any(|line| line.split(' ').nth(4) == Some(&path)) {
        return Ok(());
    }
    mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {path} to itself"))?;
    mount(None::<&str>, directory, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .with_context(|| format!("cannot make {path} private"))
}
