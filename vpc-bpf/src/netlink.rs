//! Netlink requests by hand, answered at once: what the kernel's features and filters are asked with.

use std::{
    cell::Cell,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Bytes in front of a message's own header.
const HEADER: usize = 16;
/// Larger than any datagram that the kernel answers with.
const BUFFER: usize = 64 << 10;

/// A request. Every one is acknowledged.
pub(crate) struct Request {
    kind: u16,
    flags: libc::c_int,
    body: Vec<u8>,
}

impl Request {
    /// A request with its family's own header.
    pub(crate) fn new(kind: u16, flags: libc::c_int, header: &[u8]) -> Self {
        Self { kind, flags, body: header.to_vec() }
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.body, kind, value);
        self
    }

    fn write(&self, datagram: &mut Vec<u8>, sequence: u32) {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | self.flags) as u16;
        datagram.extend_from_slice(&((HEADER + self.body.len()) as u32).to_ne_bytes());
        datagram.extend_from_slice(&self.kind.to_ne_bytes());
        datagram.extend_from_slice(&flags.to_ne_bytes());
        datagram.extend_from_slice(&sequence.to_ne_bytes());
        datagram.extend_from_slice(&[0; 4]);
        datagram.extend_from_slice(&self.body);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }
}

/// Appends an attribute, padded to four bytes.
pub(crate) fn put_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A message of an answer.
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: u16,
    /// Its family's header and attributes.
    pub(crate) body: Vec<u8>,
}

/// What one request was answered with.
pub(crate) type Answer = io::Result<Vec<Message>>;

/// A socket to the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens one.
    pub(crate) fn open(protocol: libc::c_int) -> io::Result<Self> {
        // SAFETY: plain call without addresses.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, sequence: Cell::new(1) })
    }

    /// Asks one thing.
    pub(crate) fn ask(&self, request: Request) -> Answer {
        let [answer] = self.exchange([request])?;
        answer
    }

    /// Asks several things by one system call: the kernel takes all of them even if this process is killed meanwhile.
    pub(crate) fn exchange<const N: usize>(&self, requests: [Request; N]) -> io::Result<[Answer; N]> {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(N as u32));
        let mut datagram = Vec::new();
        for (sequence, request) in (0..).zip(&requests) {
            request.write(&mut datagram, first.wrapping_add(sequence));
        }
        // SAFETY: the buffer is alive and has the stated length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answers = requests.map(|_| Ok(Vec::new()));
        let mut open = N;
        while open > 0 {
            let received = self.receive()?;
            for (sequence, message) in messages(&received) {
                // What an earlier exchange did not wait for is passed over.
                let Some(answer) = answers.get_mut(sequence.wrapping_sub(first) as usize) else { continue };
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        open = open.saturating_sub(1);
                        let code = message.body.get(..4).and_then(|bytes| bytes.try_into().ok());
                        match code.map_or(0, i32::from_ne_bytes) {
                            0.. => {}
                            code => *answer = Err(io::Error::from_raw_os_error(-code)),
                        }
                    }
                    _ => {
                        if let Ok(answer) = answer {
                            answer.push(message);
                        }
                    }
                }
            }
        }
        Ok(answers)
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0_u8; BUFFER];
        // SAFETY: the buffer is alive and has the stated length.
        let received = unsafe { libc::recv(self.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        bytes.truncate(received as usize);
        Ok(bytes)
    }
}

/// Walks over the messages of a datagram: sequence number and message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Message)> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = word(bytes, 8)?;
        let body = bytes.get(HEADER..length)?.to_vec();
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((sequence, Message { kind, body }))
    })
}

/// The four bytes at an offset.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Walks over attributes: kind without its flag bits, and value.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of a kind.
    pub(crate) fn value(self, wanted: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    /// The same, as a number of four bytes.
    pub(crate) fn number(self, wanted: u16) -> Option<u32> {
        word(self.value(wanted)?, 0)
    }

    /// The same, as text up to its terminating zero.
    pub(crate) fn text(self, wanted: u16) -> Option<String> {
        let value = self.value(wanted)?;
        Some(String::from_utf8_lossy(value.split(|byte| *byte == 0).next()?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, put_attribute};

    #[test]
    fn attributes_read_back() {
        let mut body = Vec::new();
        put_attribute(&mut body, 1, b"bpf\0");
        put_attribute(&mut body, 7, b"odd\0\0");
        put_attribute(&mut body, 0x8000 | 6, &9_u32.to_ne_bytes());
        assert_eq!(body.len() % 4, 0);
        assert_eq!(Attributes(&body).text(1).as_deref(), Some("bpf"));
        assert_eq!(Attributes(&body).text(7).as_deref(), Some("odd"));
        assert_eq!(Attributes(&body).number(6), Some(9));
        assert_eq!(Attributes(&body).number(2), None);
    }
}
