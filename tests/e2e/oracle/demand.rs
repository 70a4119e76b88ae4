//! What a record must hold, given what strace saw: for each program that was started, the names that it
//! and its descendants looked at before they changed them, and those that they changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::names::{Names, Node, Walk};
use super::strace::{Call, Log, Moment};

/// Ways of looking. Whatever the way, it is a dep on the type.
pub const KIND: u8 = 0;
pub const MODE: u8 = 1;
pub const SIZE: u8 = 2;
pub const CONTENT: u8 = 4;
pub const LIST: u8 = 8;

/// A name that was looked at.
#[derive(Clone, Debug)]
pub struct Look {
    pub first: Node,
    pub ways: u8,
    /// The call that wants the most of it.
    pub line: String,
}

/// What one program must have depended on and changed.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    pub argv: Vec<String>,
    pub looks: BTreeMap<PathBuf, Look>,
    /// Names that it changed: what they were before and are afterwards.
    pub changed: BTreeMap<PathBuf, [Node; 2]>,
    /// Names of which it has given permissions, owners or times.
    dressed: BTreeSet<PathBuf>,
    /// Directories that it made: nothing below them was there before.
    made: BTreeSet<PathBuf>,
}

impl Demand {
    fn is_own(&self, path: &Path) -> bool {
        self.changed.contains_key(path)
            || path.ancestors().skip(1).any(|dir| self.made.contains(dir))
    }

    fn look(&mut self, path: &Path, node: &Node, ways: u8, line: &str) {
        if self.is_own(path) {
            return;
        }
        let ways = if self.dressed.contains(path) {
            ways & !MODE
        } else {
            ways
        };
        let look = self.looks.entry(path.to_owned()).or_insert_with(|| Look {
            first: node.clone(),
            ways,
            line: line.to_owned(),
        });
        if look.ways | ways != look.ways {
            look.ways |= ways;
            line.clone_into(&mut look.line);
        }
    }

    fn change(&mut self, path: &Path, before: &Node, after: &Node) {
        let new = path.ancestors().skip(1).any(|dir| self.made.contains(dir));
        let before = if new { &Node::Absent } else { before };
        let entry = self
            .changed
            .entry(path.to_owned())
            .or_insert_with(|| [before.clone(), Node::Absent]);
        entry[1] = after.clone();
    }
}

/// A process: where it works, and the demands that its calls add to.
#[derive(Clone, Debug)]
struct Process {
    cwd: PathBuf,
    demands: Vec<usize>,
}

/// All that strace saw, as demands.
pub struct Oracle {
    pub demands: Vec<Demand>,
    /// Names as they are at the end.
    pub names: Names,
    processes: Vec<Process>,
    /// Thread to process.
    threads: HashMap<i32, usize>,
}

/// Calls that name files and mean nothing to a record, or taint it.
const NAMELESS: &[&str] = &[
    "getcwd",
    "mount",
    "umount2",
    "inotify_add_watch",
    "fanotify_mark",
    "swapon",
    "swapoff",
    "chroot",
    "pivot_root",
    "open_by_handle_at",
];

impl Oracle {
    /// Reads the log of a command that was started in `cwd`, when names were as `names` tells.
    pub fn of(log: &Log, cwd: &Path, names: Names) -> Self {
        let mut oracle = Self {
            demands: Vec::new(),
            names,
            processes: vec![Process {
                cwd: cwd.to_owned(),
                demands: Vec::new(),
            }],
            threads: HashMap::new(),
        };
        for moment in &log.moments {
            match moment {
                Moment::Begin(n) => oracle.begin(&log.calls[*n]),
                Moment::End(n) => oracle.end(&log.calls[*n]),
            }
        }
        oracle
    }

    fn process(&mut self, tid: i32) -> usize {
        let is_first = self.threads.is_empty();
        *self.threads.entry(tid).or_insert_with(|| {
            assert!(is_first, "thread {tid} came from nowhere");
            0
        })
    }

    /// A new process may say something before the call that made it returns to its parent.
    fn begin(&mut self, call: &Call) {
        let parent = self.process(call.tid);
        let makes = matches!(call.name.as_str(), "clone" | "clone3" | "fork" | "vfork");
        let Some(child) = call.result.as_ref().ok().filter(|_| makes) else {
            return;
        };
        let shares = ["CLONE_FS", "CLONE_THREAD"];
        let is_shared = shares.iter().any(|flag| (0..2).any(|n| call.has(n, flag)));
        let at = if is_shared {
            parent
        } else {
            let process = self.processes[parent].clone();
            self.processes.push(process);
            self.processes.len() - 1
        };
        self.threads.insert(i32::try_from(*child).unwrap(), at);
    }

    fn end(&mut self, call: &Call) {
        let at = self.process(call.tid);
        Reader {
            oracle: self,
            call,
            at,
        }
        .read();
    }
}

/// One call that has ended.
struct Reader<'a> {
    oracle: &'a mut Oracle,
    call: &'a Call,
    at: usize,
}

impl Reader<'_> {
    fn read(&mut self) {
        let nofollow = |n| !self.call.has(n, "AT_SYMLINK_NOFOLLOW");
        let (call, name) = (self.call, self.call.name.trim_end_matches("64"));
        match name {
            "open" => self.open(None, 0, 1),
            "openat" | "openat2" => self.open(Some(0), 1, 2),
            "creat" => self.open(None, 0, 9),
            "stat" => self.look(None, 0, true, MODE | SIZE),
            "lstat" => self.look(None, 0, false, MODE | SIZE),
            "newfstatat" | "fstatat" => self.look(Some(0), 1, nofollow(3), MODE | SIZE),
            "statx" => self.look(Some(0), 1, nofollow(2), MODE | SIZE),
            "fstat" => self.look_at_fd(0, MODE | SIZE),
            "access" => self.look(None, 0, true, mode(call, 1)),
            "faccessat" => self.look(Some(0), 1, true, mode(call, 2)),
            "faccessat2" => self.look(Some(0), 1, nofollow(3), mode(call, 2)),
            "readlink" => self.look(None, 0, false, KIND),
            "readlinkat" => self.look(Some(0), 1, false, KIND),
            "statfs" | "getxattr" | "listxattr" => self.look(None, 0, true, KIND),
            "lgetxattr" | "llistxattr" => self.look(None, 0, false, KIND),
            "name_to_handle_at" => self.look(Some(0), 1, call.has(4, "AT_SYMLINK_FOLLOW"), KIND),
            "getdents" => self.look_at_fd(0, LIST),
            "chdir" => self.chdir(),
            "fchdir" => {
                if let (Some(dir), Ok(_)) = (call.fd_path(0), &call.result) {
                    self.oracle.processes[self.at].cwd = dir.into();
                }
            }
            "execve" => self.exec(None, 0, 1),
            "execveat" => self.exec(Some(0), 1, 2),
            "unlink" | "rmdir" => self.remove(None, 0),
            "unlinkat" => self.remove(Some(0), 1),
            "mkdir" => self.make(None, 0, Node::Dir),
            "mkdirat" => self.make(Some(0), 1, Node::Dir),
            "mknod" => self.make(None, 0, special(call, 1)),
            "mknodat" => self.make(Some(0), 1, special(call, 2)),
            "symlink" => self.make(None, 1, link_text(call)),
            "symlinkat" => self.make(Some(1), 2, link_text(call)),
            "link" => self.link((None, 0), (None, 1), false),
            "linkat" => self.link((Some(0), 1), (Some(2), 3), call.has(4, "AT_SYMLINK_FOLLOW")),
            "rename" => self.rename((None, 0), (None, 1)),
            "renameat" | "renameat2" => self.rename((Some(0), 1), (Some(2), 3)),
            "chmod" | "chown" | "utime" | "utimes" | "setxattr" | "removexattr" => {
                self.dress(None, 0, true);
            }
            "lchown" | "lsetxattr" | "lremovexattr" => self.dress(None, 0, false),
            "fchmodat" => self.dress(Some(0), 1, true),
            "futimesat" => self.dress(Some(0), 1, true),
            "fchmodat2" | "utimensat" => self.dress(Some(0), 1, nofollow(3)),
            "fchownat" => self.dress(Some(0), 1, nofollow(4)),
            "fchmod" | "fchown" | "fsetxattr" | "fremovexattr" => self.dress_fd(0),
            "truncate" => self.write_into(None, 0),
            "ftruncate" | "fallocate" => self.write_fd(0),
            "connect" | "bind" => self.address(),
            "clone" | "clone3" | "fork" | "vfork" => {}
            _ if NAMELESS.contains(&name) => {}
            _ => panic!("a call that the oracle does not know: {}", call.line),
        }
    }

    /// The walk to a name, if it has a name outside of `/proc` and the like. What strace says of it must
    /// agree with what the names were.
    fn walk(&self, dir: Option<usize>, path: usize, follow: bool) -> Option<Walk> {
        let text = self.call.text(path).unwrap_or_default();
        let base = match dir {
            Some(dir) => self.call.fd_path(dir).map(PathBuf::from),
            None => Some(self.oracle.processes[self.at].cwd.clone()),
        };
        let walk = if text.is_empty() {
            if self.call.result.is_err() || dir.is_none_or(|fd| self.call.is_standard(fd)) {
                return None;
            }
            let path = base?;
            let node = self.oracle.names.at(&path);
            if node == Node::Absent {
                return None;
            }
            Walk {
                path,
                links: Vec::new(),
                node,
                broken: false,
            }
        } else if text.starts_with('/') {
            self.oracle.names.walk(Path::new("/"), &text, follow)
        } else {
            self.oracle.names.walk(&base?, &text, follow)
        };
        (!is_nobodys(&walk.path) && !Path::new(&text).starts_with("/proc")).then_some(walk)
    }

    /// A walk that must agree with what the call returned.
    fn agrees(&self, walk: &Walk) {
        let missing = walk.broken || walk.node == Node::Absent;
        let fine = match self.call.result.as_deref_err() {
            None => !missing,
            Some("ENOENT") => walk.node == Node::Absent,
            Some("ENOTDIR") => walk.broken || walk.node != Node::Dir,
            Some(_) => true,
        };
        assert!(fine, "the oracle thinks {walk:?} of {}", self.call.line);
    }

    fn note(&mut self, walk: &Walk, ways: u8) {
        let Oracle {
            demands,
            processes,
            names,
            ..
        } = &mut *self.oracle;
        for at in &processes[self.at].demands {
            for link in &walk.links {
                let text = names.at(link);
                demands[*at].look(link, &text, KIND, &self.call.line);
            }
            let ways = if walk.broken { KIND } else { ways };
            demands[*at].look(&walk.path, &walk.node, ways, &self.call.line);
        }
    }

    fn look(&mut self, dir: Option<usize>, path: usize, follow: bool, ways: u8) {
        if let Some(walk) = self.walk(dir, path, follow) {
            self.agrees(&walk);
            self.note(&walk, ways);
        }
    }

    fn fd_walk(&self, fd: usize) -> Option<Walk> {
        let path = PathBuf::from(self.call.fd_path(fd)?);
        let node = self.oracle.names.at(&path);
        let standard = self.call.is_standard(fd);
        let named =
            !standard && !is_nobodys(&path) && node != Node::Absent && self.call.result.is_ok();
        named.then_some(Walk {
            path,
            links: Vec::new(),
            node,
            broken: false,
        })
    }

    fn look_at_fd(&mut self, fd: usize, ways: u8) {
        if let Some(walk) = self.fd_walk(fd) {
            self.note(&walk, ways);
        }
    }

    fn chdir(&mut self) {
        let Some(walk) = self.walk(None, 0, true) else {
            return;
        };
        self.agrees(&walk);
        self.note(&walk, KIND);
        if self.call.result.is_ok() {
            self.oracle.processes[self.at].cwd = walk.path;
        }
    }

    fn open(&mut self, dir: Option<usize>, path: usize, flags: usize) {
        let has = |flag| self.call.has(flags, flag);
        let creat = self.call.name == "creat";
        let create = creat || has("O_CREAT");
        let whole = creat || has("O_TRUNC");
        let writes = ["O_WRONLY", "O_RDWR"].iter().any(|flag| has(flag)) || whole;
        let exclusive = create && has("O_EXCL");
        let follow = !exclusive && !has("O_NOFOLLOW");
        let Some(walk) = self.walk(dir, path, follow) else {
            return;
        };
        let made = create && walk.node == Node::Absent && !walk.broken && self.call.result.is_ok();
        if !made {
            self.agrees(&walk);
        }
        if has("O_PATH") {
            return self.note(&walk, KIND);
        }
        let looks = !writes && !create;
        if looks || self.call.result.is_err() {
            return self.note(&walk, CONTENT);
        }
        // Nobody learns what was there from writing over it, but that it could be done.
        self.note(&walk, if whole || made { KIND } else { CONTENT });
        if made || (writes && walk.node == Node::File) {
            self.change(&walk, Node::File);
        }
    }

    /// The name at the end of a walk becomes something else.
    fn change(&mut self, walk: &Walk, node: Node) {
        for at in self.oracle.processes[self.at].demands.clone() {
            self.oracle.demands[at].change(&walk.path, &walk.node, &node);
        }
        self.oracle.names.set(&walk.path, node);
    }

    fn remove(&mut self, dir: Option<usize>, path: usize) {
        let Some(walk) = self.walk(dir, path, false) else {
            return;
        };
        self.agrees(&walk);
        self.note(&walk, KIND);
        if self.call.result.is_ok() {
            self.change(&walk, Node::Absent);
        }
    }

    fn make(&mut self, dir: Option<usize>, path: usize, node: Node) {
        let Some(walk) = self.walk_to_new(dir, path) else {
            return;
        };
        self.note(&walk, KIND);
        if self.call.result.is_err() {
            return;
        }
        assert_eq!(walk.node, Node::Absent, "{}", self.call.line);
        for at in self.oracle.processes[self.at].demands.clone() {
            let demand = &mut self.oracle.demands[at];
            let new = demand
                .changed
                .get(&walk.path)
                .is_none_or(|[before, _]| *before == Node::Absent);
            if node == Node::Dir && new {
                demand.made.insert(walk.path.clone());
            }
        }
        self.change(&walk, node);
    }

    /// A slash behind the name of a new directory means nothing.
    fn walk_to_new(&self, dir: Option<usize>, path: usize) -> Option<Walk> {
        let mut call = self.call.clone();
        if let Some(arg) = call.args.get_mut(path) {
            while arg.len() > 3 && arg.ends_with("/\"") {
                arg.replace_range(arg.len() - 2.., "\"");
            }
        }
        let walk = {
            let text = call.text(path)?;
            let base = match dir {
                Some(dir) => self.call.fd_path(dir).map(PathBuf::from),
                None => Some(self.oracle.processes[self.at].cwd.clone()),
            };
            let base = if text.starts_with('/') {
                PathBuf::from("/")
            } else {
                base?
            };
            self.oracle.names.walk(&base, &text, false)
        };
        (!is_nobodys(&walk.path)).then_some(walk)
    }

    fn link(&mut self, from: (Option<usize>, usize), to: (Option<usize>, usize), follow: bool) {
        let Some(old) = self.walk(from.0, from.1, follow) else {
            return;
        };
        self.note(&old, CONTENT);
        let Some(new) = self.walk_to_new(to.0, to.1) else {
            return;
        };
        self.note(&new, KIND);
        if self.call.result.is_ok() {
            self.change(&new, old.node);
        }
    }

    fn rename(&mut self, from: (Option<usize>, usize), to: (Option<usize>, usize)) {
        let (Some(old), Some(new)) = (
            self.walk_to_new(from.0, from.1),
            self.walk_to_new(to.0, to.1),
        ) else {
            return;
        };
        let moves = self.call.result.is_ok();
        self.note(&old, if moves { CONTENT } else { KIND });
        if old.node != Node::Absent {
            self.note(&new, KIND);
        }
        if !moves || old.path == new.path {
            return;
        }
        let exchanges = self.call.has(4, "RENAME_EXCHANGE");
        let aside = old.path.with_file_name(".. aside");
        let mut moved: Vec<(PathBuf, Node)> = Vec::new();
        let (names, there) = (&self.oracle.names, &new.path);
        let to = |path: &Path, from: &Path, to: &Path| to.join(path.strip_prefix(from).unwrap());
        for path in names.below(&old.path) {
            moved.push((to(&path, &old.path, there), names.at(&path)));
            moved.push((path, Node::Absent));
        }
        if exchanges {
            for path in names.below(there) {
                moved.push((to(&path, there, &old.path), names.at(&path)));
            }
        }
        let other = if exchanges {
            new.node.clone()
        } else {
            Node::Absent
        };
        moved.extend([
            (old.path.clone(), other),
            (new.path.clone(), old.node.clone()),
        ]);
        for (path, after) in moved {
            let before = self.oracle.names.at(&path);
            let below = Walk {
                path,
                links: Vec::new(),
                node: before,
                broken: false,
            };
            if below.node != Node::Absent {
                self.note(&below, KIND);
            }
            for at in self.oracle.processes[self.at].demands.clone() {
                self.oracle.demands[at].change(&below.path, &below.node, &after);
            }
        }
        let names = &mut self.oracle.names;
        if exchanges {
            names.rename(&new.path, &aside);
            names.rename(&old.path, &new.path);
            names.rename(&aside, &old.path);
        } else {
            names.rename(&old.path, &new.path);
        }
    }

    fn dress(&mut self, dir: Option<usize>, path: usize, follow: bool) {
        if let Some(walk) = self.walk(dir, path, follow) {
            self.agrees(&walk);
            self.dressed(&walk);
        }
    }

    fn dress_fd(&mut self, fd: usize) {
        if let Some(walk) = self.fd_walk(fd) {
            self.dressed(&walk);
        }
    }

    fn dressed(&mut self, walk: &Walk) {
        self.note(walk, MODE);
        for at in self.oracle.processes[self.at].demands.clone() {
            self.oracle.demands[at].dressed.insert(walk.path.clone());
        }
    }

    fn write_into(&mut self, dir: Option<usize>, path: usize) {
        if let Some(walk) = self.walk(dir, path, true) {
            self.agrees(&walk);
            self.note(&walk, CONTENT);
            if self.call.result.is_ok() {
                self.change(&walk, Node::File);
            }
        }
    }

    fn write_fd(&mut self, fd: usize) {
        if let Some(walk) = self.fd_walk(fd) {
            self.note(&walk, CONTENT);
            self.change(&walk, Node::File);
        }
    }

    /// The name of a socket.
    fn address(&mut self) {
        let Some((_, path)) = self.call.args[1].split_once("sun_path=\"") else {
            return;
        };
        let path = path.split('"').next().unwrap();
        let walk = self
            .oracle
            .names
            .walk(&self.oracle.processes[self.at].cwd.clone(), path, true);
        self.note(&walk, KIND);
        if self.call.name == "bind" && self.call.result.is_ok() {
            self.change(&walk, Node::Other);
        }
    }

    fn exec(&mut self, dir: Option<usize>, path: usize, argv: usize) {
        let Some(walk) = self.walk(dir, path, true) else {
            return;
        };
        self.agrees(&walk);
        let ways = if walk.node == Node::File {
            CONTENT | MODE
        } else {
            KIND
        };
        self.note(&walk, ways);
        if self.call.result.is_err() {
            return;
        }
        let argv = self.call.texts(argv);
        self.oracle.demands.push(Demand {
            argv,
            ..Demand::default()
        });
        let new = self.oracle.demands.len() - 1;
        // The other threads are gone; what shared the working directory goes on without it.
        let mut process = self.oracle.processes[self.at].clone();
        process.demands.push(new);
        self.oracle.processes.push(process);
        self.at = self.oracle.processes.len() - 1;
        self.oracle.threads.insert(self.call.tid, self.at);
        self.note(&walk, ways);
        let mut program = walk.path;
        for _ in 0..4 {
            let Some(interpreter) = interpreter(&program) else {
                break;
            };
            let cwd = self.oracle.processes[self.at].cwd.clone();
            let walk = self.oracle.names.walk(&cwd, &interpreter, true);
            self.note(&walk, CONTENT);
            program = walk.path;
        }
    }
}

/// The interpreter that the kernel loads with a program: of a `#!` line, or of `PT_INTERP`.
fn interpreter(program: &Path) -> Option<String> {
    let bytes = fs::read(program).ok()?;
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        let line = String::from_utf8_lossy(line).into_owned();
        return line.split_whitespace().next().map(str::to_owned);
    }
    let number = |at: usize, len: usize| {
        let bytes = bytes.get(at..at + len)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_usize, |n, b| n << 8 | usize::from(*b)),
        )
    };
    // Elf64_Ehdr and Elf64_Phdr.
    if !bytes.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for entry in (0..count).map(|n| table + n * size) {
        if number(entry, 4)? == 3 {
            let (at, len) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
            let text = bytes.get(at..at + len)?.split(|b| *b == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

fn mode(call: &Call, n: usize) -> u8 {
    if call.has(n, "F_OK") { KIND } else { MODE }
}

fn special(call: &Call, n: usize) -> Node {
    if call.has(n, "S_IFREG") {
        Node::File
    } else {
        Node::Other
    }
}

fn link_text(call: &Call) -> Node {
    Node::Link(call.text(0).unwrap_or_default().into())
}

/// Places that say nothing that a build may depend on, as doc/semantics.md lists them.
fn is_nobodys(path: &Path) -> bool {
    let device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    device || path.starts_with("/proc") || path.starts_with("/sys")
}

trait ErrName {
    fn as_deref_err(&self) -> Option<&str>;
}

impl ErrName for Result<i64, String> {
    fn as_deref_err(&self) -> Option<&str> {
        self.as_ref().err().map(String::as_str)
    }
}
