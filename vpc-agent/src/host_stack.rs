//! Keeps the host's own network stack silent on the interfaces of ports.
//!
//! What the guest sends never reaches the host. But the host would send too: an interface that is up gets a link-local
//! address, and with it come router solicitations and multicast reports, past every policy, into the guest.

use std::{fs, io, path::PathBuf};

/// Switches the host's IPv6 off on an interface. It is no error if the kernel has no IPv6 or the interface is gone.
///
/// # Errors
/// Where /proc/sys cannot be written.
pub fn silence(device: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys/net/ipv6/conf").join(device).join("disable_ipv6");
    let result = match fs::read_to_string(&path) {
        Ok(text) if text.trim() == "1" => Ok(()),
        Ok(_) => fs::write(&path, "1"),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
