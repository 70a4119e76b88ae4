//! `rfs reproduce`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::{console, place};
use crate::base::{Access, Dep, Digest, Name, Record, State, Stdin, What};
use crate::cache::Cache;
use crate::disk::{Disk, RealDisk, hash};
use crate::query::reproduce::{self, Recipe};
use crate::runner::STATE;
use crate::runner::replica::{self, Looks, Piece};
use clap::builder::NonEmptyStringValueParser;
use nix::fcntl::{FcntlArg, fcntl};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Run a step again where only its recorded inputs are visible
///
/// Its inputs are at their places with the content that they had, and nothing else is there, but /proc, /dev and
/// an empty /tmp. Environment, umask and working directory are as they were; its own command reads what it read from
/// standard input. What it writes is compared with what is recorded,
/// and gone at the end: the workspace is not touched. Exits as the command does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, or a step by its number (`12`, of run 3: `3:12`)
    #[arg(value_name = "PATH|STEP", value_parser = NonEmptyStringValueParser::new())]
    subject: String,
    /// The step's own command, in place of a shell
    #[arg(short = 'x', long)]
    exec: bool,
    /// Go on although contents of inputs are gone: those are missing
    #[arg(long)]
    incomplete: bool,
    /// The run that is asked about [default: the last one]
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Directory of the cache, where contents are looked for [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Another command, in place of a shell
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "exec")]
    command: Vec<OsString>,
}

/// Links that are followed one after the other.
const MAX_LINKS: u32 = 8;

/// What a shell for people needs beside the inputs.
const TOOLS: [&str; 6] = [
    "/bin/sh",
    "/bin/ls",
    "/bin/cat",
    "/usr/bin/env",
    "/usr/bin/find",
    "/usr/bin/cmp",
];

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let subject = asked.subject(&args.subject);
    let recipe = reproduce::recipe(&asked.state, args.run, &subject).map_err(ask::explained)?;
    let config = place::config(&asked.root)?;
    let dir = place::cache(
        args.cache_dir.as_deref(),
        config.cache_dir.as_deref(),
        &asked.cwd,
    )?;
    let cache = dir
        .exists()
        .then(|| Cache::open(&dir, Arc::new(RealDisk)).ok())
        .flatten();
    let mut tree = Tree {
        root: &asked.root,
        cache: cache.as_ref(),
        recipe: &recipe,
        pieces: BTreeMap::new(),
        gone: Vec::new(),
    };
    tree.fill();
    let is_shell = !args.exec && args.command.is_empty();
    if is_shell {
        tree.add_tools();
    }
    let (pieces, gone) = (tree.pieces, tree.gone);
    // What was open for looking would be in the way of the step's own descriptors.
    drop(cache);
    let root = asked.root.clone();
    drop(asked);
    for name in &gone {
        console::warn(format_args!("what {name} had as content is gone"), None);
    }
    if !gone.is_empty() && !args.incomplete {
        let error = CommandError::new(format_args!("{} inputs are not to be had", gone.len()));
        return Err(error.hint("--incomplete goes on without them"));
    }
    let on = root.join(STATE).with_file_name("reproduce");
    RealDisk.mkdir_all(&on, 0o777).map_err(CommandError::new)?;
    replica::enter(&on, pieces).map_err(|error| {
        CommandError::new(error).hint("`rfs doctor` tells whether namespaces are allowed here")
    })?;
    let status = start(&recipe, &root, args)?;
    if args.exec {
        compare(&recipe.record, &root, status);
    }
    Ok(status)
}

/// Starts the command in the tree, and waits for it.
fn start(recipe: &Recipe, root: &Path, args: &Args) -> Result<i32, CommandError> {
    let own = &recipe.record.command;
    let word = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut command = match args.command.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            let _args = command.args(rest);
            command
        }
        None if args.exec => {
            let mut command = Command::new(own.program.at(root));
            let mut words = own.argv.iter().map(|bytes| word(bytes));
            let first = words.next().unwrap_or_default();
            let _args = command.arg0(first).args(words);
            command
        }
        None => {
            console::tell(format_args!("the command was: {}", recipe.step.command));
            Command::new(TOOLS[0])
        }
    };
    let _clear = command.env_clear();
    for entry in &recipe.start.env {
        if let Some(at) = entry.iter().position(|byte| *byte == b'=') {
            let _set = command.env(word(&entry[..at]), word(&entry[at + 1..]));
        }
    }
    let umask = nix::sys::stat::Mode::from_bits_truncate(recipe.umask);
    let _before = nix::sys::stat::umask(umask);
    let cwd = own.cwd.at(root);
    let failed = |error| {
        let program = command_name(args, recipe);
        let error = CommandError::new(format_args!("exec {program}: {error}"));
        error.hint("only what the step looked at is there")
    };
    // Before anything else takes one of their numbers.
    lend(&recipe.descriptors)?;
    if args.exec {
        if let Some(input) = input(recipe, root)? {
            let _stdin = command.stdin(input);
        }
    } else if let Stdin::File { name, pos, .. } = &recipe.record.stdin {
        console::tell(format_args!(
            "its standard input was {name}, from byte {pos} on"
        ));
    }
    let status = command.current_dir(cwd).status().map_err(failed)?;
    let signal = status.signal().map(|signal| 128 + signal);
    Ok(status.code().or(signal).unwrap_or(1))
}

fn command_name(args: &Args, recipe: &Recipe) -> String {
    match args.command.first() {
        Some(program) => program.to_string_lossy().into_owned(),
        None if args.exec => recipe.record.command.program.to_string(),
        None => TOOLS[0].to_owned(),
    }
}

/// Tells how what it did differs from what is recorded.
fn compare(record: &Record, root: &Path, status: i32) {
    if status != record.status {
        let was = record.status;
        console::tell(format_args!(
            "it ended with {status}, and with {was} when it was recorded"
        ));
    }
    let mut n_same = 0;
    for output in &record.outputs {
        let path = output.name.at(root);
        let is_as_recorded = match &output.what {
            What::File { digest, .. } => digest_of(&path).as_ref() == Some(digest),
            What::Link(text) => {
                fs::read_link(&path).is_ok_and(|found| found.as_os_str().as_bytes() == text)
            }
            What::Absent => fs::symlink_metadata(&path).is_err(),
            What::Dir(_) => path.is_dir(),
            What::Fifo(_) | What::HardLink(_) | What::Attributes(_) => path.exists(),
        };
        if is_as_recorded {
            n_same += 1;
        } else {
            console::tell(format_args!("{} is not as recorded", output.name));
        }
    }
    let n_all = record.outputs.len();
    console::tell(format_args!("{n_same} of {n_all} outputs are as recorded"));
}

fn digest_of(path: &Path) -> Option<Digest> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let file = is_file.then(|| File::open(path).ok()).flatten()?;
    Some(hash(&file).ok()?.0)
}

/// A time stamp for a place in the order of time stamps: a second for each, those of the future from now on.
fn place_in_time(rank: u32) -> i64 {
    let second = 1_000_000_000;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_nanos()).unwrap_or(0);
    match rank & Dep::FUTURE {
        0 => i64::from(rank) * second,
        _ => now.saturating_add((i64::from(rank & !Dep::FUTURE) + 86_400) * second),
    }
}

/// What is known of how an input looked.
fn looks(dep: &Dep, mode: &[u32; 3], mtime: i64) -> Looks {
    let [bits, user, group] = *mode;
    Looks {
        mode: if bits == 0 { 0o755 } else { bits },
        owner: dep.access.any(Access::MODE).then_some((user, group)),
        // Where only the order of time stamps counts, seconds tell it.
        mtime: if mtime == 0 {
            place_in_time(dep.rank)
        } else {
            mtime
        },
    }
}

/// What the step read from standard input, from where on it did. None for what the user has.
fn input(recipe: &Recipe, root: &Path) -> Result<Option<Stdio>, CommandError> {
    match &recipe.record.stdin {
        Stdin::Unread => Ok(None),
        Stdin::Null => Ok(Some(Stdio::null())),
        Stdin::File { name, pos, .. } => {
            let failed = |call, error| CommandError::new(format_args!("{call} {name}: {error}"));
            let mut file = File::open(name.at(root)).map_err(|error| failed("open", error))?;
            let at = file.seek(SeekFrom::Start(*pos));
            let _at = at.map_err(|error| failed("lseek", error))?;
            Ok(Some(file.into()))
        }
    }
}

/// Opens `/dev/null` under the numbers of other descriptors that the step was started with: who was at their other
/// end is not there. Tells of those numbers that are taken.
fn lend(descriptors: &[RawFd]) -> Result<(), CommandError> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| CommandError::new(format_args!("open /dev/null: {error}")))?;
    for number in descriptors
        .iter()
        .filter(|number| **number != null.as_raw_fd())
    {
        let lent = fcntl(&null, FcntlArg::F_DUPFD(*number)).ok();
        if lent != Some(*number) {
            let _other = lent.map(nix::unistd::close);
            console::tell(format_args!("descriptor {number} is not as it was"));
        }
    }
    if descriptors.contains(&null.as_raw_fd()) {
        // It has one of the numbers itself.
        let own = rustix::io::fcntl_setfd(&null, rustix::io::FdFlags::empty());
        own.map_err(|error| CommandError::new(format_args!("fcntl: {error}")))?;
        let _kept = null.into_raw_fd();
    }
    Ok(())
}

/// The inputs of a step, as they are to be put in place.
struct Tree<'a> {
    root: &'a Path,
    cache: Option<&'a Cache>,
    recipe: &'a Recipe,
    pieces: BTreeMap<PathBuf, Piece>,
    /// Inputs whose content is not to be had.
    gone: Vec<Name>,
}

impl Tree<'_> {
    fn fill(&mut self) {
        let recipe = self.recipe;
        let cwd = recipe.record.command.cwd.at(self.root);
        for dir in [self.root.to_owned(), cwd] {
            let looks = Looks {
                mode: 0o755,
                owner: None,
                mtime: 0,
            };
            let _before = self.pieces.insert(dir, Piece::Dir(looks));
        }
        for dep in &recipe.record.deps {
            let path = dep.name.at(self.root);
            let piece = match &dep.state {
                State::Absent | State::Hidden(_) | State::Other(..) => None,
                State::Dir { mode, mtime, .. } => Some(Piece::Dir(Looks {
                    mode: mode[0].max(0o500),
                    ..looks(dep, mode, *mtime)
                })),
                State::Link(text, _) => Some(Piece::Link(PathBuf::from(OsStr::from_bytes(text)))),
                State::File {
                    mode,
                    size,
                    mtime,
                    digest,
                } => {
                    let looks = looks(dep, mode, *mtime);
                    match digest {
                        Some(digest) => self.content(&dep.name, digest, *size, looks),
                        None if !dep.name.inside() && path.is_file() => Some(Piece::Host),
                        None => Some(Piece::Hollow(*size, looks)),
                    }
                }
            };
            if let Some(piece) = piece {
                let _before = self.pieces.insert(path, piece);
            }
        }
    }

    /// A file with a content that it had.
    fn content(&mut self, name: &Name, digest: &Digest, size: u64, looks: Looks) -> Option<Piece> {
        let path = name.at(self.root);
        if digest_of(&path).as_ref() == Some(digest) {
            return match File::open(&path) {
                Ok(file) if name.inside() => Some(Piece::Copy(file, looks)),
                Ok(_) => Some(Piece::Host),
                Err(_) => None,
            };
        }
        let kept = self
            .cache
            .and_then(|cache| cache.open_checked(digest, size).ok());
        if let Some(file) = kept {
            return Some(Piece::Copy(file, looks));
        }
        let mut scraps = self.recipe.scraps.iter();
        if let Some((_, text)) = scraps.find(|(known, _)| known == digest) {
            return Some(Piece::Text(text.as_bytes().to_vec(), looks));
        }
        self.gone.push(name.clone());
        None
    }

    /// What people need to look around, and the libraries of that.
    fn add_tools(&mut self) {
        for tool in TOOLS {
            let listed = Command::new("ldd").arg(tool).output();
            let listed = listed.map(|output| output.stdout).unwrap_or_default();
            let text = String::from_utf8_lossy(&listed).into_owned();
            let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
            for path in libraries.chain([tool]).map(Path::new) {
                if path.is_file() {
                    self.add_host(path, 0);
                }
            }
        }
    }

    /// A file of this machine by its name and where that leads to.
    fn add_host(&mut self, path: &Path, n_links: u32) {
        for (alias, target) in [
            ("/bin", "/usr/bin"),
            ("/lib", "/usr/lib"),
            ("/lib64", "/usr/lib64"),
        ] {
            let (alias, target) = (Path::new(alias), Path::new(target));
            if let (Ok(rest), true) = (path.strip_prefix(alias), alias.is_symlink()) {
                let link = || Piece::Link(PathBuf::from(target));
                let _link = self.pieces.entry(alias.to_owned()).or_insert_with(link);
                return self.add_host(&target.join(rest), n_links);
            }
        }
        if let Ok(text) = fs::read_link(path) {
            let next = path.parent().unwrap_or(Path::new("/")).join(&text);
            let _link = self
                .pieces
                .entry(path.to_owned())
                .or_insert(Piece::Link(text));
            if next.is_file() && n_links < MAX_LINKS {
                self.add_host(&next, n_links + 1);
            }
        } else {
            let _file = self.pieces.entry(path.to_owned()).or_insert(Piece::Host);
        }
    }
}
