//! Programs on interfaces: by pinned links, and at TC ingress by filters where the kernel has no TCX.

mod name;
mod way;

pub use name::{LinkName, UplinkHook};
pub use way::{TcWay, TcWish};

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};
use thiserror::Error;
use vpc_bpf::{Filter, Filters, ForeignFilter, Hook, Link, ProgramInfo, program_info_by_id};

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

    fn new(operation: &'static str, name: &LinkName) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self { operation, name: name.file(), source }
    }
}

/// All programs of this node on interfaces.
#[derive(Debug)]
pub struct Attachments {
    directory: PathBuf,
    way: TcWay,
    links: BTreeMap<LinkName, Link>,
    filters: Filters,
    held: BTreeMap<LinkName, Filter>,
}

impl Attachments {
    /// Opens the links that are pinned, and finds the filters that an earlier agent left.
    ///
    /// # Errors
    /// Where the directory cannot be made or read, or the kernel does not tell the filters.
    pub fn open(directory: &Path, way: TcWay) -> io::Result<Self> {
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
        let filters = Filters::open()?;
        let mut held: BTreeMap<LinkName, Filter> = BTreeMap::new();
        for filter in filters.all()? {
            let Some(name) = LinkName::parse(&filter.name) else { continue };
            // A crash while a port went from one interface to another left it on both.
            if let Some(other) = held.insert(name, filter) {
                filters.remove(&other)?;
            }
        }
        Ok(Self { directory: directory.to_owned(), way, links, filters, held })
    }

    /// How programs get to TC ingress.
    pub fn way(&self) -> &TcWay {
        &self.way
    }

    /// Filters of others that see frames before ours does, where programs are attached by filters.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn filters_before(&self, ifindex: u32) -> io::Result<Vec<ForeignFilter>> {
        self.filters.before(ifindex)
    }

    /// What programs are attached for.
    pub fn names(&self) -> BTreeSet<LinkName> {
        self.links.keys().chain(self.held.keys()).cloned().collect()
    }

    /// Attaches the program unless it is on that interface already, of whatever version: see [`Attachments::refresh`].
    ///
    /// # Errors
    /// See [`Link::attach`] and [`Filters::attach`].
    pub fn ensure(&mut self, name: &LinkName, ifindex: u32, program: BorrowedFd<'_>) -> Result<(), AttachError> {
        if name.hook() == Hook::TcxIngress && self.way != TcWay::Tcx {
            self.ensure_filter(name, ifindex, program)?;
            // The one of an agent that took the other way.
            return self.remove_link(name);
        }
        self.ensure_link(name, ifindex, program)?;
        self.remove_filter(name)
    }

    fn ensure_link(&mut self, name: &LinkName, ifindex: u32, program: BorrowedFd<'_>) -> Result<(), AttachError> {
        let info = self.links.get(name).and_then(|link| link.info().ok());
        if info.is_some_and(|info| info.ifindex == ifindex && info.hook == Some(name.hook())) {
            return Ok(());
        }
        let link = Link::attach(program, ifindex, name.hook()).map_err(AttachError::new("attach", name))?;
        let (next, path) = (self.directory.join(format!("{}{NEXT}", name.file())), self.directory.join(name.file()));
        let failed = AttachError::new("pin", name);
        link.pin(&next).map_err(failed)?;
        fs::rename(&next, &path).map_err(failed)?;
        // A link to an interface that is gone ends here.
        self.links.insert(name.clone(), link);
        Ok(())
    }

    fn ensure_filter(&mut self, name: &LinkName, ifindex: u32, program: BorrowedFd<'_>) -> Result<(), AttachError> {
        let failed = AttachError::new("read the filter of", name);
        let mut there = self.filters.on(ifindex).map_err(failed)?;
        if there.as_ref().is_none_or(|filter| filter.name != name.file()) {
            self.filters.attach(ifindex, &name.file(), program).map_err(AttachError::new("attach", name))?;
            there = self.filters.on(ifindex).map_err(failed)?;
            // What was there under another name has been replaced.
            self.held.retain(|_, filter| filter.ifindex != ifindex);
        }
        let Some(filter) = there else { return Err(AttachError::new("find", name)(io::ErrorKind::NotFound.into())) };
        match self.held.insert(name.clone(), filter) {
            Some(old) if old.ifindex != ifindex => {
                self.filters.remove(&old).map_err(AttachError::new("remove the former filter of", name))
            }
            _ => Ok(()),
        }
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
        let mut refreshed = Refreshed::Same;
        let is_new = |id| match program_info_by_id(id) {
            Ok(old) => Ok(!is_same(&old, program_info)),
            Err(error) => Err(AttachError::new("read the program of", name)(error)),
        };
        let failed = AttachError::new("replace the program of", name);
        if let Some(link) = self.links.get(name) {
            let info = link.info().map_err(AttachError::new("read", name))?;
            if info.ifindex != 0 && is_new(info.program)? {
                link.replace(program).map_err(failed)?;
                refreshed = Refreshed::Replaced;
            }
        }
        if let Some(held) = self.held.get(name) {
            let there = self.filters.on(held.ifindex).map_err(AttachError::new("read the filter of", name))?;
            if let Some(filter) = there.filter(|filter| filter.name == held.name)
                && is_new(filter.program)?
            {
                self.filters.attach(filter.ifindex, &filter.name, program).map_err(failed)?;
                refreshed = Refreshed::Replaced;
            }
        }
        Ok(refreshed)
    }

    /// Detaches.
    ///
    /// # Errors
    /// Where the pin or the filter cannot be removed.
    pub fn remove(&mut self, name: &LinkName) -> Result<(), AttachError> {
        self.remove_filter(name)?;
        self.remove_link(name)
    }

    fn remove_link(&mut self, name: &LinkName) -> Result<(), AttachError> {
        if !self.links.contains_key(name) {
            return Ok(());
        }
        match fs::remove_file(self.directory.join(name.file())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AttachError::new("remove", name)(error)),
            _ => {
                self.links.remove(name);
                Ok(())
            }
        }
    }

    fn remove_filter(&mut self, name: &LinkName) -> Result<(), AttachError> {
        let Some(filter) = self.held.get(name) else { return Ok(()) };
        self.filters.remove(filter).map_err(AttachError::new("remove the filter of", name))?;
        self.held.remove(name);
        Ok(())
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
