//! One agent per node: the second one exits at once and names the first.

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The lock could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("another vpc-agent runs here: pid {pid} holds {}", path.display())]
    Held {
        /// Pid of the other agent, as it wrote it.
        pid: String,
        /// The lock.
        path: PathBuf,
    },
    /// The file could not be opened or written.
    #[error("lock {}", path.display())]
    File {
        /// The lock.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The lock. It ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock of a run directory.
///
/// # Errors
/// Where another agent has it.
pub fn take(directory: &Path) -> Result<Lock, LockError> {
    let path = directory.join("agent.lock");
    let failed = |source| LockError::File { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(Lock { _file: file })
        }
        Err((mut file, Errno::EAGAIN)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            Err(LockError::Held { pid: pid.trim().to_owned(), path })
        }
        Err((_, error)) => Err(failed(error.into())),
    }
}

/// Takes the lock of the directory of pins: agents with run directories of their own would still write the same maps.
/// A BPF file system holds no files, so it is the directory itself that is locked, and the kernel's list of locks that
/// knows who has it. Another mount namespace's BPF file system is another directory.
///
/// # Errors
/// Where another agent has it.
pub fn take_pins(directory: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::File { path: directory.to_owned(), source };
    loop {
        let file = File::open(directory).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                // Who uninstalls removes the directory under its lock; then this is no longer the one that others find.
                let (ours, there) = (file.metadata().map_err(failed)?, fs::metadata(directory).map_err(failed)?);
                if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
                    return Ok(Lock { _file: file });
                }
            }
            Err((file, Errno::EAGAIN)) => {
                let file = file.metadata().map_err(failed)?;
                let locks = fs::read_to_string("/proc/locks").map_err(failed)?;
                let pid = holder(&locks, file.dev(), file.ino()).unwrap_or("of another namespace").to_owned();
                return Err(LockError::Held { pid, path: directory.to_owned() });
            }
            Err((_, error)) => return Err(failed(error.into())),
        }
    }
}

/// Who holds a `flock` of a file, by the lines of /proc/locks: `1: FLOCK ADVISORY WRITE 42 00:20:5 0 EOF`, where the
/// device's numbers are hexadecimal. A process of another PID namespace is not listed.
fn holder(locks: &str, device: u64, inode: u64) -> Option<&str> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, "WRITE", pid, locked, ..] if locked == file => Some(pid),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{LockError, holder, take, take_pins};

    #[test]
    fn the_second_agent_learns_the_first_ones_pid() {
        let directory = std::env::temp_dir().join(format!("vag-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = take(&directory).unwrap();
        let Err(LockError::Held { pid, .. }) = take(&directory) else { panic!("two agents at once") };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        take(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn pins_have_one_agent_whatever_its_run_directory() {
        let directory = std::env::temp_dir().join(format!("vag-pins-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = take_pins(&directory).unwrap();
        let Err(LockError::Held { pid, .. }) = take_pins(&directory) else { panic!("two agents at once") };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        take_pins(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:2a:15 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:2b:15 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:2a:15 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 10 00:2a:15 0 EOF\n";
        assert_eq!(holder(locks, 0x2a, 15), Some("9"));
        assert_eq!(holder(locks, 0x2a, 16), None);
    }
}
