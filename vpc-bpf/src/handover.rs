//! From maps of one size to maps of another, under traffic: filled, caught up, used by all programs, caught up, pinned.

use crate::{
    LoadError, Loaded, Readers,
    copy::{Copied, catch_up, copy_entries},
    syscall::{open_pin, pin},
    table::RawTable,
    verified,
};
use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// A map that another one takes the place of.
#[derive(Debug)]
pub(crate) struct Outgrown {
    pub(crate) name: String,
    pub(crate) table: RawTable,
    /// What the other one has got of it.
    pub(crate) copied: Copied,
}

impl Loaded {
    /// Names of the maps that were made anew although one was pinned, since sizes differ. The attached programs still
    /// use the old ones.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        self.outgrown.iter().map(|outgrown| outgrown.name.as_str())
    }

    /// Fills the maps that were made anew with what the old ones hold, and pins them beside those.
    ///
    /// # Errors
    /// Where a map cannot be read or written, or a pin cannot be made.
    pub fn fill(&mut self) -> Result<(), LoadError> {
        for mut outgrown in std::mem::take(&mut self.outgrown) {
            let new = RawTable::new(self.map(&outgrown.name)?)?;
            outgrown.copied = copy_entries(&outgrown.name, &outgrown.table, &new)?;
            if let Some(directory) = &self.pins {
                let next = next_pin(directory, &outgrown.name);
                unpin(&next)?;
                pin(new.fd.as_fd(), &next).map_err(|source| LoadError::Pin {
                    operation: "pin map at",
                    path: next,
                    source,
                })?;
            }
            self.outgrown.push(outgrown);
        }
        Ok(())
    }

    /// Brings over what packets have changed in the old maps since they were last read. Right before the programs are
    /// replaced: what comes into the old maps from here on is missing in the new ones until the next time, and a packet
    /// that needs it is dropped.
    ///
    /// # Errors
    /// Where a map cannot be read or written.
    pub fn catch_up(&mut self) -> Result<(), LoadError> {
        let mut outgrown = std::mem::take(&mut self.outgrown);
        let caught_up = outgrown.iter_mut().try_for_each(|Outgrown { name, table, copied }| {
            Ok(catch_up(name, table, &RawTable::new(self.map(name)?)?, copied)?)
        });
        self.outgrown = outgrown;
        caught_up
    }

    /// Gives the old maps up: brings over what packets have changed in them, and pins the new ones in their places, and the
    /// programs. Called once the programs are replaced: a crash before it leaves the old pins, and the next start copies again.
    ///
    /// # Errors
    /// Where a map cannot be read or written, or a pin cannot be made or moved.
    pub fn commit(&mut self) -> Result<(), LoadError> {
        self.catch_up()?;
        if !self.outgrown.is_empty() {
            // The last packets of the replaced programs, which may still have written to the old maps.
            Readers::new()?.wait()?;
            self.catch_up()?;
        }
        let Some(directory) = self.pins.clone() else { return Ok(()) };
        for (name, table) in std::mem::take(&mut self.abandoned) {
            catch_up(&name, &table, &RawTable::new(self.map(&name)?)?, &mut Copied::default())?;
            if self.outgrown.iter().all(|outgrown| outgrown.name != name) {
                unpin(&next_pin(&directory, &name))?;
            }
        }
        for Outgrown { name, .. } in std::mem::take(&mut self.outgrown) {
            let path = directory.join(&name);
            fs::rename(next_pin(&directory, &name), &path).map_err(|source| LoadError::Pin {
                operation: "move pin to",
                path,
                source,
            })?;
        }
        if let Some(directory) = &self.unpinned {
            verified::keep(directory, &self.programs)?;
            self.unpinned = None;
        }
        Ok(())
    }

    pub(crate) fn find_abandoned(&mut self, name: &str, directory: &Path) -> Result<(), LoadError> {
        let path = next_pin(directory, name);
        match open_pin(&path) {
            Ok(fd) => self.abandoned.push((name.to_owned(), RawTable::new(fd)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(LoadError::Pin { operation: "open pinned map", path, source }),
        }
        Ok(())
    }
}

/// Where a map is pinned before it takes the place of another one.
fn next_pin(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}-next"))
}

/// Removes a pin if it is there.
fn unpin(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LoadError::Pin { operation: "remove pin", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
