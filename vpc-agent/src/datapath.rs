//! The loaded kernel side: programs, maps, and the links that hold the programs.

use crate::{
    attach::{AttachError, Attachments, LinkName, Refreshed, TcWay},
    bpffs,
    maps::Tables,
};
use std::{io, path::Path};
use thiserror::Error;
use vpc_bpf::{LoadError, Loaded, Loader, ProgramInfo, Sizes, TableError};

/// The kernel side could not be loaded.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The object.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The pinned links and the filters.
    #[error("open the pinned links and the filters")]
    Links(#[source] io::Error),
}

/// Programs, maps and links.
#[derive(Debug)]
pub struct Datapath {
    loaded: Loaded,
    /// The maps.
    pub tables: Tables,
    /// The links.
    pub attachments: Attachments,
}

impl Datapath {
    /// Loads the object, reusing what is pinned.
    ///
    /// # Errors
    /// Where the kernel refuses something; what was attached before stays as it was.
    pub fn load(bpffs: &Path, sizes: Sizes, way: TcWay) -> Result<Self, DatapathError> {
        let mut loaded = Self::prepare(bpffs, sizes)?;
        loaded.fill()?;
        let tables = Tables::new(&loaded)?;
        let attachments = Attachments::open(&bpffs::links(bpffs), way).map_err(DatapathError::Links)?;
        Ok(Self { loaded, tables, attachments })
    }

    /// Loads programs and maps of those sizes beside what is there: see [`Datapath::adopt`].
    ///
    /// # Errors
    /// As for [`Datapath::load`].
    pub fn prepare(bpffs: &Path, sizes: Sizes) -> Result<Loaded, DatapathError> {
        Ok(Loader::new(sizes).pin_dir(bpffs::maps(bpffs)).load()?)
    }

    /// Goes on with prepared programs and maps. [`Datapath::take_over`] is next, at once: what packets write to the old
    /// maps meanwhile is brought over then.
    ///
    /// # Errors
    /// Where a map cannot be read or written; nothing has changed then.
    pub fn adopt(&mut self, mut loaded: Loaded) -> Result<(), DatapathError> {
        loaded.fill()?;
        self.tables = Tables::new(&loaded)?;
        self.loaded = loaded;
        Ok(())
    }

    /// How programs get to TC ingress.
    pub fn way(&self) -> &TcWay {
        self.attachments.way()
    }

    /// Attaches the program that belongs to a link's name.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn attach(&mut self, name: &LinkName, ifindex: u32) -> Result<(), AttachError> {
        let program = self.loaded.program_fd(name.program()).map_err(|error| AttachError {
            operation: "find the program of",
            name: name.program().to_owned(),
            source: io::Error::new(io::ErrorKind::NotFound, error),
        })?;
        self.attachments.ensure(name, ifindex, program)
    }

    /// Puts this agent's programs in the place of those of an earlier one, then gives up the maps that only those used.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn take_over(&mut self) -> Result<usize, DatapathError> {
        let mut replaced = 0;
        self.loaded.catch_up()?;
        for name in self.attachments.names() {
            let program = self.loaded.program_fd(name.program())?;
            let info = self.loaded.program_info(name.program())?;
            match self.attachments.refresh(&name, program, &info) {
                Ok(Refreshed::Replaced) => replaced += 1,
                Ok(Refreshed::Same) => {}
                Err(error) => return Err(DatapathError::Links(io::Error::other(error))),
            }
        }
        self.loaded.commit()?;
        Ok(replaced)
    }

    /// What the kernel says of a program of this agent.
    ///
    /// # Errors
    /// Where there is none of that name, or the kernel does not tell.
    pub fn program_info(&self, name: &str) -> Result<ProgramInfo, LoadError> {
        self.loaded.program_info(name)
    }

    /// Names of all maps.
    pub fn map_names(&self) -> impl Iterator<Item = &str> {
        self.loaded.map_names()
    }

    /// Largest number of entries of a map, and its kernel memory in bytes.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn map_size(&self, name: &str) -> Result<(u32, u64), LoadError> {
        self.loaded.map_size(name)
    }
}
