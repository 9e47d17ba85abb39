//! The session tables, in this process's own memory: what packets find there, the agent reads, sweeps and moves without a
//! call of the kernel. Layout and rules are those of [`vpc_common::session_table`].

use crate::{
    TableError,
    map::{MapDescription, describe},
    syscall::open_pin,
};
use bytemuck::{Pod, Zeroable};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    marker::PhantomData,
    mem::offset_of,
    ops::Range,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread,
    time::Duration,
};
use vpc_common::{
    session::{Session, SessionKey},
    session_table::{BucketV4, BucketV6, HEAD, Header, PLACES, place},
};

const WORD: usize = size_of::<u64>();
/// After so long no program works on a session any more that it found before: it ends within microseconds, and nothing
/// preempts it.
const GRACE: Duration = Duration::from_millis(5);
/// Elements of a batch.
const BATCH: u32 = 4_096;
/// Where the state is in the first word of a key.
const STATE: u32 = 8 * offset_of!(SessionKey<[u32; 1]>, state) as u32;
const CLAIMED: u64 = (place::CLAIMED as u64) << STATE;
const LEAVING: u64 = (place::LEAVING as u64) << STATE;

/// The session table of a family.
///
/// # Example
/// ```no_run
/// use vpc_bpf::SessionTable;
/// use vpc_common::session::V4;
/// let sessions: SessionTable<V4> = SessionTable::open(std::path::Path::new("/sys/fs/bpf/vpc/v8/SESSIONS_V4"))?;
/// println!("{} of {} sessions", sessions.entries().len(), sessions.room());
/// # Ok::<(), vpc_bpf::TableError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionTable<A> {
    memory: Arc<Memory>,
    description: MapDescription,
    family: PhantomData<fn() -> A>,
}

impl<A> SessionTable<A>
where
    A: Copy + 'static,
    SessionKey<A>: Pod,
{
    /// Words of a key that its head does not have.
    const TAIL: usize =
        if size_of::<SessionKey<A>>() == HEAD * WORD { 0 } else { size_of::<SessionKey<A>>() / WORD - 1 };
    /// Bytes of an element.
    const ELEMENT: usize = if Self::TAIL == 0 { size_of::<BucketV4>() } else { size_of::<BucketV6>() };

    /// Opens a pinned table.
    ///
    /// # Errors
    /// Where it is not there or has another layout.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let fd = open_pin(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
        Self::new(&fd)
    }

    /// The table of a descriptor, which is not needed any more then.
    ///
    /// # Errors
    /// Where its layout is another one, or the kernel lends no memory.
    pub fn new(fd: &OwnedFd) -> Result<Self, TableError> {
        let failed = |operation, map: &str, source| TableError::Call { operation, map: map.to_owned(), source };
        let description = describe(fd.as_fd()).map_err(|source| failed("description", "of unknown name", source))?;
        let (actual, expected) = (description.value_size, Self::ELEMENT as u32);
        if actual != expected {
            return Err(TableError::Layout { map: description.name, what: "values", actual, expected });
        }
        let length = description.max_entries as usize * Self::ELEMENT;
        let memory = Memory::of(fd, length).map_err(|source| failed("mapping", &description.name, source))?;
        Ok(Self { memory: Arc::new(memory), description, family: PhantomData })
    }

    /// Makes a new table ready for so many sessions. One that is in use stays as it is.
    pub(crate) fn make_ready(&self, sessions: u32) {
        // SAFETY: what the first element begins with; nobody else writes there, since a table is made by one process.
        let header = unsafe { &mut *self.memory.start.as_ptr().cast::<Header>() };
        if header.buckets == 0 {
            let buckets = self.description.max_entries.saturating_sub(1);
            *header = Header { seed: RandomState::new().hash_one(buckets), buckets, sessions };
        }
    }

    /// For how many sessions it was made.
    pub fn room(&self) -> u32 {
        self.header().sessions
    }

    /// The session of a key.
    pub fn get(&self, key: &SessionKey<A>) -> Option<Session> {
        self.find(&held(key)).map(|(element, place)| self.read(element, place))
    }

    /// Writes a session: in the place of the one that has its key, or in a new place.
    ///
    /// # Errors
    /// Where there is no room (E2BIG).
    pub fn set(&self, key: &SessionKey<A>, session: &Session) -> Result<(), TableError> {
        let key = held(key);
        if let Some((element, place)) = self.find(&key) {
            self.write(element, place, session);
            return Ok(());
        }
        let ([head, second], mut elements) = self.sought(&key);
        elements.sort_by_key(|element| (0..PLACES).filter(|place| self.first(*element, *place) != 0).count());
        for (element, place) in places(elements) {
            let first = self.head(element, place, 0);
            if first.compare_exchange(0, CLAIMED, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                self.write(element, place, session);
                self.head(element, place, 1).store(second, Ordering::Relaxed);
                for (index, word) in words(&key)[1..][..Self::TAIL].iter().enumerate() {
                    self.tail(element, place, index).store(*word, Ordering::Relaxed);
                }
                first.store(head, Ordering::SeqCst);
                return Ok(());
            }
        }
        let source = io::Error::from_raw_os_error(libc::E2BIG);
        Err(TableError::Call { operation: "write", map: self.description.name.clone(), source })
    }

    /// Writes many sessions.
    ///
    /// # Errors
    /// Where there is no room for one; those before it are written.
    pub fn set_all(&self, entries: &[(SessionKey<A>, Session)]) -> Result<(), TableError> {
        entries.iter().try_for_each(|(key, session)| self.set(key, session))
    }

    /// Removes a session and says whether it was there.
    pub fn delete(&self, key: &SessionKey<A>) -> bool {
        self.delete_all(std::slice::from_ref(key)) != 0
    }

    /// Removes many sessions, those that are gone already included. Returns how many were there, when their places are free.
    pub fn delete_all(&self, keys: &[SessionKey<A>]) -> usize {
        let mut left = Vec::new();
        for key in keys {
            let key = held(key);
            // Two CPUs may have opened it at once.
            while let Some((element, place)) = self.find(&key) {
                let first = self.head(element, place, 0);
                // Not if it has become another flow's meanwhile.
                if first.compare_exchange(words(&key)[0], LEAVING, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                    left.push((element, place));
                }
            }
        }
        self.free(&left);
        left.len()
    }

    /// Frees the places of sessions that have just been removed, when nobody works on them any more.
    fn free(&self, places: &[(u32, usize)]) {
        if places.is_empty() {
            return;
        }
        thread::sleep(GRACE);
        for &(element, place) in places {
            let _ = self.head(element, place, 0).compare_exchange(LEAVING, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// All sessions. One that comes or goes meanwhile may be seen or not.
    pub fn entries(&self) -> Vec<(SessionKey<A>, Session)> {
        let mut entries = Vec::new();
        self.for_each_batch(|keys, sessions| entries.extend(keys.iter().copied().zip(sessions.iter().copied())));
        entries
    }

    /// All sessions in batches.
    pub fn for_each_batch(&self, mut visit: impl FnMut(&[SessionKey<A>], &[Session])) {
        let (mut keys, mut sessions) = (Vec::new(), Vec::new());
        for batch in self.batches() {
            keys.clear();
            sessions.clear();
            self.visit(batch, |_, key, session| {
                keys.push(*key);
                sessions.push(*session);
            });
            if !keys.is_empty() {
                visit(&keys, &sessions);
            }
        }
    }

    /// Removes all sessions that are not to be kept, and rests after each batch. Returns how many were removed.
    pub fn sweep(&self, mut keep: impl FnMut(&SessionKey<A>, &Session) -> bool, mut rest: impl FnMut()) -> usize {
        let mut removed = 0;
        for batch in self.batches() {
            // Also what somebody has left who ended before it was free.
            let mut left = self.leaving(batch.clone());
            self.visit(batch, |(at, word, before), key, session| {
                if !keep(key, session)
                    && word.compare_exchange(before, LEAVING, Ordering::SeqCst, Ordering::Relaxed).is_ok()
                {
                    left.push(at);
                    removed += 1;
                }
            });
            self.free(&left);
            rest();
        }
        removed
    }

    fn leaving(&self, elements: Range<u32>) -> Vec<(u32, usize)> {
        let places = elements.flat_map(|element| (0..PLACES).map(move |place| (element, place)));
        places.filter(|(element, place)| self.first(*element, *place) == LEAVING).collect()
    }

    /// Removes all sessions, and their places are free at once: for tables that no packet uses in this moment.
    pub fn clear(&self) {
        for element in self.batches().into_iter().flatten() {
            for place in 0..PLACES {
                self.head(element, place, 0).store(0, Ordering::SeqCst);
            }
        }
    }

    /// Hands the sessions of some elements over, with their place, the first word of the key and what it was.
    fn visit(
        &self,
        elements: Range<u32>,
        mut visit: impl FnMut(((u32, usize), &AtomicU64, u64), &SessionKey<A>, &Session),
    ) {
        for element in elements {
            for place in 0..PLACES {
                let first = self.head(element, place, 0);
                let before = first.load(Ordering::Acquire);
                if before >> STATE & 0xff != place::HELD.into() {
                    continue;
                }
                let (key, session) = (self.key(element, place), self.read(element, place));
                fence(Ordering::Acquire);
                if first.load(Ordering::Relaxed) == before {
                    visit(((element, place), first, before), &key, &session);
                }
            }
        }
    }

    fn batches(&self) -> Vec<Range<u32>> {
        let end = self.description.max_entries;
        (1..end).step_by(BATCH as usize).map(|start| start..end.min(start + BATCH)).collect()
    }

    fn find(&self, key: &SessionKey<A>) -> Option<(u32, usize)> {
        let (head, elements) = self.sought(key);
        places(elements).find(|&(element, place)| {
            self.first(element, place) == head[0] && words(&self.key(element, place)) == words(key)
        })
    }

    /// The head of a key, and the elements in which it may lie.
    fn sought(&self, key: &SessionKey<A>) -> ([u64; HEAD], [u32; 2]) {
        let header = self.header();
        let words = words(key);
        let hash = header.hash(words);
        ([words[0], if Self::TAIL == 0 { words[1] } else { hash }], header.places(hash))
    }

    fn header(&self) -> Header {
        // SAFETY: what the first element begins with, which does not change once it is there.
        unsafe { self.memory.start.as_ptr().cast::<Header>().read_volatile() }
    }

    fn key(&self, element: u32, place: usize) -> SessionKey<A> {
        let mut key = SessionKey::<A>::zeroed();
        for (index, bytes) in bytemuck::bytes_of_mut(&mut key).chunks_exact_mut(WORD).enumerate() {
            let word = match index {
                0 => self.head(element, place, 0),
                1 if Self::TAIL == 0 => self.head(element, place, 1),
                _ => self.tail(element, place, index - 1),
            };
            bytes.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        key
    }

    fn first(&self, element: u32, place: usize) -> u64 {
        self.head(element, place, 0).load(Ordering::Acquire)
    }

    fn head(&self, element: u32, place: usize, index: usize) -> &AtomicU64 {
        self.word(element, offset_of!(BucketV4, heads) + (place * HEAD + index) * WORD)
    }

    fn tail(&self, element: u32, place: usize, index: usize) -> &AtomicU64 {
        self.word(element, offset_of!(BucketV6, tails) + (place * Self::TAIL + index) * WORD)
    }

    fn word(&self, element: u32, offset: usize) -> &AtomicU64 {
        assert!(offset < Self::ELEMENT);
        // SAFETY: aligned, inside the element, and changed by everybody as one word.
        unsafe { AtomicU64::from_ptr(self.element(element).add(offset).cast()) }
    }

    fn read(&self, element: u32, place: usize) -> Session {
        // SAFETY: inside the element; plain words, which packets may change meanwhile.
        unsafe { self.session(element, place).read_volatile() }
    }

    fn write(&self, element: u32, place: usize, session: &Session) {
        // SAFETY: as above.
        unsafe { self.session(element, place).write_volatile(*session) }
    }

    fn session(&self, element: u32, place: usize) -> *mut Session {
        let offset = offset_of!(BucketV4, sessions) + place * size_of::<Session>();
        // SAFETY: inside the element.
        unsafe { self.element(element).add(offset).cast() }
    }

    fn element(&self, element: u32) -> *mut u8 {
        assert!(element < self.description.max_entries, "element {element} of {}", self.description.max_entries);
        // SAFETY: inside the memory, as was just seen.
        unsafe { self.memory.start.as_ptr().add(element as usize * Self::ELEMENT) }
    }
}

/// The places of two elements.
fn places(elements: [u32; 2]) -> impl Iterator<Item = (u32, usize)> {
    elements.into_iter().flat_map(|element| (0..PLACES).map(move |place| (element, place)))
}

/// The key as it is in the table.
fn held<A: Copy>(key: &SessionKey<A>) -> SessionKey<A> {
    SessionKey { state: place::HELD, ..*key }
}

fn words<A>(key: &SessionKey<A>) -> &[u64]
where
    SessionKey<A>: Pod,
{
    bytemuck::cast_slice(std::slice::from_ref(key))
}

/// A map's values in this process's memory.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is everybody's already; all access is by atomic words, or to sessions, whose plain words any packet
// may change at any time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn of(fd: &OwnedFd, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(address) if start != libc::MAP_FAILED => Ok(Self { start: address, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and whoever had a part of it is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
