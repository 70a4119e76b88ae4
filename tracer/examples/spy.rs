//! Prints every event of a command: `spy [--ptrace] [--preload] [-o FILE] COMMAND [ARGUMENT...]`.
//!
//! Without `-o` the events go to standard error, one a line: process id, then the event.

#![allow(clippy::print_stderr, reason = "a program of its own")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use nix::sys::signal::SigSet;
use rfs_tracer::event::{
    Answer, Event, Exec, ExecAnswer, Look, Names, Observer, OwnFds, Pid, Sight,
};
use rfs_tracer::{Backend, Ended, Launch, Preload, launch};

struct Spy(Mutex<Box<dyn Write + Send>>);

impl Spy {
    fn print(&self, pid: Pid, what: std::fmt::Arguments<'_>) {
        if let Ok(mut out) = self.0.lock() {
            let _ignored = writeln!(out, "{pid} {what}");
        }
    }
}

impl Names for Spy {
    fn look(&self, path: &Path) -> Look {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => Look::Dir,
            Ok(meta) if meta.is_symlink() => {
                std::fs::read_link(path).map_or_else(|e| unknown(&e), Look::Link)
            }
            Ok(_) => Look::File,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Look::Absent,
            Err(e) => unknown(&e),
        }
    }
    fn is_still(&self, path: &Path, sight: &Sight) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|now| sight.fits(&now))
    }
}

fn unknown(error: &io::Error) -> Look {
    Look::Unknown(error.raw_os_error().unwrap_or(0))
}

impl Observer for Spy {
    fn born(&self, pid: Pid, parent: Option<Pid>) {
        self.print(pid, format_args!("born of {parent:?}"));
    }
    fn event(&self, pid: Pid, event: Event<'_>) -> Answer {
        self.print(pid, format_args!("{event:?}"));
        Answer::Go
    }
    fn exec(&self, exec: Exec, _: &dyn OwnFds) -> ExecAnswer {
        self.print(exec.pid, format_args!("{exec:?}"));
        ExecAnswer::Run
    }
    fn exec_failed(&self, pid: Pid) {
        self.print(pid, format_args!("exec failed"));
    }
    fn exit(&self, pid: Pid, status: i32, children: &[(Pid, bool)]) {
        self.print(pid, format_args!("exit {status} {children:?}"));
    }
    fn died(&self, pid: Pid, signal: Option<i32>) {
        self.print(pid, format_args!("died {signal:?}"));
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let (mut backend, mut preload) = (Backend::Notify, Preload::Off);
    let mut out: Box<dyn Write + Send> = Box::new(io::stderr());
    while let Some(option) = arguments.next_if(|a| a.as_encoded_bytes().starts_with(b"-")) {
        match option.to_str() {
            Some("--ptrace") => backend = Backend::Ptrace,
            Some("--preload") => preload = Preload::On,
            Some("-o") => match arguments.next().map(File::create) {
                Some(Ok(file)) => out = Box::new(BufWriter::new(file)),
                _ => return fail("cannot write there"),
            },
            _ => return fail("usage: spy [--ptrace] [--preload] [-o FILE] COMMAND [ARGUMENT...]"),
        }
    }
    let spy = Arc::new(Spy(Mutex::new(out)));
    let command = Launch {
        argv: arguments.collect(),
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().unwrap_or_default(),
        mask: SigSet::thread_get_mask().unwrap_or(SigSet::empty()),
        backend,
        preload,
        guard: std::ffi::OsString::new(),
    };
    let ended = launch(command, || Ok(()))
        .and_then(|launched| launched.observe(Arc::clone(&spy) as Arc<_>))
        .and_then(|mut running| {
            let ended = running.wait();
            eprintln!("{:#?}", running.counts());
            running.drain();
            ended
        });
    if let Ok(mut out) = spy.0.lock() {
        let _ignored = out.flush();
    }
    match ended {
        Ok(Ended::Exit(status)) => ExitCode::from(status as u8),
        Ok(Ended::Signal(signal)) => ExitCode::from(128 + signal as u8),
        Err(error) => {
            eprintln!("spy: {error}");
            ExitCode::from(error.status() as u8)
        }
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("spy: {why}");
    ExitCode::from(125)
}
