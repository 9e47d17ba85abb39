//! Watches the topology file.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// An editor or a script writes a file in more than one step: it is read when it was quiet for that long.
pub const QUIET: Duration = Duration::from_millis(20);

/// The directory of the file cannot be watched.
#[derive(Debug, Error)]
#[error("watch directory {}", path.display())]
pub struct WatchError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: notify::Error,
}

/// A watched file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    // Watching ends with it.
    _watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<()>,
    last: Option<String>,
    /// What the file was like when it was read last.
    state: Option<(u64, u64, SystemTime)>,
}

impl FileWatch {
    /// Watches the file's directory, since a file that is replaced is another file.
    ///
    /// # Errors
    /// Where there is no such directory.
    pub fn new(path: &Path) -> Result<Self, WatchError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |source| WatchError { path: directory.to_owned(), source };
        let (sender, events) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the file is an event too. A lost event counts as one.
            if event.is_ok_and(|event| event.kind.is_access() && !closed_after_writing(&event.kind)) {
                return;
            }
            // The receiver ends with the agent only.
            let _ended = sender.send(());
        })
        .map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _watcher: watcher, events, last: None, state: None })
    }

    /// Waits until something happened in the directory and it is quiet again. Can be dropped while it waits.
    pub async fn quiet(&mut self) {
        if self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
    }

    /// Whether the file is another one, or of another size or time, than when it was read: for changes that nothing
    /// announced.
    pub fn looks_changed(&self) -> bool {
        self.look() != self.state
    }

    fn look(&self) -> Option<(u64, u64, SystemTime)> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
    }

    /// The file's text if it is other than the last time.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_if_changed(&mut self) -> io::Result<Option<String>> {
        self.state = self.look();
        let text = std::fs::read_to_string(&self.path)?;
        if self.last.as_ref() == Some(&text) {
            return Ok(None);
        }
        self.last = Some(text.clone());
        Ok(Some(text))
    }
}

fn closed_after_writing(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

#[cfg(test)]
mod tests {
    use super::FileWatch;
    use std::{fs, time::Duration};

    #[tokio::test]
    async fn edits_in_place_and_by_rename_are_seen() {
        let directory = std::env::temp_dir().join(format!("vag-watch-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("t.yaml");
        fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path).unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref(), Some("one"));
        assert_eq!(watch.read_if_changed().unwrap(), None);
        let limit = Duration::from_secs(2);

        fs::write(&path, "two").unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref(), Some("two"));

        fs::write(directory.join("new"), "three").unwrap();
        fs::rename(directory.join("new"), &path).unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref(), Some("three"));

        fs::remove_file(&path).unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert!(watch.read_if_changed().is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
