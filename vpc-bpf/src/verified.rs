//! Programs that the kernel has verified already: pinned, so that an agent that starts again need not wait for that.

use crate::{
    LoadError,
    map::id,
    program::program_info,
    syscall::{open_pin, pin},
};
use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::Hasher,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The directory of all pinned programs, among the pins of maps.
const DIRECTORY: &str = "programs";

/// Where the programs of an object are pinned. A file system for BPF is empty after a boot, so that its kernel is this one.
pub(crate) fn directory(pins: &Path, object: &[u8]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    hash.write(object);
    pins.join(DIRECTORY).join(format!("{:016x}", hash.finish()))
}

/// The programs of these names, if all are there and use no other maps than these.
///
/// # Errors
/// Where the kernel does not tell.
pub(crate) fn find<'a>(
    directory: &Path,
    names: impl IntoIterator<Item = &'a String>,
    maps: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> Result<Option<BTreeMap<String, OwnedFd>>, LoadError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Pin { operation, path, source }
    };
    let maps: BTreeSet<u32> =
        maps.into_iter().map(id).collect::<io::Result<_>>().map_err(failed("read the maps for", directory))?;
    let mut programs = BTreeMap::new();
    for name in names {
        let path = directory.join(name);
        let program = match open_pin(&path) {
            Ok(program) => program,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("open pinned program", &path)(source)),
        };
        let info = program_info(program.as_fd()).map_err(failed("read info of program", &path))?;
        if !info.map_ids.iter().all(|id| maps.contains(id)) {
            return Ok(None);
        }
        programs.insert(name.clone(), program);
    }
    Ok(Some(programs))
}

/// Pins programs in the place of all that are pinned.
///
/// # Errors
/// Where the kernel refuses it.
pub(crate) fn keep(directory: &Path, programs: &BTreeMap<String, OwnedFd>) -> Result<(), LoadError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Pin { operation, path, source }
    };
    if let Some(all) = directory.parent() {
        match fs::remove_dir_all(all) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove pinned programs in", all)(error));
            }
            _ => {}
        }
    }
    fs::create_dir_all(directory).map_err(failed("make pin directory", directory))?;
    programs.iter().try_for_each(|(name, program)| {
        let path = directory.join(name);
        pin(program.as_fd(), &path).map_err(failed("pin program at", &path))
    })
}
