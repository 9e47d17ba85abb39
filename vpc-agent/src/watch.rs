//! Watches the topology file.

use crate::text::Text;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    ffi::OsStr,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// An editor or a script writes a file in more than one step: it is read when it was quiet for that long.
pub const QUIET: Duration = Duration::from_millis(20);
/// It is read at the latest that long after the first event, however busy its directory is.
pub const LONGEST_WAIT: Duration = Duration::from_millis(200);

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
    /// Where copies of what it says are made.
    directory: PathBuf,
    // Watching ends with it.
    _watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<()>,
    /// When the first event came that was not answered by a read yet.
    since: Option<Instant>,
    last: Option<Arc<Text>>,
    /// What the file was like when it was read last.
    state: Option<(u64, u64, SystemTime)>,
}

impl FileWatch {
    /// Watches the file's directory, since a file that is replaced is another file. What it says is copied to a directory
    /// of the agent's own.
    ///
    /// # Errors
    /// Where there is no such directory.
    pub fn new(path: &Path, copies: &Path) -> Result<Self, WatchError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |source| WatchError { path: directory.to_owned(), source };
        let (sender, events) = mpsc::unbounded_channel();
        let file = path.file_name().map(OsStr::to_owned);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A lost event counts as one.
            if event.is_ok_and(|event| !concerns(&event, file.as_deref())) {
                return;
            }
            // The receiver ends with the agent only.
            let _ended = sender.send(());
        })
        .map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            directory: copies.to_owned(),
            _watcher: watcher,
            events,
            since: None,
            last: None,
            state: None,
        })
    }

    /// Waits until something happened to the file and it is quiet again. Can be dropped while it waits: nothing is lost.
    pub async fn quiet(&mut self) {
        let since = match self.since {
            Some(since) => since,
            None => {
                if self.events.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                *self.since.insert(Instant::now())
            }
        };
        while since.elapsed() < LONGEST_WAIT
            && let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await
        {}
        self.since = None;
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
    pub fn read_if_changed(&mut self) -> io::Result<Option<Arc<Text>>> {
        self.state = self.look();
        // The same text is news again after none could be read.
        let text = Text::copy_of(&self.path, &self.directory).inspect_err(|_| self.last = None)?;
        if self.last.as_deref() == Some(&text) {
            return Ok(None);
        }
        let text = Arc::new(text);
        self.last = Some(Arc::clone(&text));
        Ok(Some(text))
    }
}

/// Whether an event may have changed what is read under the file's name: reading is an event too, and the directory
/// may hold files that are written all the time, such as logs. A name that comes or goes may be a symbolic link's.
fn concerns(event: &notify::Event, file: Option<&OsStr>) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
    let is_ours = event.paths.iter().any(|path| path.file_name() == file);
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => is_ours,
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Modify(_) => is_ours,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::FileWatch;
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };
    use vpc_topology::Source;

    #[tokio::test]
    async fn edits_in_place_and_by_rename_are_seen() {
        let directory = std::env::temp_dir().join(format!("vag-watch-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("t.yaml");
        fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path, &directory).unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref().map(Source::text), Some("one"));
        assert_eq!(watch.read_if_changed().unwrap(), None);
        let limit = Duration::from_secs(2);

        fs::write(&path, "two").unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref().map(Source::text), Some("two"));

        fs::write(directory.join("new"), "three").unwrap();
        fs::rename(directory.join("new"), &path).unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref().map(Source::text), Some("three"));

        fs::remove_file(&path).unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert!(watch.read_if_changed().is_err());

        fs::write(&path, "three").unwrap();
        tokio::time::timeout(limit, watch.quiet()).await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref().map(Source::text), Some("three"));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn a_busy_directory_and_a_dropped_wait_hide_no_edit() {
        let directory = std::env::temp_dir().join(format!("vag-busy-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("t.yaml");
        fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path, &directory).unwrap();
        let limit = Duration::from_secs(2);
        // Another file is written the whole time, more often than it takes to be quiet.
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (log, stop) = (directory.join("log"), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    fs::write(&log, "busy").unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        fs::write(&path, "two").unwrap();
        // Dropped again and again after less than it takes to be quiet.
        let seen = tokio::time::timeout(limit, async {
            while tokio::time::timeout(Duration::from_millis(5), watch.quiet()).await.is_err() {}
        });
        seen.await.unwrap();
        assert_eq!(watch.read_if_changed().unwrap().as_deref().map(Source::text), Some("two"));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }
}
