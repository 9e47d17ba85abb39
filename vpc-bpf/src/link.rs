//! Links: a program attached to an interface, by a descriptor that can be pinned.
//!
//! Made with the system calls themselves, since the attachment must never fall back to another kind behind the caller's
//! back: a kernel without TCX is found out by [`has_tcx`] and served by [`crate::Filters`].

use crate::syscall::{attributes, bpf, bpf_fd, info, open_pin, pin};
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, bpf_attach_type, bpf_cmd, bpf_link_info, bpf_link_type};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TC ingress by TCX, before every other program there. Linux 6.6.
    TcxIngress,
    /// XDP in the driver.
    XdpNative,
}

/// A program on an interface. Dropping it detaches the program unless the link is pinned.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Where it is; none for other kinds of links.
    pub hook: Option<Hook>,
    /// Index of the interface; 0 once that is gone.
    pub ifindex: u32,
    /// Id of the program.
    pub program: u32,
}

impl Link {
    /// Attaches a program.
    ///
    /// # Errors
    /// EBUSY where another XDP program is there, EOPNOTSUPP or EINVAL where the driver has no native XDP, or none with
    /// frags at the interface's MTU.
    pub fn attach(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<Self> {
        let mut attributes = attributes();
        attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        attributes.link_create.__bindgen_anon_2.target_ifindex = ifindex;
        match hook {
            Hook::TcxIngress => {
                attributes.link_create.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
                // Before all others: nobody may take a frame away from the policy. Neither an id nor a descriptor
                // stands beside the flag, so it means the head of the list.
                attributes.link_create.flags = BPF_F_BEFORE;
            }
            Hook::XdpNative => {
                attributes.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
                attributes.link_create.flags = XDP_FLAGS_DRV_MODE;
            }
        }
        // SAFETY: no addresses are passed.
        let fd = unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attributes)? };
        Ok(Self { fd })
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// ENOENT where there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open_pin(path)? })
    }

    /// Pins it.
    ///
    /// # Errors
    /// EEXIST where something is pinned there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.fd.as_fd(), path)
    }

    /// Puts another program in the place of the present one. No frame passes without one of the two.
    ///
    /// # Errors
    /// ENOLINK or EINVAL where the interface is gone.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attributes = attributes();
        attributes.link_update.link_fd = self.fd.as_raw_fd() as u32;
        attributes.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
        // SAFETY: no addresses are passed.
        unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attributes) }.map(drop)
    }

    /// Where it is, and which program it holds.
    ///
    /// # Errors
    /// Where the kernel refuses the call.
    pub fn info(&self) -> io::Result<LinkInfo> {
        // SAFETY: the descriptor is a link's, and zero is valid for the structure.
        let link: bpf_link_info = unsafe { info(self.fd.as_fd())? };
        // SAFETY: the kernel filled in the member that belongs to the kind.
        let (hook, ifindex) = unsafe {
            if link.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
                let ingress = link.__bindgen_anon_1.tcx.attach_type == bpf_attach_type::BPF_TCX_INGRESS as u32;
                (ingress.then_some(Hook::TcxIngress), link.__bindgen_anon_1.tcx.ifindex)
            } else if link.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
                (Some(Hook::XdpNative), link.__bindgen_anon_1.xdp.ifindex)
            } else {
                (None, 0)
            }
        };
        Ok(LinkInfo { hook, ifindex, program: link.prog_id })
    }
}

const BPF_F_BEFORE: u32 = 1 << 3;

/// The loopback device of every network namespace.
const LOOPBACK: u32 = 1;

/// Whether the kernel has TCX, found out by asking it for the programs on the loopback device. Linux 6.6 has.
///
/// # Errors
/// Where the kernel refuses the question for another reason than not knowing it.
pub fn has_tcx() -> io::Result<bool> {
    match tcx_ingress_programs(LOOPBACK) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ids of the programs at TC ingress of an interface by TCX, in the order in which they run. Linux 6.6.
///
/// # Errors
/// EINVAL before Linux 6.6; ENODEV where the interface is gone.
pub fn tcx_ingress_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; 64];
    let mut attributes = attributes();
    attributes.query.__bindgen_anon_1.target_ifindex = ifindex;
    attributes.query.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    attributes.query.prog_ids = ids.as_mut_ptr() as u64;
    attributes.query.__bindgen_anon_2.count = ids.len() as u32;
    // SAFETY: the list of ids has the stated length and outlives the call.
    unsafe { bpf(bpf_cmd::BPF_PROG_QUERY, &mut attributes)? };
    // SAFETY: the kernel wrote how many there are.
    ids.truncate(unsafe { attributes.query.__bindgen_anon_2.count } as usize);
    Ok(ids)
}
