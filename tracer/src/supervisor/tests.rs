//! Calls made up by this thread about itself, and the events that tell them: the thread's own memory,
//! descriptors and directories are what a traced thread's would be.

mod counted;
mod ends;

use super::*;
use crate::event::{Answer, Exec, ExecAnswer, Look, Names, OwnFds, Sight};
use crate::proc_files::CHILDREN;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::RwLockReadGuard;

/// Notes what it is told.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Names for Log {
    fn look(&self, path: &Path) -> Look {
        crate::walk::tests::look(path)
    }
    fn is_still(&self, _: &Path, _: &Sight) -> bool {
        true
    }
}

impl Observer for Log {
    fn born(&self, _: Pid, _: Option<Pid>) {
        self.note("born".into());
    }
    fn event(&self, _: Pid, event: Event<'_>) -> Answer {
        let told = if let Event::Write(call) = &event {
            format!("write {} {:?}", call.fd(), call.data().unwrap_or_default())
        } else {
            format!("{event:?}")
        };
        let refused = told.starts_with("chance");
        self.note(told);
        if refused {
            Answer::Fail(libc::EIO)
        } else {
            Answer::Go
        }
    }
    fn exec(&self, exec: Exec, _: &dyn OwnFds) -> ExecAnswer {
        self.note(format!(
            "exec {:?} {:?}",
            exec.program.path, exec.interpreters
        ));
        if exec.argv.first().is_some_and(|a| a == b"exit") {
            ExecAnswer::Exit(7)
        } else {
            ExecAnswer::Run
        }
    }
    fn exec_failed(&self, _: Pid) {
        self.note("exec failed".into());
    }
    fn exit(&self, _: Pid, status: i32, _: &[(Pid, bool)]) {
        self.note(format!("exit {status}"));
    }
    fn died(&self, _: Pid, _: Option<i32>) {
        self.note("died".into());
    }
}

struct Stopped(bool);

impl Stop for Stopped {
    fn still_there(&self) -> bool {
        self.0
    }
    fn ready_to_exit(&self) -> bool {
        true
    }
}

struct Rig {
    dir: tempfile::TempDir,
    log: Arc<Log>,
    supervisor: Supervisor,
    strings: Vec<CString>,
    _no_children: RwLockReadGuard<'static, ()>,
}

impl Rig {
    fn new() -> Self {
        let no_children = CHILDREN.read().unwrap_or_else(|e| e.into_inner());
        let log = Arc::new(Log::default());
        let supervisor = Supervisor::new(Arc::clone(&log) as Arc<_>).unwrap();
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
            log,
            supervisor,
            strings: vec![],
            _no_children: no_children,
        };
        rig.call("getpid", &[]);
        assert_eq!(rig.log.take(), ["born"]);
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address of a name in the directory, or of a text.
    fn name(&mut self, name: &str) -> u64 {
        let path = self.path(name);
        self.text(path.as_os_str().as_bytes())
    }

    fn text(&mut self, text: &[u8]) -> u64 {
        self.strings.push(CString::new(text).unwrap());
        self.strings[self.strings.len() - 1].as_ptr() as u64
    }

    fn decide(&self, name: &str, args: &[u64], there: bool) -> Decision {
        let index = Index::new();
        let nr = (0..500).find(|nr| index.get(Abi::X86_64, *nr).is_some_and(|r| r.name == name));
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let tid = nix::unistd::gettid().as_raw();
        let call = Call {
            tid,
            abi: Abi::X86_64,
            nr: nr.unwrap(),
            args: all,
        };
        self.supervisor.call(&call, &|| there)
    }

    fn call(&self, name: &str, args: &[u64]) -> Verdict {
        match self.decide(name, args, true) {
            Decision::Now(verdict) => verdict,
            Decision::Later(work) => work(&Stopped(true)),
            answered @ (Decision::Return(_) | Decision::Give(_)) => panic!("{answered:?}"),
        }
    }

    /// What a call that is let go tells, without the directory's name.
    fn tell(&self, name: &str, args: &[u64]) -> Vec<String> {
        assert_eq!(self.call(name, args), Verdict::Go);
        let dir = format!("{}/", self.dir.path().display());
        self.log
            .take()
            .iter()
            .map(|line| line.replace(&dir, ""))
            .collect()
    }
}

const CWD: u64 = libc::AT_FDCWD as u64;

fn walk(path: &str, end: &str) -> String {
    format!("Walk {{ path: {path:?}, links: [], end: {end} }}")
}

fn file(path: &str) -> String {
    walk(path, "Found(File)")
}

fn absent(path: &str) -> String {
    walk(path, "Absent")
}

#[test]
fn opening() {
    let mut rig = Rig::new();
    drop(fs::File::create(rig.path("f")).unwrap());
    symlink("f", rig.path("l")).unwrap();
    let dir = fs::File::open(rig.dir.path()).unwrap();
    let fd = dir.as_raw_fd() as u64;
    let (f, l, new, rel) = (
        rig.name("f"),
        rig.name("l"),
        rig.name("new"),
        rig.text(b"f"),
    );
    assert_eq!(
        rig.tell("open", &[f, 0, 0]),
        [format!("open {} 0x0 0", file("f"))]
    );
    assert_eq!(
        rig.tell("openat", &[fd, rel, 2, 0]),
        [format!("open {} 0x2 0", file("f"))]
    );
    assert_eq!(
        rig.tell("openat", &[CWD, f, 0, 0]),
        [format!("open {} 0x0 0", file("f"))]
    );
    assert_eq!(
        rig.tell("creat", &[new, 0o644]),
        [format!("open {} 0x241 644", absent("new"))]
    );
    let path = libc::O_PATH as u64;
    assert_eq!(
        rig.tell("open", &[f, path, 0]),
        [format!("stat {}", file("f"))]
    );
    let here = rig.name("");
    assert_eq!(
        rig.tell("open", &[here, libc::O_TMPFILE as u64 | 2, 0])[0][..4],
        *"stat"
    );
    let through = "Walk { path: \"f\", links: [\"l\"], end: Found(File) }";
    assert_eq!(
        rig.tell("open", &[l, 0, 0]),
        [format!("open {through} 0x0 0")]
    );
    let stays = (libc::O_CREAT | libc::O_EXCL) as u64;
    assert_eq!(
        rig.tell("open", &[l, stays, 0]),
        [format!("open {} 0xc0 0", walk("l", "Found(Link(\"f\"))"))]
    );
    for (resolve, beneath, told) in [(0, l, "open"), (0x10, l, "taint"), (0x10, rel, "open")] {
        let how = [0_u64, 0, resolve];
        let told_now = rig.tell("openat2", &[fd, beneath, how.as_ptr() as u64, 24]);
        assert!(
            told_now.len() == 1 && told_now[0].starts_with(told),
            "{resolve} {told_now:?}"
        );
    }
    let own = rig.text(format!("/proc/self/fd/{fd}/f").as_bytes());
    let crossed = format!("links: [\"/proc/self/fd/{fd}\"]");
    assert_eq!(
        rig.tell("open", &[own, 0, 0]),
        [format!("open {} 0x0 0", file("f")).replace("links: []", &crossed)]
    );
    let stdin = rig.text(b"/dev/stdin");
    assert!(rig.tell("open", &[stdin, 0, 0])[0].starts_with("dup 0 -> -1"));
    let other = rig.text(b"/proc/1/environ");
    assert!(rig.tell("open", &[other, 0, 0])[0].starts_with("process /proc/"));
}

#[test]
fn looking() {
    let mut rig = Rig::new();
    drop(fs::File::create(rig.path("f")).unwrap());
    symlink("f", rig.path("l")).unwrap();
    let open = fs::File::open(rig.path("f")).unwrap();
    let fd = open.as_raw_fd() as u64;
    let (f, l, empty) = (rig.name("f"), rig.name("l"), rig.text(b""));
    let link = walk("l", "Found(Link(\"f\"))");
    assert_eq!(rig.tell("stat", &[f]), [format!("stat {}", file("f"))]);
    assert_eq!(rig.tell("lstat", &[l]), [format!("stat {link}")]);
    assert_eq!(
        rig.tell("newfstatat", &[CWD, l, 0, 0x100]),
        [format!("stat {link}")]
    );
    assert_eq!(
        rig.tell("newfstatat", &[fd, empty, 0, 0x1000]),
        [format!("stat {}", file("f"))]
    );
    assert_eq!(
        rig.tell("statx", &[fd, 0, 0x1000]),
        [format!("stat {}", file("f"))]
    );
    assert_eq!(
        rig.tell("statx", &[CWD, l, 0x100]),
        [format!("stat {link}")]
    );
    assert_eq!(
        rig.tell("access", &[f, 4]),
        [format!("access {} 4", file("f"))]
    );
    assert_eq!(rig.tell("readlink", &[l]), [format!("readlink {link}")]);
    assert_eq!(
        rig.tell("name_to_handle_at", &[CWD, l, 0, 0, 0]),
        [format!("stat {link}")]
    );
    assert_eq!(rig.tell("lgetxattr", &[l]), [format!("getxattr {link}")]);
    let dir = fs::File::open(rig.dir.path()).unwrap();
    assert!(rig.tell("getdents64", &[dir.as_raw_fd() as u64])[0].starts_with("list "));
    assert_eq!(rig.tell("stat", &[empty]).len(), 1, "ENOENT is told");
    // What fails of itself is not told.
    for bad in [0, 1, u64::MAX, 0xffff_8000_0000_0000] {
        assert_eq!(rig.tell("stat", &[bad]), [""; 0]);
    }
    assert_eq!(
        rig.tell("newfstatat", &[12345, l + 1, 0, 0]).len(),
        0,
        "EBADF"
    );
}

#[test]
fn changing() {
    let mut rig = Rig::new();
    drop(fs::File::create(rig.path("f")).unwrap());
    fs::create_dir(rig.path("d")).unwrap();
    let (f, d, new, text) = (
        rig.name("f"),
        rig.name("d"),
        rig.name("new"),
        rig.text(b"to"),
    );
    let dir = walk("d", "Found(Dir)");
    assert_eq!(
        rig.tell("unlink", &[f]),
        [format!("unlink {} dir=false", file("f"))]
    );
    assert_eq!(
        rig.tell("unlinkat", &[CWD, d, 0x200]),
        [format!("unlink {dir} dir=true")]
    );
    assert_eq!(
        rig.tell("mkdir", &[new, 0o755]),
        [format!("mkdir {} 755", absent("new"))]
    );
    assert_eq!(
        rig.tell("symlinkat", &[text, CWD, new]),
        [format!("symlink {} -> \"to\"", absent("new"))]
    );
    let both = format!("{} {}", file("f"), absent("new"));
    assert_eq!(rig.tell("link", &[f, new]), [format!("link {both}")]);
    assert_eq!(
        rig.tell("renameat2", &[CWD, f, CWD, new, 1]),
        [format!("rename {both} 1")]
    );
    assert_eq!(
        rig.tell("chmod", &[f, 0o600]),
        [format!("chmod {}", file("f"))]
    );
    assert_eq!(
        rig.tell("truncate", &[f, 0]),
        [format!("truncate {}", file("f"))]
    );
    assert_eq!(rig.tell("setxattr", &[f]), [format!("xattr {}", file("f"))]);
    let open = fs::File::open(rig.path("f")).unwrap();
    let fd = open.as_raw_fd() as u64;
    assert_eq!(rig.tell("fchown", &[fd]), [format!("chown {}", file("f"))]);
    let unnamed = rig.tell("linkat", &[fd, text + 2, CWD, new, 0x1000]);
    assert_eq!(unnamed, [format!("link {both}")]);
    fs::remove_file(rig.path("f")).unwrap();
    assert_eq!(
        rig.tell("fchown", &[fd]),
        [""; 0],
        "it has no name any more"
    );
    let own = walk(&format!("/proc/self/fd/{fd}"), "Own");
    let unnamed = rig.tell("linkat", &[fd, text + 2, CWD, new, 0x1000]);
    assert_eq!(unnamed, [format!("link {own} {}", absent("new"))]);
}

#[test]
fn time_stamps() {
    let mut rig = Rig::new();
    drop(fs::File::create(rig.path("f")).unwrap());
    let open = fs::File::open(rig.path("f")).unwrap();
    let (f, fd) = (rig.name("f"), open.as_raw_fd() as u64);
    let (now, omit) = (libc::UTIME_NOW, libc::UTIME_OMIT);
    for (specs, explicit) in [
        ([0, now, 0, now], false),
        ([0, now, 0, omit], false),
        ([7, 0, 0, omit], true),
        ([7, 0, 7, 999_999_999], true),
    ] {
        let told = [format!("utime {} explicit={explicit}", file("f"))];
        assert_eq!(
            rig.tell("utimensat", &[CWD, f, specs.as_ptr() as u64, 0]),
            told
        );
        assert_eq!(
            rig.tell("utimensat", &[fd, 0, specs.as_ptr() as u64, 0]),
            told
        );
    }
    assert_eq!(
        rig.tell("utime", &[f, 0]),
        [format!("utime {} explicit=false", file("f"))]
    );
    assert_eq!(
        rig.tell("utimes", &[f, f]),
        [format!("utime {} explicit=true", file("f"))]
    );
}

#[test]
fn descriptors_and_peers() {
    let rig = Rig::new();
    let bytes = b"hi";
    assert_eq!(
        rig.tell("write", &[2, bytes.as_ptr() as u64, 2]),
        ["write 2 [104, 105]"]
    );
    assert!(rig.tell("dup2", &[0, 7])[0].starts_with("dup 0 -> 7"));
    assert!(rig.tell("fcntl", &[1, 1030, 10])[0].starts_with("dup 1 -> -1"));
    assert!(rig.tell("read", &[0])[0].starts_with("read-stdin"));
    assert_eq!(
        rig.tell("splice", &[9, 0, 1, 0, 55])[0],
        "write-direct fd=1 len=55"
    );
    let inet = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0_u8];
    let connect = rig.tell("connect", &[9, inet.as_ptr() as u64, 16]);
    assert_eq!(connect, ["socket Inet(\"127.0.0.1:80\")"]);
    let abstract_ = [1, 0, 0, b'x'];
    let bind = rig.tell("bind", &[9, abstract_.as_ptr() as u64, 4]);
    assert_eq!(bind, ["socket Abstract([120])"]);
    let unix = [&[1, 0], rig.path("s").as_os_str().as_bytes(), &[0]].concat();
    let bind = rig.tell("bind", &[9, unix.as_ptr() as u64, unix.len() as u64]);
    assert!(bind.len() == 1 && bind[0].starts_with("mknod"), "{bind:?}");
    let message = [inet.as_ptr() as u64, 16, 0, 0, 0, 0, 0];
    assert_eq!(
        rig.tell("sendmsg", &[9, message.as_ptr() as u64, 0]),
        connect
    );
    assert_eq!(rig.tell("kill", &[77, 9]), ["kill 77 9"]);
    let me = std::process::id() as u64;
    assert_eq!(rig.tell("tgkill", &[me, me, 6]), [""; 0], "to itself");
    let limits = [5_u64, u64::MAX];
    let told = format!("limit 7 5 {}", u64::MAX);
    assert_eq!(
        rig.tell("prlimit64", &[0, 7, limits.as_ptr() as u64, 0]),
        [told]
    );
    assert_eq!(rig.tell("personality", &[0xffff_ffff]), [""; 0]);
    assert_eq!(
        rig.tell("personality", &[8]),
        ["taint All changes its personality"]
    );
    assert_eq!(
        rig.call("getrandom", &[0, 0, 2]),
        Verdict::Fail(libc::EIO),
        "as the observer says"
    );
}

#[test]
fn unknown_calls_taint() {
    let rig = Rig::new();
    let tid = nix::unistd::gettid().as_raw();
    for (abi, nr, why) in [
        (Abi::X86_64, 9999, "unknown system call 9999"),
        (Abi::X32, 0, "x32 program"),
        (Abi::Unknown(5), 0, "program for architecture 0x5"),
    ] {
        let decision = rig.supervisor.call(
            &Call {
                tid,
                abi,
                nr,
                args: [0; 6],
            },
            &|| true,
        );
        assert!(matches!(decision, Decision::Now(Verdict::Go)));
        assert_eq!(rig.log.take(), [format!("taint All {why}")]);
    }
}

#[test]
fn nothing_is_told_of_a_caller_that_is_gone() {
    let mut rig = Rig::new();
    let f = rig.name("f");
    for (name, args) in [
        ("open", [f, 0]),
        ("unlink", [f, 0]),
        ("kill", [1, 0]),
        ("dup", [0, 0]),
    ] {
        let decision = rig.decide(name, &args, false);
        assert!(matches!(decision, Decision::Now(Verdict::Go)), "{name}");
        assert_eq!(rig.log.take(), [""; 0], "{name}");
    }
}

/// xorshift
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn no_arguments_break_the_decoder() {
    let mut rig = Rig::new();
    let (f, junk) = (rig.name("f"), rig.text(&[0xff; 300]));
    let mut state = 0x2545_f491_4f6c_dd1d;
    let tid = nix::unistd::gettid().as_raw();
    for nr in (0..480).cycle().take(5_000) {
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = match random(&mut state) % 8 {
                0 => f,
                1 => junk,
                2 => CWD,
                3 => random(&mut state),
                4 => u64::MAX,
                _ => random(&mut state) % 16,
            };
        }
        let abi = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::X32][random(&mut state) as usize % 4];
        // What a worker would do is left out: it waits for a process that is another one.
        match rig.supervisor.call(&Call { tid, abi, nr, args }, &|| true) {
            Decision::Now(_) | Decision::Later(_) => {}
            answered @ (Decision::Return(_) | Decision::Give(_)) => panic!("{answered:?}"),
        }
    }
    assert!(rig.log.take().len() > 500);
}
