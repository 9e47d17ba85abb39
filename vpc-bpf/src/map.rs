//! What the kernel says of a map.

use crate::{syscall, table::BATCHED};
use aya_obj::generated::{bpf_map_info, bpf_map_type};
use std::{io, os::fd::BorrowedFd};

/// Type, sizes and flags of a map. Two maps that agree in it can stand for one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDescription {
    /// As the kernel knows it: at most 15 bytes.
    pub name: String,
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, of one CPU.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*` of creation.
    pub flags: u32,
}

impl MapDescription {
    /// Whether every CPU has its own value.
    pub fn is_per_cpu(&self) -> bool {
        self.kind == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32
            || self.kind == bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH as u32
    }

    pub(crate) fn is_array(&self) -> bool {
        let arrays = [
            bpf_map_type::BPF_MAP_TYPE_ARRAY,
            bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
            bpf_map_type::BPF_MAP_TYPE_DEVMAP,
        ];
        arrays.iter().any(|kind| *kind as u32 == self.kind)
    }

    pub(crate) fn has_batch_calls(&self) -> bool {
        BATCHED.iter().any(|kind| *kind as u32 == self.kind)
    }

    /// Whether keys and values of one can be written to the other.
    pub(crate) fn same_layout(&self, other: &Self) -> bool {
        (self.kind, self.key_size, self.value_size) == (other.kind, other.key_size, other.value_size)
    }

    /// Whether the other map can be used in its place: everything but the name.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.same_layout(other) && (self.max_entries, self.flags) == (other.max_entries, other.flags)
    }
}

pub(crate) fn describe(fd: BorrowedFd<'_>) -> io::Result<MapDescription> {
    // SAFETY: the descriptor is a map's (the kernel refuses another length for other kinds only by content, which is
    // plain numbers in any case), and zero is valid for the structure.
    let info: bpf_map_info = unsafe { syscall::info(fd)? };
    Ok(MapDescription {
        name: syscall::name(&info.name),
        kind: info.type_,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// The map's id, which no other map has.
pub(crate) fn id(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: as in `describe`.
    let info: bpf_map_info = unsafe { syscall::info(fd)? };
    Ok(info.id)
}

/// Bytes of kernel memory that a map takes, from its descriptor's `fdinfo`.
///
/// # Errors
/// Where /proc is not there.
pub fn memory(fd: BorrowedFd<'_>) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no memlock line in fdinfo"))
}
