//! The `bpf(2)` system call.

use aya_obj::generated::{bpf_attr, bpf_cmd};
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Attributes of a call, all zero.
pub(crate) fn attributes() -> bpf_attr {
    // SAFETY: the union consists of plain numbers and addresses, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Runs one command.
///
/// # Safety
/// Every address in `attributes` points to memory of the length that the command reads or writes there, alive until
/// the call returns.
pub(crate) unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the pointer and the length describe one live union; the caller answers for the addresses inside.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_uint, std::ptr::from_mut(attributes), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Runs a command whose result is a new descriptor.
///
/// # Safety
/// As [`bpf`].
pub(crate) unsafe fn bpf_fd(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: handed on to the caller.
    let fd = unsafe { bpf(command, attributes)? };
    // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Opens what is pinned at a path (`BPF_OBJ_GET`).
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let mut attributes = attributes();
    attributes.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attributes) }
}

/// Pins an object at a path (`BPF_OBJ_PIN`).
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    let mut attributes = attributes();
    attributes.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    attributes.__bindgen_anon_4.bpf_fd = fd.as_raw_fd() as u32;
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attributes) }.map(drop)
}

/// Reads an object's info (`BPF_OBJ_GET_INFO_BY_FD`).
///
/// # Safety
/// `T` is the info structure of the object's kind, and zero is a valid value of it.
pub(crate) unsafe fn info<T>(fd: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: the caller answers for zero being valid.
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attributes = attributes();
    attributes.info.bpf_fd = fd.as_raw_fd() as u32;
    attributes.info.info_len = size_of::<T>() as u32;
    attributes.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the address and the length describe `info`; addresses inside it are zero, so the kernel follows none.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
    Ok(info)
}

/// Opens an object of that kind by its id.
pub(crate) fn open_id(command: bpf_cmd, id: u32) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: no addresses are passed.
    unsafe { bpf_fd(command, &mut attributes) }
}

/// The name in an info structure, up to its first zero byte.
pub(crate) fn name(bytes: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
