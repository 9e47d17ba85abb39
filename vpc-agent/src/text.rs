//! The text of a topology file, outside the agent's own memory.

use memmap2::{Mmap, UncheckedAdvice};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag},
    sys::stat::Mode,
    unistd::linkat,
};
use std::{
    fmt,
    fs::{self, File},
    io,
    ops::Range,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};
use vpc_topology::Source;

/// The kernel maps pages around one that is asked for, within blocks of this size (`fault_around_bytes`).
const AROUND: usize = 1 << 16;
/// The reader counts in 32 bits, and the copy takes room that others need.
const LARGEST: u64 = u32::MAX as u64;
/// Checked, and then given back, at once.
const WINDOW: usize = 1 << 20;

/// A text in a file that is the agent's own and that nobody writes to, mapped: what has been read of it is given back
/// ([`Source::pass`]) and comes again from the file.
pub struct Text {
    file: File,
    map: Mmap,
}

impl Text {
    /// A copy of a file as it is now, in a directory of the agent's own. It has no name there and goes with the value, or
    /// with the process.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 4 GiB or is no UTF-8, or the directory has no room for it.
    pub fn copy_of(path: &Path, directory: &Path) -> io::Result<Self> {
        let mut from = File::open(path)?;
        if from.metadata()?.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 GiB"));
        }
        let copy =
            |error: io::Error| io::Error::new(error.kind(), format!("copy it to {}: {error}", directory.display()));
        let mut file = unnamed(directory).map_err(|error| copy(error.into()))?;
        io::copy(&mut from, &mut file).map_err(copy)?;
        Self::of(file)
    }

    /// The text of a file that [`Text::keep_as`] made.
    ///
    /// # Errors
    /// It cannot be read or is no UTF-8.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        // SAFETY: the file is written to by nobody: it is without a name or was until it was complete, in the agent's own
        // directory, and is never opened for writing again.
        let map = unsafe { Mmap::map(&file)? };
        let text = Self { file, map };
        text.check()?;
        Ok(text)
    }

    /// Makes it a file of that name, in the directory that it was copied to. What had the name is replaced at once.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn keep_as(&self, path: &Path) -> io::Result<()> {
        let own = self.file.metadata()?;
        if fs::metadata(path).is_ok_and(|kept| (kept.dev(), kept.ino()) == (own.dev(), own.ino())) {
            return Ok(());
        }
        let next = path.with_extension("next");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let opened = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        match linkat(AT_FDCWD, &opened, AT_FDCWD, &next, AtFlags::AT_SYMLINK_FOLLOW) {
            // It had a name that another one has taken: Linux gives it no second one.
            Err(Errno::ENOENT) => fs::write(&next, &self.map)?,
            linked => linked?,
        }
        fs::rename(next, path)
    }

    /// Whether it is UTF-8, of which a window may cut a character.
    fn check(&self) -> io::Result<()> {
        let mut at = 0;
        while at < self.map.len() {
            let end = (at + WINDOW).min(self.map.len());
            let good = match std::str::from_utf8(&self.map[at..end]) {
                Ok(window) => window.len(),
                Err(error) if error.error_len().is_none() && end < self.map.len() => error.valid_up_to(),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
            self.pass(at..end);
            at += good;
        }
        Ok(())
    }
}

impl Source for Text {
    fn text(&self) -> &str {
        // SAFETY: it was checked, and nobody writes to it.
        unsafe { std::str::from_utf8_unchecked(&self.map) }
    }

    fn pass(&self, part: Range<usize>) {
        let start = part.start / AROUND * AROUND;
        let end = part.end.next_multiple_of(AROUND).min(self.map.len());
        if start >= end {
            return;
        }
        // SAFETY: a mapping of a file that is only read has nothing to lose: what is read next comes from the file.
        let given_back = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        // It is advice: where the kernel does not take it, the memory stays.
        debug_assert!(given_back.is_ok(), "{given_back:?}");
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        let (length, windows) = (self.map.len(), (0..self.map.len()).step_by(WINDOW));
        length == other.map.len()
            && windows.map(|at| at..(at + WINDOW).min(length)).all(|window| {
                let same = self.map[window.clone()] == other.map[window.clone()];
                self.pass(window.clone());
                other.pass(window);
                same
            })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.map.len())
    }
}

/// A file without a name.
fn unnamed(directory: &Path) -> Result<File, Errno> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file: OwnedFd = nix::fcntl::open(directory, flags, Mode::S_IRUSR)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("vag-text-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_copy_is_of_the_moment_and_can_be_kept() {
        let directory = directory("copy");
        let (path, kept) = (directory.join("t.yaml"), directory.join("kept.yaml"));
        fs::write(&path, "one").unwrap();
        let one = Text::copy_of(&path, &directory).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(one.text(), "one");
        let two = Text::copy_of(&path, &directory).unwrap();
        assert!(one != two && two == Text::copy_of(&path, &directory).unwrap());
        // Twice, over another one, and again.
        for text in [&one, &one, &two, &one] {
            text.keep_as(&kept).unwrap();
            assert_eq!(Text::open(&kept).unwrap().text(), text.text());
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "copies have no names");
        fs::write(&path, "").unwrap();
        assert_eq!(Text::copy_of(&path, &directory).unwrap().text(), "");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn characters_lie_across_windows_and_what_is_no_text_is_refused() {
        let directory = directory("utf8");
        let path = directory.join("t.yaml");
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "ä€😀".repeat(2 * WINDOW / 9));
            fs::write(&path, &text).unwrap();
            assert!(Text::copy_of(&path, &directory).unwrap().text() == text);
        }
        for bad in [b"a\xff".as_slice(), b"a\xe2\x82"] {
            fs::write(&path, bad).unwrap();
            let error = Text::copy_of(&path, &directory).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(Text::copy_of(&path, &directory).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_was_passed_is_given_back_and_comes_again() {
        let directory = directory("pass");
        let path = directory.join("t.yaml");
        fs::write(&path, "0123456789abcdef".repeat(WINDOW)).unwrap();
        let text = Text::copy_of(&path, &directory).unwrap();
        let resident = || {
            let range = text.map.as_ptr_range();
            let start = format!("{:x}-", range.start as usize);
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
            let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
            rss.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1_024
        };
        assert_eq!(resident(), 0, "nothing is left of the check");
        assert_eq!(text.text().bytes().filter(|byte| *byte == b'f').count(), WINDOW);
        assert!(resident() >= 16 * WINDOW);
        text.pass(0..8 * WINDOW);
        assert_eq!(resident(), 8 * WINDOW);
        assert_eq!(text.text().bytes().filter(|byte| *byte == b'e').count(), WINDOW);
        fs::remove_dir_all(&directory).unwrap();
    }
}
