//! Families of generic netlink.

use crate::netlink::{Attributes, Request, Socket};
use std::io;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Bytes of the header of generic netlink.
const HEADER: usize = 4;

/// A family, asked in the current network namespace.
#[derive(Debug)]
pub(crate) struct Family {
    socket: Socket,
    id: u16,
}

impl Family {
    /// Opens the family of that name, which ends with a zero. Returns its description too.
    ///
    /// # Errors
    /// ENOENT where the kernel has no such family.
    pub(crate) fn open(name: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        let control = Self { socket: Socket::open(libc::NETLINK_GENERIC)?, id: GENL_ID_CTRL };
        let description = control.ask(CTRL_CMD_GETFAMILY, &[(CTRL_ATTR_FAMILY_NAME, name)])?;
        let id = Attributes(&description)
            .value(CTRL_ATTR_FAMILY_ID)
            .and_then(|value| value.get(..2)?.try_into().ok())
            .map(u16::from_ne_bytes)
            .ok_or_else(|| invalid("no family id in the kernel's answer"))?;
        Ok((Self { id, ..control }, description))
    }

    /// Sends a request with attributes and returns those of the answer.
    ///
    /// # Errors
    /// The kernel refuses it, or answers nothing.
    pub(crate) fn ask(&self, command: u8, attributes: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
        let request = Request::new(self.id, 0, &[command, 1, 0, 0]);
        let request = attributes.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value));
        let message = self.socket.ask(request)?.into_iter().next().ok_or_else(|| invalid("no answer of the kernel"))?;
        message.body.get(HEADER..).map(<[u8]>::to_vec).ok_or_else(|| invalid("the kernel's answer is too short"))
    }
}

pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
