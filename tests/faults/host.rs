//! A build on a disk that fails at one operation, or from it on.

use nix::sys::signal::SigSet;
use rfs::base::policy::Policy;
use rfs::disk::{Disk, Fault, FaultyDisk, Temper};
use rfs::report::{Event, Sink, Verdict};
use rfs::watch::session::{Plan, Session};
use rfs_tracer::{Backend, Ended, Preload};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One of so many notes for other builds is counted as an operation.
const NOTES: usize = 16;

/// A disk that fails as it was told to, and remembers at what.
#[derive(Debug)]
pub struct Noted {
    disk: FaultyDisk,
    /// Only writing of bytes fails.
    bytes: bool,
    failed: Mutex<Option<&'static str>>,
    n_notes: AtomicUsize,
    /// Where the first operation that failed is written down.
    note: Option<PathBuf>,
}

impl Noted {
    /// `full`, `torn` or `dead`, at this operation.
    pub fn new(temper: &str, at: &str, note: Option<PathBuf>) -> Self {
        let bytes = temper == "torn";
        let temper = match temper {
            "full" => Temper::Once(libc::ENOSPC),
            "torn" => Temper::Torn(libc::EIO),
            _ => Temper::Dead,
        };
        Self {
            disk: FaultyDisk::new(at.parse().unwrap(), temper),
            bytes,
            failed: Mutex::default(),
            n_notes: AtomicUsize::new(0),
            note,
        }
    }

    /// The first operation that failed.
    pub fn failed(&self) -> Option<&'static str> {
        *self.failed.lock().unwrap()
    }
}

impl Disk for Noted {
    fn fault(&self, op: &'static str, len: usize) -> Option<Fault> {
        if self.bytes && len == 0 {
            return None;
        }
        // There are so many of them.
        if op == "note" && self.n_notes.fetch_add(1, Ordering::Relaxed) % NOTES != 0 {
            return None;
        }
        let fault = self.disk.fault(op, len)?;
        let mut failed = self.failed.lock().unwrap();
        if let Some(note) = self.note.as_ref().filter(|_| failed.is_none()) {
            std::fs::write(note, op).unwrap();
        }
        failed.get_or_insert(op);
        Some(fault)
    }
}

/// Keeps what is told, as lines.
#[derive(Debug, Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl Sink for Told {
    fn take(&self, event: Event) {
        let line = match event {
            Event::Step(step) => match step.verdict {
                Verdict::Hit => format!("hit {}", step.title),
                Verdict::Ran(miss) => format!("ran {}: {miss}", step.title),
                Verdict::Refused(why) => format!("refused {}: {why}", step.title),
            },
            Event::Warning(text) => format!("warning {text}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

/// `TEMPER AT CACHE COMMAND...` in the workspace. Says what failed, if anything, and what was told.
pub fn main(arguments: &[String]) -> ExitCode {
    let [temper, at, cache, command @ ..] = arguments else {
        panic!("{arguments:?}")
    };
    let disk = Arc::new(Noted::new(temper, at, None));
    let cwd = std::env::current_dir().unwrap();
    std::fs::create_dir_all(cwd.join(".rfs")).unwrap();
    let plan = Plan {
        argv: command.iter().map(Into::into).collect(),
        title: command.join(" "),
        env: std::env::vars_os().collect(),
        workspace: cwd.clone(),
        cwd,
        cache: cache.into(),
        cache_size: u64::MAX,
        disk: disk.clone(),
        mask: SigSet::thread_get_mask().unwrap(),
        backend: Backend::Auto,
        preload: Preload::Off,
        passthrough: true,
        jobs: None,
        shell: false,
        rerun: false,
        strict_clock: false,
        policy: Policy::default(),
        pins: None,
        room: None,
        tokens: None,
    };
    let told = Arc::new(Told::default());
    let mut session = Session::start(plan, told.clone()).unwrap();
    let ended = session.wait().unwrap();
    session.drain();
    if let Some(op) = disk.failed() {
        eprintln!("failed {op}");
    }
    for line in told.0.lock().unwrap().iter() {
        eprintln!("{line}");
    }
    match ended {
        Ended::Exit(status) => ExitCode::from(u8::try_from(status).unwrap()),
        Ended::Signal(signal) => panic!("signal {signal}"),
    }
}
