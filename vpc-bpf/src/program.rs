//! What the kernel says of a loaded program.

use crate::syscall;
use aya_obj::generated::{bpf_cmd, bpf_prog_info};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// A program as the kernel verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id.
    pub id: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Hash of its instructions, maps left out.
    pub tag: [u8; 8],
    /// Instructions that the verifier walked: the measure of the verifier budget.
    pub verified_instructions: u32,
    /// Bytes of instructions after the verifier's rewriting.
    pub translated_bytes: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Ids of the maps that it uses.
    pub map_ids: Vec<u32>,
}

/// Reads a program's info.
///
/// # Errors
/// Where the kernel refuses the call.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // SAFETY: the descriptor is a program's, and zero is valid for the structure.
    let counted: bpf_prog_info = unsafe { syscall::info(program)? };
    let mut map_ids = vec![0_u32; counted.nr_map_ids as usize];
    // SAFETY: zero is valid for plain numbers and addresses.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    info.nr_map_ids = counted.nr_map_ids;
    info.map_ids = map_ids.as_mut_ptr() as u64;
    let mut attributes = syscall::attributes();
    attributes.info.bpf_fd = program.as_raw_fd() as u32;
    attributes.info.info_len = size_of::<bpf_prog_info>() as u32;
    attributes.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: `info` and the list of map ids in it outlive the call and have the lengths that it states.
    unsafe { syscall::bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
    map_ids.truncate(info.nr_map_ids as usize);
    Ok(ProgramInfo {
        id: info.id,
        name: syscall::name(&info.name),
        tag: info.tag,
        verified_instructions: info.verified_insns,
        translated_bytes: info.xlated_prog_len,
        jited_bytes: info.jited_prog_len,
        map_ids,
    })
}

/// Reads the info of a program that is known by its id only, such as a foreign one.
///
/// # Errors
/// Where it is gone.
pub fn program_info_by_id(id: u32) -> io::Result<ProgramInfo> {
    let fd = syscall::open_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)?;
    program_info(std::os::fd::AsFd::as_fd(&fd))
}
