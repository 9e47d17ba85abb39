//! Programs on interfaces, by pinned links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};
use thiserror::Error;
use vpc_bpf::{Hook, Link, ProgramInfo, program_info_by_id};

/// Ends the name under which a link is pinned before it takes its place.
const NEXT: &str = "-next";

/// A program could not be attached, replaced or detached.
#[derive(Debug, Error)]
#[error("{operation} {name}")]
pub struct AttachError {
    /// What was tried.
    pub operation: &'static str,
    /// Name of the link.
    pub name: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl AttachError {
    /// The number that the kernel answered with.
    pub fn number(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// What a link is for. Its pin's name is made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// A port, by its uid.
    Port(u64),
    /// The tunnel device.
    Tunnel,
    /// An uplink, by its interface's name.
    Uplink(String, UplinkHook),
}

/// Which of the two programs an uplink has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UplinkHook {
    /// XDP in the driver.
    Xdp,
    /// TC ingress.
    Tc,
}

impl LinkName {
    fn file(&self) -> String {
        match self {
            Self::Port(uid) => format!("port-{uid:016x}"),
            Self::Tunnel => "tunnel".to_owned(),
            Self::Uplink(device, UplinkHook::Xdp) => format!("uplink-xdp-{}", encode(device)),
            Self::Uplink(device, UplinkHook::Tc) => format!("uplink-tc-{}", encode(device)),
        }
    }

    fn parse(file: &str) -> Option<Self> {
        if file == "tunnel" {
            return Some(Self::Tunnel);
        }
        if let Some(uid) = file.strip_prefix("port-") {
            return u64::from_str_radix(uid, 16).ok().map(Self::Port);
        }
        let xdp = file.strip_prefix("uplink-xdp-").map(|device| (device, UplinkHook::Xdp));
        let (device, hook) = xdp.or_else(|| Some((file.strip_prefix("uplink-tc-")?, UplinkHook::Tc)))?;
        Some(Self::Uplink(decode(device)?, hook))
    }

    /// Where its program is attached.
    pub fn hook(&self) -> Hook {
        match self {
            Self::Uplink(_, UplinkHook::Xdp) => Hook::XdpNative,
            _ => Hook::TcxIngress,
        }
    }

    /// Name of its program.
    pub fn program(&self) -> &'static str {
        use vpc_common::maps::programs;
        match self {
            Self::Port(_) => programs::PORT,
            Self::Tunnel => programs::TUNNEL,
            Self::Uplink(_, UplinkHook::Xdp) => programs::UPLINK_XDP,
            Self::Uplink(_, UplinkHook::Tc) => programs::UPLINK_TC,
        }
    }
}

/// Names of interfaces may hold dots, which the BPF file system takes in no name.
fn encode(device: &str) -> String {
    device.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Option<String> {
    let digits = |start| text.get(start..start + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
    String::from_utf8(bytes?).ok()
}

/// All links of this node.
#[derive(Debug)]
pub struct Attachments {
    directory: PathBuf,
    links: BTreeMap<LinkName, Link>,
}

impl Attachments {
    /// Opens those that are pinned.
    ///
    /// # Errors
    /// Where the directory cannot be made or read.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let files = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut links = BTreeMap::new();
        for file in files.collect::<io::Result<BTreeSet<String>>>()? {
            // A crash between the two steps of pinning left the newer link under its first name. It sorts behind the
            // older one, whose place it takes.
            let name = file.strip_suffix(NEXT).unwrap_or(&file);
            if name != file {
                fs::rename(directory.join(&file), directory.join(name))?;
            }
            if let Some(parsed) = LinkName::parse(name) {
                links.insert(parsed, Link::open(&directory.join(name))?);
            }
        }
        Ok(Self { directory: directory.to_owned(), links })
    }

    /// Names of all links.
    pub fn names(&self) -> impl Iterator<Item = &LinkName> {
        self.links.keys()
    }

    /// Whether the link is on that interface.
    pub fn is_on(&self, name: &LinkName, ifindex: u32) -> bool {
        let info = self.links.get(name).and_then(|link| link.info().ok());
        info.is_some_and(|info| info.ifindex == ifindex && info.hook == Some(name.hook()))
    }

    /// Attaches the program unless the link is on that interface already, with whatever program: see
    /// [`Attachments::refresh`].
    ///
    /// # Errors
    /// See [`Link::attach`].
    pub fn ensure(&mut self, name: &LinkName, ifindex: u32, program: BorrowedFd<'_>) -> Result<(), AttachError> {
        if self.is_on(name, ifindex) {
            return Ok(());
        }
        let failed = |operation| {
            let name = name.file();
            move |source| AttachError { operation, name, source }
        };
        let link =
            Link::attach(program, ifindex, name.hook()).map_err(|error| match (error.raw_os_error(), name.hook()) {
                (Some(libc::EINVAL), Hook::TcxIngress) if vpc_bpf::tcx_ingress_programs(ifindex).is_err() => {
                    let text = format!("kernel {} has no TCX, which Linux 6.6 brought", vpc_bpf::kernel_release());
                    failed("attach")(io::Error::new(io::ErrorKind::Unsupported, text))
                }
                _ => failed("attach")(error),
            })?;
        let (next, path) = (self.directory.join(format!("{}{NEXT}", name.file())), self.directory.join(name.file()));
        link.pin(&next).map_err(failed("pin"))?;
        fs::rename(&next, &path).map_err(failed("pin"))?;
        // A link to an interface that is gone ends here.
        self.links.insert(name.clone(), link);
        Ok(())
    }

    /// Puts the program in the place of an older one. The same program is left where it is.
    ///
    /// # Errors
    /// Where the kernel refuses it; the old one stays.
    pub fn refresh(
        &self,
        name: &LinkName,
        program: BorrowedFd<'_>,
        program_info: &ProgramInfo,
    ) -> Result<Refreshed, AttachError> {
        let failed = |operation| {
            let name = name.file();
            move |source| AttachError { operation, name, source }
        };
        let Some(link) = self.links.get(name) else { return Ok(Refreshed::Same) };
        let info = link.info().map_err(failed("read"))?;
        if info.ifindex == 0 {
            return Ok(Refreshed::Same);
        }
        let old = program_info_by_id(info.program).map_err(failed("read the program of"))?;
        if is_same(&old, program_info) {
            return Ok(Refreshed::Same);
        }
        link.replace(program).map_err(failed("replace the program of"))?;
        Ok(Refreshed::Replaced)
    }

    /// Detaches.
    ///
    /// # Errors
    /// Where the pin cannot be removed.
    pub fn remove(&mut self, name: &LinkName) -> Result<(), AttachError> {
        let path = self.directory.join(name.file());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(AttachError { operation: "remove", name: name.file(), source })
            }
            _ => {
                self.links.remove(name);
                Ok(())
            }
        }
    }
}

/// What [`Attachments::refresh`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The program was there already.
    Same,
    /// It took the place of another one.
    Replaced,
}

/// The tag leaves out which maps are used, so those are compared as well. Sections of constants are maps of their own
/// for each load: a program that has one is never the same.
fn is_same(old: &ProgramInfo, new: &ProgramInfo) -> bool {
    let sorted = |ids: &[u32]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    old.tag == new.tag && sorted(&old.map_ids) == sorted(&new.map_ids)
}

#[cfg(test)]
mod tests {
    use super::{LinkName, UplinkHook};

    #[test]
    fn names_of_links_read_back() {
        for name in [
            LinkName::Port(0xfeed),
            LinkName::Tunnel,
            LinkName::Uplink("eth1.5".to_owned(), UplinkHook::Xdp),
            LinkName::Uplink("bond-0".to_owned(), UplinkHook::Tc),
        ] {
            assert!(!name.file().contains('.'));
            assert_eq!(LinkName::parse(&name.file()), Some(name));
        }
        assert_eq!(LinkName::parse("port-00ff-next"), None);
        assert_eq!(LinkName::parse("tunnel-next"), None);
    }
}
