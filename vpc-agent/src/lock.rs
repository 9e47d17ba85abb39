//! One agent per node: the second one exits at once and names the first.

use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
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
        Err((mut file, nix::errno::Errno::EAGAIN)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            Err(LockError::Held { pid: pid.trim().to_owned(), path })
        }
        Err((_, error)) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{LockError, take};

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
}
