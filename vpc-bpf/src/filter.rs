//! Filters: a program at TC ingress by the clsact qdisc, for kernels without TCX.
//!
//! A filter outlives the process that made it, as a pinned link does. It has no descriptor: ours are told from others
//! by their place (priority and handle) and by their name, which also says what they are for and who made the qdisc.

use crate::netlink::{Answer, Attributes, Request, Socket, put_attribute, word};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Before all others, as far as the kernel lets anyone be first.
const PRIORITY: u16 = 1;
/// "vpc" and 1: nobody numbers by hand up to there, and the kernel numbers from 1.
const HANDLE: u32 = 0x7670_6301;
/// Begins the name of every filter of ours.
const PREFIX: &str = "vpc-dataplane";
/// Follows [`PREFIX`] where the qdisc was made together with the filter.
const WITH_QDISC: &str = "+clsact";

const TC_H_CLSACT: u32 = 0xffff_fff1;
const QDISC_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// `struct tcmsg`.
const HEADER: usize = 20;
const ETH_P_ALL: u16 = 3;

/// A filter of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Index of the interface.
    pub ifindex: u32,
    /// What it is for, as it was said when it was made.
    pub name: String,
    /// Id of the program.
    pub program: u32,
    qdisc: Qdisc,
}

/// A filter of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFilter {
    /// What it is called; its kind where it has no name.
    pub name: String,
    /// Id of its program; 0 where it has none.
    pub program: u32,
}

/// Who made the qdisc that a filter hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qdisc {
    /// It came with the filter and goes with it, unless something else hangs on it then.
    Ours,
    /// It was there before.
    Foreign,
}

/// The filters of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Filters {
    socket: Socket,
}

/// A filter of whomever, as the kernel tells it.
struct Listed {
    kind: String,
    chain: u32,
    handle: u32,
    priority: u16,
    protocol: u16,
    name: String,
    program: u32,
}

impl Filters {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// Where the kernel gives none.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(libc::NETLINK_ROUTE)? })
    }

    /// Ours, on all interfaces.
    ///
    /// # Errors
    /// Where the kernel refuses a request.
    pub fn all(&self) -> io::Result<Vec<Filter>> {
        let mut found = Vec::new();
        for ifindex in self.interfaces_with_qdisc()? {
            found.extend(self.on(ifindex)?);
        }
        Ok(found)
    }

    /// Ours on an interface, if one is there.
    ///
    /// # Errors
    /// Where the kernel refuses the request.
    pub fn on(&self, ifindex: u32) -> io::Result<Option<Filter>> {
        Ok(self.list(ifindex, INGRESS)?.into_iter().find_map(|listed| listed.ours(ifindex)))
    }

    /// Those of others that see frames before ours does, in their order. None where ours is not there.
    ///
    /// # Errors
    /// Where the kernel refuses the request.
    pub fn before(&self, ifindex: u32) -> io::Result<Vec<ForeignFilter>> {
        let listed = self.list(ifindex, INGRESS)?;
        let ours = listed.iter().position(|listed| listed.ours(ifindex).is_some()).unwrap_or_default();
        // The kernel also lists places that hold filters, with handle 0.
        let before = listed.into_iter().take(ours).filter(|listed| listed.chain == 0 && listed.handle != 0);
        let foreign = |listed: Listed| {
            let name = if listed.name.is_empty() { listed.kind } else { listed.name };
            ForeignFilter { name, program: listed.program }
        };
        Ok(before.map(foreign).collect())
    }

    /// Puts a program at TC ingress of an interface, before every other one. Where a filter of ours is there it is
    /// replaced in its place, whatever its name: no frame passes without one of the two programs.
    ///
    /// # Errors
    /// ENODEV where the interface is gone; `AlreadyExists` where somebody else's filter has the place, which is left as
    /// it is.
    pub fn attach(&self, ifindex: u32, name: &str, program: BorrowedFd<'_>) -> io::Result<()> {
        let listed = self.list(ifindex, INGRESS)?;
        if let Some(own) = listed.iter().find_map(|listed| listed.ours(ifindex)) {
            return self.socket.ask(new_filter(ifindex, name, own.qdisc, program, libc::NLM_F_REPLACE)).map(drop);
        }
        if let Some(foreign) = listed.iter().find(|listed| listed.is_in_the_way()) {
            let text =
                format!("somebody else's {} filter has priority {PRIORITY} there; it is left in place", foreign.kind);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        if self.interfaces_with_qdisc()?.contains(&ifindex) {
            return self.socket.ask(new_filter(ifindex, name, Qdisc::Foreign, program, new)).map(drop);
        }
        // Both at once: a qdisc that was made is never without the filter that says so.
        let qdisc = qdisc(libc::RTM_NEWQDISC, new, ifindex).attribute(TCA_KIND, b"clsact\0");
        let [made, filter] = self.socket.exchange([qdisc, new_filter(ifindex, name, Qdisc::Ours, program, new)])?;
        match made {
            // Somebody made it in between, and so our filter says what is not so.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                filter?;
                self.socket.ask(new_filter(ifindex, name, Qdisc::Foreign, program, libc::NLM_F_REPLACE)).map(drop)
            }
            made => made.and(filter).map(drop),
        }
    }

    /// Removes a filter of ours, and the qdisc if it came with the filter and nothing else hangs on it. It is no error
    /// if the filter, or the interface, is gone.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn remove(&self, filter: &Filter) -> io::Result<()> {
        let there = self.on(filter.ifindex)?;
        // Another filter of ours took its place, or an interface the index of the one that is gone.
        let Some(there) = there.filter(|there| there.name == filter.name) else { return Ok(()) };
        let header = tcmsg(there.ifindex, HANDLE, INGRESS, place());
        unless_gone(self.socket.ask(Request::new(libc::RTM_DELTFILTER, 0, &header)))?;
        if there.qdisc == Qdisc::Ours
            && self.list(there.ifindex, INGRESS)?.is_empty()
            && self.list(there.ifindex, EGRESS)?.is_empty()
        {
            unless_gone(self.socket.ask(qdisc(libc::RTM_DELQDISC, 0, there.ifindex)))?;
        }
        Ok(())
    }

    /// Interfaces that have a clsact or an ingress qdisc, either of which takes filters.
    fn interfaces_with_qdisc(&self) -> io::Result<Vec<u32>> {
        let request = Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, &[0; HEADER]);
        let answer = self.socket.ask(request)?;
        let qdiscs = answer.iter().filter(|message| message.kind == libc::RTM_NEWQDISC);
        Ok(qdiscs
            .filter(|message| word(&message.body, 12) == Some(TC_H_CLSACT))
            .filter_map(|message| word(&message.body, 4))
            .collect())
    }

    fn list(&self, ifindex: u32, parent: u32) -> io::Result<Vec<Listed>> {
        let header = tcmsg(ifindex, 0, parent, 0);
        let answer = self.socket.ask(Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, &header))?;
        let filters = answer.iter().filter(|message| message.kind == libc::RTM_NEWTFILTER);
        Ok(filters.filter_map(|message| Listed::parse(&message.body)).collect())
    }
}

impl Listed {
    fn parse(body: &[u8]) -> Option<Self> {
        let (handle, info) = (word(body, 8)?, word(body, 16)?);
        let attributes = || Attributes(body.get(HEADER..).unwrap_or_default());
        let options = || Attributes(attributes().value(TCA_OPTIONS).unwrap_or_default());
        Some(Self {
            kind: attributes().text(TCA_KIND).unwrap_or_default(),
            chain: attributes().number(TCA_CHAIN).unwrap_or_default(),
            handle,
            priority: (info >> 16) as u16,
            protocol: u16::from_be(info as u16),
            name: options().text(TCA_BPF_NAME).unwrap_or_default(),
            program: options().number(TCA_BPF_ID).unwrap_or_default(),
        })
    }

    fn is_bpf_at_our_priority(&self) -> bool {
        self.chain == 0 && self.priority == PRIORITY && self.protocol == ETH_P_ALL && self.kind == "bpf"
    }

    fn ours(&self, ifindex: u32) -> Option<Filter> {
        let (qdisc, name) = parse_name(&self.name)?;
        let here = self.is_bpf_at_our_priority() && self.handle == HANDLE;
        here.then(|| Filter { ifindex, name: name.to_owned(), program: self.program, qdisc })
    }

    /// Whether ours could not be attached, or not before it: one priority holds one kind and protocol, and of programs
    /// the one that was added last comes first.
    fn is_in_the_way(&self) -> bool {
        let same_priority = self.chain == 0 && self.priority == PRIORITY;
        same_priority && (!self.is_bpf_at_our_priority() || self.handle == HANDLE)
    }
}

fn format_name(qdisc: Qdisc, name: &str) -> String {
    let with = if qdisc == Qdisc::Ours { WITH_QDISC } else { "" };
    format!("{PREFIX}{with}:{name}")
}

fn parse_name(text: &str) -> Option<(Qdisc, &str)> {
    let (who, name) = text.split_once(':')?;
    match who.strip_prefix(PREFIX)? {
        "" => Some((Qdisc::Foreign, name)),
        WITH_QDISC => Some((Qdisc::Ours, name)),
        _ => None,
    }
}

fn place() -> u32 {
    u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be())
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (at, number) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    header
}

fn qdisc(kind: u16, flags: libc::c_int, ifindex: u32) -> Request {
    Request::new(kind, flags, &tcmsg(ifindex, QDISC_HANDLE, TC_H_CLSACT, 0))
}

fn new_filter(ifindex: u32, name: &str, qdisc: Qdisc, program: BorrowedFd<'_>, flags: libc::c_int) -> Request {
    let mut text = format_name(qdisc, name).into_bytes();
    text.push(0);
    let mut options = Vec::new();
    put_attribute(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
    put_attribute(&mut options, TCA_BPF_NAME, &text);
    put_attribute(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
    Request::new(libc::RTM_NEWTFILTER, flags, &tcmsg(ifindex, HANDLE, INGRESS, place()))
        .attribute(TCA_KIND, b"bpf\0")
        .attribute(TCA_OPTIONS | libc::NLA_F_NESTED as u16, &options)
}

fn unless_gone(answer: Answer) -> io::Result<()> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::{Qdisc, format_name, parse_name};

    #[test]
    fn names_tell_who_made_the_qdisc() {
        for qdisc in [Qdisc::Ours, Qdisc::Foreign] {
            assert_eq!(parse_name(&format_name(qdisc, "port-00ff")), Some((qdisc, "port-00ff")));
        }
        for foreign in ["cil_from_container", "vpc-dataplane", "vpc-dataplane+x:tunnel", "x:vpc-dataplane"] {
            assert_eq!(parse_name(foreign), None);
        }
    }
}
