//! Removes everything that agents made on a node.

use crate::{
    bpffs,
    control::{
        Request,
        client::{self, ClientError},
    },
    lock::{self, Lock, LockError},
    netlink::{
        NetlinkError, links,
        offload::{self, OffloadError},
        tunnel,
    },
};
use rtnetlink::Handle;
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use vpc_bpf::{Filter, Filters};

/// How long a running agent may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Something could not be removed.
#[derive(Debug, Error)]
pub enum UninstallError {
    /// A running agent refused to end.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// It did not end in time, or the lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A directory.
    #[error("remove {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No netlink socket or runtime, or no answer.
    #[error("open a netlink socket and ask the kernel")]
    Socket(#[source] io::Error),
    /// A filter.
    #[error("remove the filter {name}")]
    Filter {
        /// What it is for.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The tunnel device or the offload device.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Ends the agent if one runs, then removes filters, links, maps, the tunnel and the offload device and the run directory.
/// Returns what was removed.
///
/// # Errors
/// Where something cannot be removed; what was removed before stays so.
pub fn uninstall(run_dir: &Path, bpffs: &Path) -> Result<Vec<String>, UninstallError> {
    match client::ask::<()>(run_dir, Request::Stop) {
        // Nobody listens, or it ended before it answered.
        Ok(()) | Err(ClientError::Connect { .. } | ClientError::Exchange(_) | ClientError::Answer(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let _lock = if run_dir.exists() { Some(wait_for(|| lock::take(run_dir))?) } else { None };
    // Of an agent with another run directory, too.
    let pins = bpffs::directory(bpffs);
    let _pins_lock = if pins.exists() { Some(wait_for(|| lock::take_pins(&pins))?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UninstallError::Socket)?;
    // What a port's program would still send there must not come out without one.
    let mut removed: Vec<String> = runtime.block_on(remove_offload())?.into_iter().collect();
    removed.extend(remove_filters()?);
    // Links go first: a program whose maps are gone would still run.
    for directory in [bpffs::links(bpffs), bpffs::directory(bpffs)] {
        remove_directory(&directory, &mut removed)?;
    }
    removed.extend(runtime.block_on(remove_tunnel())?);
    remove_directory(run_dir, &mut removed)?;
    Ok(removed)
}

/// Removes the programs that hang on filters, and the qdiscs that came with those.
fn remove_filters() -> Result<Vec<String>, UninstallError> {
    let filters = Filters::open().map_err(UninstallError::Socket)?;
    let ours = filters.all().map_err(UninstallError::Socket)?;
    let remove = |filter: &Filter| {
        let device = nix::net::if_::if_indextoname(filter.ifindex);
        let device = device.map_or_else(|_| filter.ifindex.to_string(), |name| name.to_string_lossy().into_owned());
        filters.remove(filter).map_err(|source| UninstallError::Filter { name: filter.name.clone(), source })?;
        Ok(format!("filter {} of interface {device}", filter.name))
    };
    ours.iter().map(remove).collect()
}

fn wait_for(take: impl Fn() -> Result<Lock, LockError>) -> Result<Lock, LockError> {
    let start = Instant::now();
    loop {
        match take() {
            Err(LockError::Held { .. }) if start.elapsed() < END_LIMIT => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn remove_directory(path: &Path, removed: &mut Vec<String>) -> Result<(), UninstallError> {
    match fs::remove_dir_all(path) {
        Ok(()) => {
            removed.push(path.display().to_string());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(UninstallError::Directory { path: path.to_owned(), source }),
    }
}

fn connect() -> Result<Handle, UninstallError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(UninstallError::Socket)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Its other end goes with it.
async fn remove_offload() -> Result<Option<String>, UninstallError> {
    let handle = connect()?;
    match offload::find(&handle).await {
        Ok(Some(ends)) => {
            links::remove(&handle, &ends.near).await?;
            Ok(Some(format!("interface {}", ends.near.name)))
        }
        Err(OffloadError::Netlink(error)) => Err(error.into()),
        // Other interfaces of those names are somebody else's.
        _ => Ok(None),
    }
}

async fn remove_tunnel() -> Result<Option<String>, UninstallError> {
    let handle = connect()?;
    match links::by_name(&handle, tunnel::NAME).await? {
        Some(link) if tunnel::is_ours(&link) => {
            links::remove(&handle, &link).await?;
            Ok(Some(format!("interface {}", link.name)))
        }
        _ => Ok(None),
    }
}
