//! Loads the kernel object: maps are reused where they are pinned and agree, programs where they are pinned and use those;
//! others are verified.

use crate::{
    Sizes, Table, TableError,
    copy::Copied,
    handover::Outgrown,
    map::{MapDescription, describe, memory},
    program::{ProgramInfo, program_info},
    syscall::{open_pin, pin},
    table::{PerCpuTable, RawTable},
    verified,
};
use aya::{EbpfLoader, maps::Map, programs::Program};
use aya_obj::generated::bpf_map_type;
use bytemuck::Pod;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::resume_unwind,
    path::PathBuf,
    thread,
};
use thiserror::Error;

/// Lines of the verifier's log that an error shows.
const LOG_LINES: usize = 20;
/// The kernel adds this flag to every device map.
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// The object could not be loaded. What was there before is as it was.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel or the loader refused a program.
    #[error("kernel {kernel} refuses program {program}: {source}\n{log}")]
    Program {
        /// Name of the program.
        program: String,
        /// Release of the kernel.
        kernel: String,
        /// The last lines of the verifier's log.
        log: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program could not be handed to the kernel.
    #[error("prepare program {program}")]
    Prepare {
        /// Name of the program.
        program: String,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The object or its maps.
    #[error("load the kernel object on kernel {kernel}")]
    Object {
        /// Release of the kernel.
        kernel: String,
        /// Why.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The object cannot be read.
    #[error("read the kernel object")]
    Parse(#[source] Box<aya_obj::ParseError>),
    /// A call on a pin.
    #[error("{operation} {}", path.display())]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The object has no map or program of that name.
    #[error("the kernel object has no {what} {name}")]
    Missing {
        /// "map" or "program".
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// Loads the object.
///
/// # Example
/// ```no_run
/// use vpc_bpf::{Loader, Sizes};
/// use vpc_common::{maps, port::Port};
/// let loaded = Loader::new(Sizes::default()).load()?;
/// let ports = loaded.table::<u32, Port>(maps::PORTS)?;
/// ports.set(&1, &Port { epoch: 1, ..Port::default() })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    sizes: Sizes,
    pins: Option<PathBuf>,
    object: Cow<'static, [u8]>,
}

/// A loaded object: its maps and its verified programs.
#[derive(Debug)]
pub struct Loaded {
    maps: BTreeMap<String, OwnedFd>,
    pub(crate) programs: BTreeMap<String, OwnedFd>,
    pub(crate) pins: Option<PathBuf>,
    pub(crate) outgrown: Vec<Outgrown>,
    /// What an agent that died between [`Loaded::fill`] and [`Loaded::commit`] left: programs may have written to it.
    pub(crate) abandoned: Vec<(String, RawTable)>,
    /// Where the programs are to be pinned, if they are not yet.
    pub(crate) unpinned: Option<PathBuf>,
}

impl Loader {
    /// A loader for maps of those sizes. Without a pin directory everything ends with [`Loaded`].
    pub fn new(sizes: Sizes) -> Self {
        Self { sizes, pins: None, object: Cow::Borrowed(crate::OBJECT) }
    }

    /// Reuses the maps and programs that are pinned there, and pins the others there. The directory is made if it is not
    /// there.
    pub fn pin_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.pins = Some(path.into());
        self
    }

    /// Loads another object than the one that is embedded: a variant for a measurement or a test. Its bytes must be
    /// aligned as those of [`crate::OBJECT`] are.
    pub fn object(mut self, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        self.object = bytes.into();
        self
    }

    /// Loads maps and programs.
    ///
    /// A pinned map is reused if type, sizes and flags agree. If they do not there is a new map, which is empty until
    /// [`Loaded::fill`], and the pin stays as it was until [`Loaded::commit`]. If all maps are reused, so are pinned programs
    /// of the same object that use them.
    ///
    /// # Errors
    /// See [`LoadError`]. Pinned maps and attached programs are untouched then.
    pub fn load(&self) -> Result<Loaded, LoadError> {
        let sizes = self.sizes.max_entries();
        let pinned = self.pinned(&sizes)?;
        let unpinned = self.pins.as_ref().map(|pins| verified::directory(pins, &self.object));
        if let Some(directory) = &unpinned
            && let Some(maps) = pinned.agreeing()
            && let Some(programs) = verified::find(directory, &pinned.programs, maps)?
        {
            return self.as_left(pinned.maps, programs);
        }
        let mut loader = EbpfLoader::new();
        // The programs ask nothing of the kernel's own types, of which there are a hundred thousand to be read.
        loader.btf(None);
        for (name, entries) in sizes {
            loader.map_max_entries(name, entries);
        }
        for (name, pin) in &pinned.maps {
            if let PinnedMap::Agrees(path, _) = pin {
                loader.map_pin_path(name.as_str(), path.as_path());
            }
        }
        let mut object = loader
            .load(&self.object)
            .map_err(|source| LoadError::Object { kernel: kernel_release(), source: Box::new(source) })?;
        // Each takes the kernel's verifier some tenths of a second, which it spends on the CPU that asks.
        let programs: Result<BTreeMap<_, _>, _> = thread::scope(|scope| {
            let verifying: Vec<_> = object
                .programs_mut()
                .map(|(name, program)| scope.spawn(move || verify(name, program).map(|fd| (name.to_owned(), fd))))
                .collect();
            verifying.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let programs = programs?;
        let mut loaded = Loaded {
            maps: BTreeMap::new(),
            programs,
            pins: self.pins.clone(),
            outgrown: Vec::new(),
            abandoned: Vec::new(),
            unpinned,
        };
        for (name, map) in object.maps() {
            // Sections of constants are maps too; they belong to the programs alone.
            if !name.starts_with('.') {
                let fd = map_fd(map).try_clone_to_owned().map_err(|source| LoadError::Pin {
                    operation: "duplicate the descriptor of map",
                    path: name.into(),
                    source,
                })?;
                loaded.maps.insert(name.to_owned(), fd);
            }
        }
        for (name, pin) in pinned.maps {
            loaded.take_over(&name, pin)?;
            if let Some(directory) = &self.pins {
                loaded.find_abandoned(&name, directory)?;
            }
        }
        Ok(loaded)
    }

    /// Goes on with what an agent of the same object and sizes has left.
    fn as_left(
        &self,
        maps: Vec<(String, PinnedMap)>,
        programs: BTreeMap<String, OwnedFd>,
    ) -> Result<Loaded, LoadError> {
        let agreeing = maps.into_iter().filter_map(|(name, map)| match map {
            PinnedMap::Agrees(_, fd) => Some((name, fd)),
            PinnedMap::Absent(_) | PinnedMap::Differs(_) => None,
        });
        let mut loaded = Loaded {
            maps: agreeing.collect(),
            programs,
            pins: self.pins.clone(),
            outgrown: Vec::new(),
            abandoned: Vec::new(),
            unpinned: None,
        };
        if let Some(directory) = &self.pins {
            for name in loaded.maps.keys().cloned().collect::<Vec<_>>() {
                loaded.find_abandoned(&name, directory)?;
            }
        }
        Ok(loaded)
    }

    /// Looks at the pins.
    fn pinned(&self, sizes: &[(&str, u32)]) -> Result<Pinned, LoadError> {
        let Some(directory) = &self.pins else { return Ok(Pinned::default()) };
        fs::create_dir_all(directory).map_err(|source| LoadError::Pin {
            operation: "make pin directory",
            path: directory.clone(),
            source,
        })?;
        let object = aya_obj::Object::parse(&self.object).map_err(|error| LoadError::Parse(Box::new(error)))?;
        let mut pinned = Vec::new();
        for (name, map) in &object.maps {
            if name.starts_with('.') {
                continue;
            }
            let path = directory.join(name);
            let wanted = MapDescription {
                name: name.clone(),
                kind: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries: sizes
                    .iter()
                    .find(|(sized, _)| sized == name)
                    .map_or(map.max_entries(), |(_, entries)| *entries),
                flags: map.map_flags(),
            };
            pinned.push((name.clone(), PinnedMap::look(path, &wanted)?));
        }
        Ok(Pinned { maps: pinned, programs: object.programs.into_keys().collect() })
    }
}

/// What is pinned of an object.
#[derive(Default)]
struct Pinned {
    /// What is there under the name of each of its maps.
    maps: Vec<(String, PinnedMap)>,
    /// The names of its programs.
    programs: Vec<String>,
}

impl Pinned {
    /// The maps, if each can be used as it is.
    fn agreeing(&self) -> Option<Vec<BorrowedFd<'_>>> {
        let agreeing = self.maps.iter().map(|(_, map)| match map {
            PinnedMap::Agrees(_, fd) => Some(fd.as_fd()),
            PinnedMap::Absent(_) | PinnedMap::Differs(_) => None,
        });
        agreeing.collect()
    }
}

/// What is at the place where a map is pinned.
enum PinnedMap {
    /// Nothing.
    Absent(PathBuf),
    /// A map that can be used as it is.
    Agrees(PathBuf, OwnedFd),
    /// A map of other sizes.
    Differs(OwnedFd),
}

impl PinnedMap {
    fn look(path: PathBuf, wanted: &MapDescription) -> Result<Self, LoadError> {
        let fd = match open_pin(&path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent(path)),
            Err(source) => return Err(LoadError::Pin { operation: "open pinned map", path, source }),
        };
        let mut actual = describe(fd.as_fd()).map_err(|source| LoadError::Pin {
            operation: "describe pinned map",
            path: path.clone(),
            source,
        })?;
        if actual.kind == bpf_map_type::BPF_MAP_TYPE_DEVMAP as u32 {
            actual.flags &= !BPF_F_RDONLY_PROG;
        }
        Ok(if actual.agrees(wanted) { Self::Agrees(path, fd) } else { Self::Differs(fd) })
    }
}

impl Loaded {
    /// The map of that name.
    ///
    /// # Errors
    /// Where there is none, or its layout is not that of the types.
    pub fn table<K: Pod, V: Pod>(&self, name: &str) -> Result<Table<K, V>, LoadError> {
        Ok(Table::new(self.map(name)?)?)
    }

    /// The per-CPU array of that name.
    ///
    /// # Errors
    /// Where there is none, or its layout is not that of the type.
    pub fn per_cpu<V: Pod>(&self, name: &str) -> Result<PerCpuTable<V>, LoadError> {
        Ok(PerCpuTable::new(self.map(name)?)?)
    }

    /// Names of all maps.
    pub fn map_names(&self) -> impl Iterator<Item = &str> {
        self.maps.keys().map(String::as_str)
    }

    /// Largest number of entries of a map, and the bytes of kernel memory that it takes.
    ///
    /// # Errors
    /// Where there is none of that name, or the kernel does not tell.
    pub fn map_size(&self, name: &str) -> Result<(u32, u64), LoadError> {
        let map = self.map_ref(name)?;
        let size = describe(map).and_then(|description| Ok((description.max_entries, memory(map)?)));
        size.map_err(|source| LoadError::Pin { operation: "read the size of map", path: name.into(), source })
    }

    /// Names of all programs.
    pub fn program_names(&self) -> impl Iterator<Item = &str> {
        self.programs.keys().map(String::as_str)
    }

    /// The program of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn program_fd(&self, name: &str) -> Result<BorrowedFd<'_>, LoadError> {
        let program = self.programs.get(name);
        program.map(OwnedFd::as_fd).ok_or_else(|| LoadError::Missing { what: "program", name: name.to_owned() })
    }

    /// What the kernel says of a program.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn program_info(&self, name: &str) -> Result<ProgramInfo, LoadError> {
        program_info(self.program_fd(name)?).map_err(|source| LoadError::Pin {
            operation: "read info of program",
            path: name.into(),
            source,
        })
    }

    fn map_ref(&self, name: &str) -> Result<BorrowedFd<'_>, LoadError> {
        let map = self.maps.get(name);
        map.map(OwnedFd::as_fd).ok_or_else(|| LoadError::Missing { what: "map", name: name.to_owned() })
    }

    pub(crate) fn map(&self, name: &str) -> Result<OwnedFd, LoadError> {
        self.map_ref(name)?.try_clone_to_owned().map_err(|source| LoadError::Pin {
            operation: "duplicate the descriptor of map",
            path: name.into(),
            source,
        })
    }

    fn take_over(&mut self, name: &str, pinned: PinnedMap) -> Result<(), LoadError> {
        match pinned {
            PinnedMap::Agrees(..) => Ok(()),
            PinnedMap::Absent(path) => pin(self.map_ref(name)?, &path).map_err(|source| LoadError::Pin {
                operation: "pin map at",
                path,
                source,
            }),
            PinnedMap::Differs(old) => {
                let (name, table) = (name.to_owned(), RawTable::new(old)?);
                self.outgrown.push(Outgrown { name, table, copied: Copied::default() });
                Ok(())
            }
        }
    }
}

fn verify(name: &str, program: &mut Program) -> Result<OwnedFd, LoadError> {
    use aya::programs::ProgramError;
    let result = match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    let fd = result.and_then(|()| Ok(program.fd()?.as_fd().try_clone_to_owned()?));
    fd.map_err(|error| match error {
        ProgramError::LoadError { io_error, verifier_log } => LoadError::Program {
            program: name.to_owned(),
            kernel: kernel_release(),
            log: last_lines(&verifier_log.to_string(), LOG_LINES),
            source: io_error,
        },
        source => LoadError::Prepare { program: name.to_owned(), source: Box::new(source) },
    })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The release of the running kernel, as `uname -r` shows it.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn map_fd(map: &Map) -> BorrowedFd<'_> {
    let data = match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::BloomFilter(data)
        | Map::CgroupArray(data)
        | Map::CgroupStorage(data)
        | Map::CgrpStorage(data)
        | Map::CpuMap(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::HashMap(data)
        | Map::HashOfMaps(data)
        | Map::InodeStorage(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuCgroupStorage(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::PerfEventArray(data)
        | Map::ProgramArray(data)
        | Map::Queue(data)
        | Map::ReusePortSockArray(data)
        | Map::RingBuf(data)
        | Map::SockHash(data)
        | Map::SockMap(data)
        | Map::SkStorage(data)
        | Map::Stack(data)
        | Map::StackTraceMap(data)
        | Map::Unsupported(data)
        | Map::XskMap(data) => data,
    };
    data.fd().as_fd()
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn an_error_shows_the_end_of_the_log() {
        assert_eq!(last_lines("a\nb\n\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
