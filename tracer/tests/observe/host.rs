//! A host whose observer writes all it is told to a file, and serves programs that are called `served`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};

use nix::sys::signal::SigSet;
use rfs_tracer::event::{
    Answer, Event, Exec, ExecAnswer, Look, Names, Observer, OwnFds, Pid, Sight,
};
use rfs_tracer::{Backend, Ended, Launch, Preload, launch};

/// `BACKEND LOG COMMAND...`
pub fn main(arguments: &[String]) -> ExitCode {
    let [backend, log, command @ ..] = arguments else {
        panic!("{arguments:?}")
    };
    let command = Launch {
        argv: command.iter().map(Into::into).collect(),
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().unwrap(),
        mask: SigSet::thread_get_mask().unwrap(),
        backend: if backend == "ptrace" {
            Backend::Ptrace
        } else {
            Backend::Notify
        },
        preload: match backend.as_str() {
            "fast" => Preload::On,
            _ => Preload::Off,
        },
        guard: std::ffi::OsString::new(),
    };
    let notes = Arc::new(Notes(Mutex::new(File::create(log).unwrap())));
    let launched = launch(command, || Ok(())).unwrap();
    let mut running = launched.observe(Arc::clone(&notes) as Arc<_>).unwrap();
    let ended = running.wait().unwrap();
    let counts = running.counts();
    let waits = counts
        .stopped
        .iter()
        .filter(|stopped| ["wait4", "waitid"].contains(&stopped.call));
    let counted = format!(
        "{} {}",
        counts.noted,
        waits.map(|stopped| stopped.times).sum::<u64>()
    );
    fs::write(format!("{log}.counted"), counted).unwrap();
    running.drain();
    match ended {
        Ended::Exit(status) => ExitCode::from(status as u8),
        Ended::Signal(signal) => ExitCode::from(128 + signal as u8),
    }
}

struct Notes(Mutex<File>);

impl Notes {
    fn note(&self, pid: Pid, what: &str) {
        writeln!(self.0.lock().unwrap(), "{pid} {what}").unwrap();
    }
}

impl Names for Notes {
    fn look(&self, path: &Path) -> Look {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => Look::Dir,
            Ok(meta) if meta.is_symlink() => {
                fs::read_link(path).map_or(Look::Unknown(libc::EACCES), Look::Link)
            }
            Ok(_) => Look::File,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Look::Absent,
            Err(e) => Look::Unknown(e.raw_os_error().unwrap()),
        }
    }

    fn is_still(&self, path: &Path, sight: &Sight) -> bool {
        fs::symlink_metadata(path).is_ok_and(|now| sight.fits(&now))
    }
}

impl Observer for Notes {
    fn born(&self, pid: Pid, parent: Option<Pid>) {
        self.note(pid, &format!("born {}", parent.unwrap_or(0)));
    }

    fn event(&self, pid: Pid, event: Event<'_>) -> Answer {
        let what = if let Event::Write(call) = &event {
            format!(
                "write {} {:?}",
                call.fd(),
                String::from_utf8_lossy(&call.data().unwrap())
            )
        } else {
            format!("{event:?}")
        };
        self.note(pid, &what);
        Answer::Go
    }

    fn exec(&self, mut exec: Exec, fds: &dyn OwnFds) -> ExecAnswer {
        assert!(fds.complete(&mut exec));
        let argv = exec
            .argv
            .iter()
            .map(|a| String::from_utf8_lossy(a))
            .collect::<Vec<_>>();
        let argv: String = argv.join(" ").chars().take(200).collect();
        let program = exec.program.path.display();
        let fds_seen: Vec<i32> = exec.fds.iter().map(|fd| fd.fd).collect();
        let interpreters: Vec<_> = exec.interpreters.iter().map(|w| w.path.display()).collect();
        let walks = exec.interpreters.iter().chain([&exec.program]);
        let links: Vec<_> = walks.flat_map(|w| &w.links).collect();
        self.note(
            exec.pid,
            &format!(
                "exec {program} cwd {} umask {:o} fds {fds_seen:?} by {interpreters:?} \
                 through {links:?} [{argv}]",
                exec.cwd.display(),
                exec.umask
            ),
        );
        if !exec.program.path.ends_with("served") {
            return ExecAnswer::Run;
        }
        assert!(fds.ready_to_exit());
        // More than a pipe holds.
        let text = "served\n".repeat(20_000);
        match fds.write_all(1, text.as_bytes()) {
            Ok(()) => ExecAnswer::Exit(7),
            Err(_) => ExecAnswer::Signal(libc::SIGPIPE),
        }
    }

    fn exec_failed(&self, pid: Pid) {
        self.note(pid, "exec failed");
    }

    fn exit(&self, pid: Pid, status: i32, children: &[(Pid, bool)]) {
        let alive = children.iter().filter(|(_, alive)| *alive).count();
        self.note(pid, &format!("exit {status} with {alive}"));
    }

    fn died(&self, pid: Pid, signal: Option<i32>) {
        self.note(pid, &format!("died {}", signal.unwrap_or(0)));
    }
}

/// What was told of a command.
pub struct Seen {
    pub dir: tempfile::TempDir,
    pub status: i32,
    pub stdout: String,
    /// How many looks came by the fast path.
    pub noted: u64,
    /// How many waits for children stopped, where there is a fast path.
    pub waited: u64,
    /// Process and what was told, without the name of the directory.
    pub told: Vec<(Pid, String)>,
}

/// Observes a command in a new directory, after `prepare` has furnished it.
pub fn observe(backend: &str, prepare: impl Fn(&Path), command: &[&str]) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let log = state.path().join("log");
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["host", backend, log.to_str().unwrap()])
        .args(command)
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SELF", std::env::current_exe().unwrap())
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .process_group(0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    let here = format!("{}/", dir.path().display());
    let told = text.lines().filter_map(|line| {
        let (pid, what) = line.split_once(' ')?;
        Some((pid.parse().ok()?, what.replace(&here, "")))
    });
    let counted = fs::read_to_string(log.with_extension("counted")).unwrap();
    let (noted, waited) = counted.split_once(' ').unwrap();
    let seen = Seen {
        noted: noted.parse().unwrap(),
        waited: waited.parse().unwrap(),
        status: out.status.code().unwrap(),
        stdout: String::from_utf8(out.stdout).unwrap(),
        told: told.collect(),
        dir,
    };
    seen.check();
    seen
}

impl Seen {
    /// What holds of every command: who speaks has been born, of a parent that lives, and everyone ends
    /// once, after everything else.
    fn check(&self) {
        let mut alive = Vec::new();
        let mut ended = Vec::new();
        for (n, (pid, what)) in self.told.iter().enumerate() {
            if let Some(parent) = what.strip_prefix("born ") {
                let parent: Pid = parent.parse().unwrap();
                assert!(!alive.contains(pid), "{pid} is born twice");
                assert!(
                    n == 0 || alive.contains(&parent),
                    "{pid} is born of {parent}"
                );
                assert_eq!(n == 0, parent == 0, "{pid} is born of nobody");
                alive.push(*pid);
                continue;
            }
            assert!(alive.contains(pid), "{pid} was not born: {what}");
            if what.starts_with("died") || what.starts_with("exit ") {
                alive.retain(|p| p != pid);
                ended.push(*pid);
            }
        }
        assert!(alive.is_empty(), "never ended: {alive:?}\n{}", self.text());
    }

    pub fn text(&self) -> String {
        self.told
            .iter()
            .map(|(pid, what)| format!("{pid} {what}\n"))
            .collect()
    }

    /// Everything in this order, other things in between.
    pub fn expect(&self, wanted: &[&str]) -> &Self {
        let mut told = self.told.iter().map(|(_, what)| what);
        for want in wanted {
            assert!(
                told.any(|what| what.contains(want)),
                "not told: {want}\n{}",
                self.text()
            );
        }
        self
    }

    pub fn expect_not(&self, unwanted: &str) -> &Self {
        let told = self.told.iter().find(|(_, what)| what.contains(unwanted));
        assert!(told.is_none(), "told: {told:?}\n{}", self.text());
        self
    }

    pub fn count(&self, what: &str) -> usize {
        let told = self.told.iter().map(|(_, told)| told);
        told.filter(|told| told.starts_with(what)).count()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
