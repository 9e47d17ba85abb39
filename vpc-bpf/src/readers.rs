//! Waiting for programs that run.

use crate::{
    TableError,
    syscall::{attributes, bpf, bpf_fd},
};
use aya_obj::generated::{bpf_cmd, bpf_map_type};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// The programs that read maps at this moment. A kernel map gives the place of an entry that is deleted to the next one
/// that is put in, while a program that has found it a moment before still reads there: whoever deletes waits for those
/// programs before anything else is put in.
#[derive(Debug)]
pub struct Readers {
    /// A map of one map. The kernel returns from a change of such a map when every program has ended that may have found
    /// what was there before (`maybe_wait_bpf_programs`, since Linux 4.20); for other maps it does not.
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Readers {
    /// Makes what is needed for it.
    ///
    /// # Errors
    /// The kernel refuses a map.
    pub fn new() -> Result<Self, TableError> {
        let make = || {
            let inner = create(bpf_map_type::BPF_MAP_TYPE_ARRAY, None)?;
            Ok(Self { outer: create(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(&inner))?, inner })
        };
        make().map_err(|source| failed("create", source))
    }

    /// Returns when every program that runs now has ended: some milliseconds, by the kernel's grace period.
    ///
    /// # Errors
    /// The kernel refuses the call.
    pub fn wait(&self) -> Result<(), TableError> {
        let (key, value) = (0_u32, self.inner.as_raw_fd());
        let mut attributes = attributes();
        attributes.__bindgen_anon_2.map_fd = self.outer.as_raw_fd() as u32;
        attributes.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
        attributes.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_ref(&value) as u64;
        // SAFETY: key and value are of the map's sizes, four bytes each, and outlive the call.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) }
            .map(drop)
            .map_err(|source| failed("wait for programs by a change", source))
    }
}

fn create(kind: bpf_map_type, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_1.map_type = kind as u32;
    attributes.__bindgen_anon_1.key_size = 4;
    attributes.__bindgen_anon_1.value_size = 4;
    attributes.__bindgen_anon_1.max_entries = 1;
    attributes.__bindgen_anon_1.inner_map_fd = inner.map_or(0, |fd| fd.as_raw_fd() as u32);
    // SAFETY: no addresses are passed.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attributes) }
}

fn failed(operation: &'static str, source: io::Error) -> TableError {
    TableError::Call { operation, map: "of maps".to_owned(), source }
}
