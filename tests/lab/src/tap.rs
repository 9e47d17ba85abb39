//! The wire between a virtual machine and its tap device, without the machine: a guest's `eth0` is a tap as well, and all
//! that its kernel leaves to that interface goes on to the port's tap as a machine's would, with its virtio-net header:
//! checksums that are only begun, segments that are not cut.

use crate::netns::Netns;
use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What both ends of the wire take: unfinished checksums, segments of TCP over IPv4 and IPv6.
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// The same of UDP, which kernels before Linux 6.2 do not know.
const SEGMENTED_DATAGRAMS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
/// The longest frame, with its virtio-net header.
const LONGEST: usize = 1 << 17;
/// How long a frame is waited for before it is asked whether the wire is to end, ms.
const PATIENCE: i32 = 50;

/// The wire. Dropping it removes both devices.
pub struct TapWire {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl TapWire {
    /// Makes a tap in each namespace, and a wire between them.
    ///
    /// # Errors
    /// The kernel refuses a device.
    pub fn new(one: (&Netns, &str), other: (&Netns, &str)) -> Result<Self> {
        let (one, other) = (Arc::new(tap(one)?), Arc::new(tap(other)?));
        let end = Arc::new(AtomicBool::new(false));
        let carry = |from: &Arc<File>, to: &Arc<File>| {
            let (from, to, end) = (Arc::clone(from), Arc::clone(to), Arc::clone(&end));
            thread::spawn(move || carry(&from, &to, &end))
        };
        let threads = vec![carry(&one, &other), carry(&other, &one)];
        Ok(Self { end, threads })
    }
}

impl Drop for TapWire {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// A tap device that is there as long as the file is open.
fn tap((netns, name): (&Netns, &str)) -> Result<File> {
    const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let file = netns.enter(|| {
        // Which namespace it makes the device in is settled when it is opened.
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("open /dev/net/tun")?;
        // SAFETY: zero is valid for plain numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        ensure!(name.len() < request.ifr_name.len(), "{name} is no name of an interface");
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
        // SAFETY: the request is alive during the call.
        let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, std::ptr::from_mut(&mut request)) };
        if made < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("make the tap {name}"));
        }
        anyhow::Ok(file)
    })??;
    let offer = |offloads: libc::c_uint| {
        // SAFETY: the argument is a number.
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) }
    };
    if offer(OFFLOADS | SEGMENTED_DATAGRAMS) < 0 && offer(OFFLOADS) < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("offloads of {name}"));
    }
    Ok(file)
}

/// Carries frames as they are until the wire ends, on one CPU: what two CPUs hand over has no order.
fn carry(mut from: &File, mut to: &File, end: &AtomicBool) {
    let mut here = CpuSet::new();
    let _wherever =
        sched_getcpu().and_then(|cpu| here.set(cpu)).and_then(|()| sched_setaffinity(Pid::from_raw(0), &here));
    let mut frame = vec![0; LONGEST];
    while !end.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, alive during the call.
        if unsafe { libc::poll(&mut poll, 1, PATIENCE) } <= 0 {
            continue;
        }
        // A device that is down takes and gives nothing: what is on the wire is lost then, as on any other.
        if let Ok(length) = from.read(&mut frame) {
            let _lost = to.write(&frame[..length]);
        }
    }
}
