//! TC programs of somebody else: what another tool puts on the interface of a port.

use crate::netns::Netns;
use anyhow::{Context, Result};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Where a program goes in the list of its hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Before all that are there, as tools do that want to see everything.
    First,
    /// Behind them, as tools do by default.
    Last,
}

/// What a program does with every frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The next program decides.
    Next = -1,
    /// Drops it.
    Drop = 2,
}

/// A program at TCX ingress of an interface. It stays there as long as the value.
pub struct ForeignProgram {
    link: OwnedFd,
}

/// Its name, as `vpcctl status` shows it.
pub const NAME: &str = "foreign";

impl ForeignProgram {
    /// Loads and attaches one. Needs Linux 6.6.
    ///
    /// # Errors
    /// The interface is not there, or the kernel refuses the program.
    pub fn attach(netns: &Netns, device: &str, place: Place, effect: Effect) -> Result<Self> {
        let link = netns.enter(|| {
            let index = nix::net::if_::if_nametoindex(device)?;
            let program = load(effect)?;
            attach(&program, index, place)
        })?;
        Ok(Self { link: link.with_context(|| format!("attach a program to {device}"))? })
    }
}

impl Drop for ForeignProgram {
    /// Detaches it: to close the link is not enough while a program that another thread starts has a copy of it.
    fn drop(&mut self) {
        let attributes = DetachAttributes { link: self.link.as_raw_fd() as u32 };
        // SAFETY: no addresses are passed.
        if let Err(error) = unsafe { call(BPF_LINK_DETACH, &attributes) } {
            eprintln!("detach a program: {error}");
        }
    }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_F_BEFORE: u32 = 1 << 3;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is not given for zero.
#[repr(C)]
#[derive(Default)]
struct ProgramAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The same for `BPF_LINK_DETACH`.
#[repr(C)]
struct DetachAttributes {
    link: u32,
}

/// `r0 = effect; exit`.
fn load(effect: Effect) -> io::Result<OwnedFd> {
    let instructions = [(effect as u32 as u64) << 32 | 0xb7, 0x95_u64];
    let mut attributes = ProgramAttributes {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgramAttributes::default()
    };
    attributes.name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    // SAFETY: the instructions and the licence outlive the call, and their lengths are right.
    unsafe { bpf(BPF_PROG_LOAD, &attributes) }
}

fn attach(program: &OwnedFd, ifindex: u32, place: Place) -> io::Result<OwnedFd> {
    let flags = if place == Place::First { BPF_F_BEFORE } else { 0 };
    let attributes =
        LinkAttributes { program: program.as_raw_fd() as u32, ifindex, attach_type: BPF_TCX_INGRESS, flags };
    // SAFETY: no addresses are passed.
    unsafe { bpf(BPF_LINK_CREATE, &attributes) }
}

/// Runs a command that gives a descriptor.
///
/// # Safety
/// As for [`call`].
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's word.
    let fd = unsafe { call(command, attributes)? };
    // SAFETY: the kernel just made it for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a command.
///
/// # Safety
/// `T` is how the attributes of the command begin, and every address inside is good until the call returns.
unsafe fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the pointer and the length describe one value that the kernel only reads; the rest is the caller's word.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
