//! Typed access to a map: the calls of one entry, and the batch calls.

use crate::{
    map::{MapDescription, describe},
    syscall::{attributes, bpf, open_pin},
};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
use bytemuck::Pod;
use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Entries that one batch call moves at first; doubled where the kernel says that one hash bucket holds more.
const BATCH: usize = 4_096;
/// Bytes that the kernel may write as a batch cursor: a key of a trie or array, a word of a hash.
const CURSOR: usize = 256;

/// A call on a map failed.
#[derive(Debug, Error)]
pub enum TableError {
    /// A call of the kernel.
    #[error("{operation} of map {map}")]
    Call {
        /// What was asked.
        operation: &'static str,
        /// Name of the map.
        map: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The pinned map could not be opened.
    #[error("open pinned map {}", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The map's layout is not the one of the type.
    #[error("map {map} has {what} of {actual} bytes, {expected} are needed")]
    Layout {
        /// Name of the map.
        map: String,
        /// "keys" or "values".
        what: &'static str,
        /// In the kernel.
        actual: u32,
        /// In this program.
        expected: u32,
    },
}

/// A map whose keys are `K` and whose values are `V` (for a per-CPU map, `V` per CPU: see [`PerCpuTable`]).
///
/// # Example
/// ```no_run
/// use vpc_bpf::Table;
/// use vpc_common::{maps, port::Port};
/// let ports: Table<u32, Port> = Table::open(std::path::Path::new("/sys/fs/bpf/vpc/v2/PORTS"))?;
/// assert!(ports.get(&1)?.is_some());
/// # Ok::<(), vpc_bpf::TableError>(())
/// ```
#[derive(Debug)]
pub struct Table<K, V> {
    raw: RawTable,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens a pinned map.
    ///
    /// # Errors
    /// Where it is not there or has another layout.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let fd = open_pin(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
        Self::new(fd)
    }

    /// Takes a descriptor of a map.
    ///
    /// # Errors
    /// Where its layout is another one.
    pub fn new(fd: OwnedFd) -> Result<Self, TableError> {
        let raw = RawTable::new(fd)?;
        raw.check("keys", raw.description.key_size, size_of::<K>())?;
        raw.check("values", raw.value_stride as u32, size_of::<V>())?;
        Ok(Self { raw, types: PhantomData })
    }

    /// Type, sizes and flags.
    pub fn description(&self) -> &MapDescription {
        &self.raw.description
    }

    /// Another handle of the same map.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn try_clone(&self) -> Result<Self, TableError> {
        let fd = self.raw.fd.try_clone().map_err(|source| self.raw.failed("clone", source))?;
        Self::new(fd)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Where the kernel refuses the call; a key that is not there is none.
    pub fn get(&self, key: &K) -> Result<Option<V>, TableError> {
        let mut value = V::zeroed();
        let found = self.raw.get(bytemuck::bytes_of(key), bytemuck::bytes_of_mut(&mut value))?;
        Ok(found.then_some(value))
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// Where the map is full (E2BIG) or the key out of range.
    pub fn set(&self, key: &K, value: &V) -> Result<(), TableError> {
        self.raw.set(bytemuck::bytes_of(key), bytemuck::bytes_of(value))
    }

    /// Removes one entry and says whether it was there.
    ///
    /// # Errors
    /// Where the kernel refuses the call: the entries of an array cannot be removed.
    pub fn delete(&self, key: &K) -> Result<bool, TableError> {
        self.raw.delete(bytemuck::bytes_of(key))
    }

    /// Writes many entries with one call per 65,536.
    ///
    /// # Errors
    /// Where the map is full; the entries before that one are written.
    pub fn set_all(&self, entries: &[(K, V)]) -> Result<(), TableError> {
        for chunk in entries.chunks(1 << 16) {
            let keys: Vec<K> = chunk.iter().map(|(key, _)| *key).collect();
            let values: Vec<V> = chunk.iter().map(|(_, value)| *value).collect();
            self.raw.set_batch(bytemuck::cast_slice(&keys), bytemuck::cast_slice(&values), chunk.len())?;
        }
        Ok(())
    }

    /// Removes many entries, those that are gone already included.
    ///
    /// # Errors
    /// Where the kernel refuses the call.
    pub fn delete_all(&self, keys: &[K]) -> Result<(), TableError> {
        self.raw.delete_batch(bytemuck::cast_slice(keys), keys.len())
    }

    /// Reads all entries. An entry that comes or goes meanwhile may be seen or not.
    ///
    /// # Errors
    /// Where the kernel refuses the call.
    pub fn entries(&self) -> Result<Vec<(K, V)>, TableError> {
        let mut entries = Vec::new();
        self.for_each_batch(|keys, values| entries.extend(keys.iter().copied().zip(values.iter().copied())))?;
        Ok(entries)
    }

    /// Reads all entries in batches, for maps that are too large to hold twice. For a hash.
    ///
    /// # Errors
    /// Where the kernel refuses the call.
    pub fn for_each_batch(&self, mut visit: impl FnMut(&[K], &[V])) -> Result<(), TableError> {
        self.raw.for_each_batch(|keys, values| {
            // The buffers are bytes; copy them out where they are not aligned for the types.
            visit(&aligned::<K>(keys), &aligned::<V>(values));
        })
    }
}

impl<K, V> AsFd for Table<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.fd.as_fd()
    }
}

fn aligned<T: Pod>(bytes: &[u8]) -> Vec<T> {
    let mut items = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut::<T, u8>(&mut items).copy_from_slice(bytes);
    items
}

/// A per-CPU array.
#[derive(Debug)]
pub struct PerCpuTable<V> {
    raw: RawTable,
    types: PhantomData<fn() -> V>,
}

impl<V: Pod> PerCpuTable<V> {
    /// Opens a pinned map.
    ///
    /// # Errors
    /// Where it is not there or has another layout.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let fd = open_pin(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
        Self::new(fd)
    }

    /// Takes a descriptor of a map.
    ///
    /// # Errors
    /// Where its layout is another one.
    pub fn new(fd: OwnedFd) -> Result<Self, TableError> {
        let raw = RawTable::new(fd)?;
        raw.check("keys", raw.description.key_size, size_of::<u32>())?;
        raw.check("values", raw.description.value_size, size_of::<V>())?;
        Ok(Self { raw, types: PhantomData })
    }

    /// Type, sizes and flags.
    pub fn description(&self) -> &MapDescription {
        &self.raw.description
    }

    /// The values of every CPU.
    ///
    /// # Errors
    /// Where the index is out of range.
    pub fn get(&self, index: u32) -> Result<Vec<V>, TableError> {
        let stride = self.raw.description.value_size.next_multiple_of(8) as usize;
        let mut bytes = vec![0; self.raw.value_stride];
        self.raw.get(bytemuck::bytes_of(&index), &mut bytes)?;
        Ok(bytes.chunks_exact(stride).flat_map(|value| aligned::<V>(&value[..size_of::<V>()])).collect())
    }

    /// Writes the same value for every CPU.
    ///
    /// # Errors
    /// Where the index is out of range.
    pub fn set(&self, index: u32, value: &V) -> Result<(), TableError> {
        let stride = self.raw.description.value_size.next_multiple_of(8) as usize;
        let mut bytes = vec![0; self.raw.value_stride];
        for place in bytes.chunks_exact_mut(stride) {
            place[..size_of::<V>()].copy_from_slice(bytemuck::bytes_of(value));
        }
        self.raw.set(bytemuck::bytes_of(&index), &bytes)
    }
}

/// A map whose types are not known: what copying needs.
#[derive(Debug)]
pub(crate) struct RawTable {
    pub(crate) fd: OwnedFd,
    pub(crate) description: MapDescription,
    /// Bytes that a value takes in a call: of all CPUs in a per-CPU map.
    pub(crate) value_stride: usize,
}

impl RawTable {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, TableError> {
        let description = describe(fd.as_fd()).map_err(|source| TableError::Call {
            operation: "description",
            map: "of unknown name".to_owned(),
            source,
        })?;
        let value_stride = if description.is_per_cpu() {
            let cpus = aya::util::nr_cpus().map_err(|(_, source)| TableError::Call {
                operation: "count of CPUs",
                map: description.name.clone(),
                source,
            })?;
            description.value_size.next_multiple_of(8) as usize * cpus
        } else {
            description.value_size as usize
        };
        Ok(Self { fd, description, value_stride })
    }

    fn check(&self, what: &'static str, actual: u32, expected: usize) -> Result<(), TableError> {
        let expected = expected as u32;
        if actual == expected {
            return Ok(());
        }
        Err(TableError::Layout { map: self.description.name.clone(), what, actual, expected })
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> TableError {
        TableError::Call { operation, map: self.description.name.clone(), source }
    }

    fn element(&self, key: &[u8], value: *const u8) -> bpf_attr {
        let mut attributes = attributes();
        attributes.__bindgen_anon_2.map_fd = self.fd.as_raw_fd() as u32;
        attributes.__bindgen_anon_2.key = key.as_ptr() as u64;
        attributes.__bindgen_anon_2.__bindgen_anon_1.value = value as u64;
        attributes
    }

    pub(crate) fn get(&self, key: &[u8], value: &mut [u8]) -> Result<bool, TableError> {
        debug_assert!(key.len() == self.description.key_size as usize && value.len() == self.value_stride);
        let mut attributes = self.element(key, value.as_mut_ptr());
        // SAFETY: key and value are as long as the map's.
        match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attributes) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        debug_assert!(key.len() == self.description.key_size as usize && value.len() == self.value_stride);
        let mut attributes = self.element(key, value.as_ptr());
        // SAFETY: key and value are as long as the map's.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) }.map_err(|error| self.failed("write", error))?;
        Ok(())
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<bool, TableError> {
        debug_assert!(key.len() == self.description.key_size as usize);
        let mut attributes = self.element(key, std::ptr::null());
        // SAFETY: the key is as long as the map's.
        match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attributes) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.failed("delete", error)),
        }
    }

    pub(crate) fn set_batch(&self, keys: &[u8], values: &[u8], count: usize) -> Result<(), TableError> {
        debug_assert!(values.len() == count * self.value_stride);
        if count == 0 {
            return Ok(());
        }
        // Per-CPU arrays and device maps have none.
        if !self.description.has_batch_calls() {
            let keys = keys.chunks_exact(self.description.key_size as usize);
            return keys.zip(values.chunks_exact(self.value_stride)).try_for_each(|(key, value)| self.set(key, value));
        }
        let mut attributes = attributes();
        attributes.batch.map_fd = self.fd.as_raw_fd() as u32;
        attributes.batch.keys = keys.as_ptr() as u64;
        attributes.batch.values = values.as_ptr() as u64;
        attributes.batch.count = count as u32;
        // SAFETY: keys and values hold `count` entries of the map's sizes.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attributes) }
            .map_err(|error| self.failed("batch write", error))?;
        Ok(())
    }

    fn delete_batch(&self, keys: &[u8], count: usize) -> Result<(), TableError> {
        let size = self.description.key_size as usize;
        let mut done = 0;
        while done < count {
            if self.description.has_batch_calls() {
                let mut attributes = attributes();
                attributes.batch.map_fd = self.fd.as_raw_fd() as u32;
                attributes.batch.keys = keys[done * size..].as_ptr() as u64;
                attributes.batch.count = (count - done) as u32;
                // SAFETY: keys holds that many keys of the map's size.
                match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attributes) } {
                    Ok(_) => return Ok(()),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                        // SAFETY: the kernel wrote how many it removed before the key that was gone.
                        done += unsafe { attributes.batch.count } as usize + 1;
                    }
                    Err(error) => return Err(self.failed("batch delete", error)),
                }
            } else {
                self.delete(&keys[done * size..(done + 1) * size])?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Hands all entries over in batches: keys and values, as bytes.
    pub(crate) fn for_each_batch(&self, visit: impl FnMut(&[u8], &[u8])) -> Result<(), TableError> {
        if self.description.has_batch_calls() { self.read_batches(visit) } else { self.walk(visit) }
    }

    fn read_batches(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), TableError> {
        let key_size = self.description.key_size as usize;
        let mut batch = BATCH.min(self.description.max_entries as usize).max(1);
        let (mut keys, mut values) = (vec![0; batch * key_size], vec![0; batch * self.value_stride]);
        let (mut cursor, mut next) = ([0_u64; CURSOR / 8], [0_u64; CURSOR / 8]);
        let mut started = false;
        loop {
            let mut attributes = attributes();
            attributes.batch.map_fd = self.fd.as_raw_fd() as u32;
            attributes.batch.in_batch = if started { cursor.as_mut_ptr() as u64 } else { 0 };
            attributes.batch.out_batch = next.as_mut_ptr() as u64;
            attributes.batch.keys = keys.as_mut_ptr() as u64;
            attributes.batch.values = values.as_mut_ptr() as u64;
            attributes.batch.count = batch as u32;
            // SAFETY: the buffers hold `batch` entries, the cursors more than any key of ours.
            let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes) };
            // SAFETY: the kernel wrote how many entries it returned.
            let count = unsafe { attributes.batch.count } as usize;
            let ended = match result {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    batch *= 2;
                    (keys, values) = (vec![0; batch * key_size], vec![0; batch * self.value_stride]);
                    continue;
                }
                Err(error) => return Err(self.failed("batch read", error)),
            };
            visit(&keys[..count * key_size], &values[..count * self.value_stride]);
            if ended {
                return Ok(());
            }
            (cursor, next) = (next, cursor);
            started = true;
        }
    }

    fn walk(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), TableError> {
        let mut keys = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0; self.description.key_size as usize];
            let mut attributes = attributes();
            attributes.__bindgen_anon_2.map_fd = self.fd.as_raw_fd() as u32;
            attributes.__bindgen_anon_2.key = key.as_ref().map_or(0, |key| key.as_ptr() as u64);
            attributes.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
            // SAFETY: both keys have the map's size.
            match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attributes) } {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(self.failed("walk", error)),
            }
            keys.push(next.clone());
            key = Some(next);
        }
        let mut value = vec![0; self.value_stride];
        for key in &keys {
            if self.get(key, &mut value)? {
                visit(key, &value);
            }
        }
        Ok(())
    }
}

/// Types of maps that have all batch calls in Linux 6.1.
pub(crate) const BATCHED: [bpf_map_type; 3] =
    [bpf_map_type::BPF_MAP_TYPE_HASH, bpf_map_type::BPF_MAP_TYPE_ARRAY, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE];
