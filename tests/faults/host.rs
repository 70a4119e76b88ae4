//! A build on a disk that fails at one operation, or from it on.

use nix::sys::signal::SigSet;
use rfs::base::policy::Policy;
use rfs::disk::{Disk, Fault, FaultyDisk, Temper};
use rfs::report::{Event, Sink, Verdict};
use rfs::watch::session::{Plan, Session};
use rfs_tracer::{Backend, Ended};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// Remembers what failed.
#[derive(Debug)]
struct Noted {
    disk: FaultyDisk,
    /// Only writing of bytes fails.
    bytes: bool,
    failed: Mutex<Option<&'static str>>,
}

impl Disk for Noted {
    fn fault(&self, op: &'static str, len: usize) -> Option<Fault> {
        if self.bytes && len == 0 {
            return None;
        }
        let fault = self.disk.fault(op, len)?;
        self.failed.lock().unwrap().get_or_insert(op);
        Some(fault)
    }
}

/// Keeps what is told, as lines.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

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
    let bytes = temper == "torn";
    let temper = match temper.as_str() {
        "full" => Temper::Once(libc::ENOSPC),
        "torn" => Temper::Torn(libc::EIO),
        _ => Temper::Dead,
    };
    let disk = Arc::new(Noted {
        disk: FaultyDisk::new(at.parse().unwrap(), temper),
        bytes,
        failed: Mutex::default(),
    });
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
        preload: false,
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
    if let Some(op) = *disk.failed.lock().unwrap() {
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
