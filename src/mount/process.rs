//! What /proc tells of a process, read while it waits for an answer.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Clock ticks from the machine's start to its own: with its number it means this process only.
    pub start: u64,
    /// The program's file.
    pub exe: PathBuf,
    /// Its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Its working directory, empty where that is not known.
    pub cwd: PathBuf,
}

/// Shells that people type commands into.
const SHELLS: [&str; 6] = ["sh", "dash", "bash", "zsh", "ksh", "fish"];

impl Facts {
    /// Reads them; none if there is no such process, or it may not be looked at.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let stat = fs::read(proc.join("stat")).ok()?;
        let [parent, group, start] = numbers(&stat)?;
        let cmdline = fs::read(proc.join("cmdline")).ok()?;
        let args = cmdline.strip_suffix(b"\0").unwrap_or(&cmdline);
        let first = args.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            pid,
            parent: i32::try_from(parent).ok()?,
            group: i32::try_from(group).ok()?,
            start: u64::try_from(start).ok()?,
            // A daemon in a user namespace of its own may read neither.
            exe: fs::read_link(proc.join("exe"))
                .unwrap_or_else(|_denied| OsStr::from_bytes(first).into()),
            argv: args.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
            cwd: fs::read_link(proc.join("cwd")).unwrap_or_default(),
        })
    }

    /// The process that a thread belongs to.
    pub(super) fn process_of(thread: i32) -> Option<i32> {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        line.trim().parse().ok()
    }

    /// The program's name for people: the last part of its first argument, or of its file.
    pub(super) fn name(&self) -> String {
        let first = self.argv.first().map_or(&b""[..], Vec::as_slice);
        let first = first.strip_prefix(b"-").unwrap_or(first);
        let name = first
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        match name {
            b"" => {
                let file = self.exe.file_name().unwrap_or_default();
                file.to_string_lossy().into_owned()
            }
            name => String::from_utf8_lossy(name).into_owned(),
        }
    }

    /// Its command line for people.
    pub(super) fn title(&self) -> String {
        let words: Vec<_> = self
            .argv
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        words.join(" ").chars().take(300).collect()
    }

    /// Whether it is a shell that somebody types commands into: it has no script.
    pub(super) fn is_interactive(&self) -> bool {
        let is_option = |arg: &Vec<u8>| arg.starts_with(b"-") && !arg.contains(&b'c');
        SHELLS.contains(&&*self.name()) && self.argv.iter().skip(1).all(is_option)
    }

    /// Whether a process that it has started belongs to the same command: it is somewhere below `dir`, or in the same
    /// process group where that is not known.
    pub(super) fn goes_with(&self, started: &Self, dir: &Path) -> bool {
        match self.cwd.as_os_str().is_empty() {
            true => self.group == started.group,
            false => self.cwd.starts_with(dir),
        }
    }
}

/// Parent, process group and time of start out of proc_pid_stat(5).
fn numbers(stat: &[u8]) -> Option<[i64; 3]> {
    // The name in parentheses may hold anything.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some([number(1)?, number(2)?, number(19)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_of_itself() {
        let own = i32::try_from(std::process::id()).unwrap();
        let facts = Facts::of(own).unwrap();
        assert_eq!(facts.parent, nix::unistd::getppid().as_raw());
        assert_eq!(facts.group, nix::unistd::getpgrp().as_raw());
        assert_eq!(facts.cwd, std::env::current_dir().unwrap());
        let args: Vec<_> = std::env::args().map(String::into_bytes).collect();
        assert_eq!(facts.argv, args);
        let thread = || Facts::process_of(nix::unistd::gettid().as_raw());
        assert_eq!(std::thread::spawn(thread).join().unwrap(), Some(own));
    }

    #[test]
    fn names_do_not_confuse() {
        let stat = b"7 (a) b (c) S 3 4 5 0 -1 4194304 1 2 3 4 5 6 7 8 9 10 11 0 99 1\n";
        assert_eq!(numbers(stat), Some([3, 4, 99]));
        assert_eq!(numbers(b"7 (a"), None);
    }

    #[test]
    fn shells_without_a_script_are_interactive() {
        let shell = |words: &str| Facts {
            pid: 7,
            parent: 1,
            group: 7,
            start: 0,
            exe: "/bin/bash".into(),
            argv: words
                .split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect(),
            cwd: "/w".into(),
        };
        for words in ["-bash", "bash -i", "/bin/zsh --login"] {
            assert!(shell(words).is_interactive(), "{words}");
        }
        for words in ["sh -c make", "bash x.sh", "make -j2", "bash -ec make"] {
            assert!(!shell(words).is_interactive(), "{words}");
        }
        let goes = |dir: &str| shell("sh").goes_with(&shell("sh"), Path::new(dir));
        assert!(goes("/w") && !goes("/w/x"));
    }
}
