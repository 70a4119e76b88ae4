//! `rfs build TARGET...`: the rules of the workspace decide what is run.

use super::build::Args;
use super::descriptors::Inherited;
use super::error::CommandError;
use super::progress::Shown;
use super::signals::{self, Taken};
use super::{console, place, workspace};
use crate::base::{Chunk, Digest, Miss};
use crate::cache::gc;
use crate::disk::{Disk, RealDisk};
use crate::engine::machine;
use crate::engine::{self, Clean, Counts, Engine, Event, Known, Ledger, Programs, Setting};
use crate::engine::{Mark, Marks, Tell, Told, Wish};
use crate::report::{self, Live, Sink, Verdict};
use crate::rules::{self, Inputs};
use crate::runner::guard;
use crate::runner::jobs::Setup;
use crate::runner::{Tracer, spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The hidden command by which the program becomes the spawner of a build.
pub(super) const SPAWNER: &str = "spawn-jobs";

/// What people have said of single files.
pub(super) const MARKS: &str = ".rfs/marks";

/// The hidden command by which the program becomes the guard of a build.
pub(super) const GUARD: &str = "guard-jobs";

/// Cleans up in a workspace after a build that was killed.
#[derive(Debug, clap::Args)]
pub(super) struct GuardArgs {
    root: PathBuf,
}

/// Waits until the build that it guards is done or dead, and removes what that has left half made.
pub(super) fn guard(args: &GuardArgs) -> Result<i32, CommandError> {
    if guard::watch() {
        let dir = args.root.join(workspace::STATE);
        engine::remove_half_made(&args.root, &dir, Arc::new(RealDisk))
            .map_err(CommandError::new)?;
    }
    Ok(0)
}

/// Whether the words of the command line are targets: there are rules, and no `--` says that they are a
/// command.
pub(super) fn are_targets(root: &Path, command: &[OsString]) -> bool {
    let args: Vec<OsString> = std::env::args_os().collect();
    let dashes = args
        .len()
        .checked_sub(command.len() + 1)
        .and_then(|at| args.get(at));
    dashes.is_none_or(|word| word != "--") && root.join(rules::load::RFSFILE).is_file()
}

/// Makes the targets.
pub(super) fn run(
    args: Args,
    cwd: &Path,
    root: PathBuf,
    config: super::config::Config,
) -> Result<i32, CommandError> {
    let begun = Instant::now();
    Inherited::list().close();
    let targets: Result<Vec<String>, CommandError> = args
        .command
        .iter()
        .map(|word| name(word, cwd, &root))
        .collect();
    let targets = targets?;
    let inputs = inputs(&root);
    let cache = place::cache(args.cache_dir.as_deref(), config.cache_dir.as_deref(), cwd)?;
    let plain =
        !(args.explain || args.dry_run || args.retry_failed || args.rerun || args.no_incremental);
    let state = root.join(workspace::STATE);
    let key = standing_key(&root, &cache, &targets).filter(|_| plain);
    let clean = key.and_then(|key| Clean::read(&state, key, &root, &inputs.env));
    if let Some(clean) = clean.as_ref().filter(|clean| clean.is_all()) {
        let counts = Counts {
            up_to_date: clean.n_jobs(),
            ..Counts::default()
        };
        remind(&Marks::read(&root.join(MARKS)).map_err(CommandError::new)?);
        if !args.quiet {
            console::tell(summary(&counts, begun.elapsed().as_secs_f64()));
        }
        return Ok(0);
    }
    let rules = rules::load(&inputs).map_err(|error| {
        CommandError::new(error).hint("doc/rules.md tells what an Rfsfile can say")
    })?;
    workspace::prepare(&root, &RealDisk).map_err(CommandError::new)?;
    let when = args.progress.or(config.progress).unwrap_or_default();
    let taken = Taken::take()?;
    if !args.dry_run && Shown::may_have_line(when) {
        signals::leave_stop();
    }
    let mask = taken.mask;
    let shown = (!args.dry_run).then(|| Shown::of(when, &root, &targets.join(" ")));
    let shown = shown.flatten();
    let sink: Arc<dyn Sink> = Arc::new(Warnings(shown.clone()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let known = Known::open(&root, &cache, &disk, &*sink);
    let program = std::env::current_exe().map_err(CommandError::new)?;
    let wiring = Arc::new(Mutex::new(None::<Sender<Event>>));
    let coming = (taken, wiring.clone());
    let guard = [&program, Path::new(GUARD), &root].map(|word| word.as_os_str().to_owned());
    let mut programs = Programs::new(
        Setup {
            spawner: vec![program.into(), SPAWNER.into()],
            title: format!("rfs build {}", targets.join(" ")),
            workspace: root.clone(),
            cache: cache.clone(),
            cache_size: config.cache_size.unwrap_or(gc::SIZE),
            disk: disk.clone(),
            mask,
            tracer: args
                .tracer
                .map(Tracer::from)
                .or(config.tracer)
                .unwrap_or_default(),
            preload: place::preload(config.preload),
            policy: config.policy,
        },
        guard.to_vec(),
        known.clone(),
        sink,
        Box::new(move || listen(coming)),
    );
    let wish = Wish {
        jobs: args.jobs.unwrap_or_else(cpus).max(1),
        keep_going: args.keep_going,
        dry: args.dry_run,
        retry_failed: args.retry_failed,
        force: args.rerun,
        from_nothing: args.no_incremental,
        keep_failed: args.keep_failed,
        retries: args.retries,
    };
    let ledger = Ledger::open(&root.join(workspace::STATE), disk.clone());
    let marks_path = root.join(MARKS);
    let marks = Marks::read(&marks_path).map_err(CommandError::new)?;
    let setting = Setting {
        root: root.clone(),
        marks: marks.clone(),
        clean,
        machine: machine(),
        known: known.clone(),
        disk,
        ledger: ledger.map_err(CommandError::new)?,
    };
    let mut teller = Teller {
        explain: args.explain || args.dry_run,
        shown: shown.clone(),
        running: HashMap::new(),
        n_begun: 0,
    };
    if let Some(shown) = &shown {
        shown.start();
    }
    let (engine, events) = Engine::new(rules, setting, wish, &mut programs, &mut teller);
    *wiring.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    let key = || standing_key(&root, &cache, &targets);
    let (counts, remembered) = engine.build(&targets, key);
    programs.end();
    if let Some(shown) = &shown {
        shown.finish();
    }
    keep_marks(&marks_path, &remembered);
    remind(&marks);
    drop(known.world.flush());
    if !args.quiet {
        console::tell(summary(&counts, begun.elapsed().as_secs_f64()));
    }
    Ok(if counts.interrupted {
        spawn::die_by(nix::sys::signal::Signal::SIGINT as i32)
    } else {
        i32::from(counts.failed + counts.errors + counts.blocked > 0)
    })
}

/// Under what it is kept which files a build of these targets has found as they are. None where there is
/// nothing that jobs have made.
fn standing_key(root: &Path, cache: &Path, targets: &[String]) -> Option<Digest> {
    let id = |path: &Path| {
        let meta = path.metadata().ok()?;
        Some([meta.dev(), meta.ino()].map(u64::to_le_bytes).concat())
    };
    let program = Path::new("/proc/self/exe").metadata().ok()?;
    let program = format!(
        "{} {} {}",
        program.len(),
        program.mtime(),
        program.mtime_nsec()
    );
    // Without it nobody knows whose the files are.
    root.join(workspace::STATE).join("made").metadata().ok()?;
    let index = id(&cache.join("index"))?;
    let marks = std::fs::read(root.join(MARKS)).unwrap_or_default();
    let machine = machine();
    let mut parts: Vec<&[u8]> = vec![program.as_bytes(), machine.as_bytes(), &index, &marks];
    parts.extend([root, cache].map(|path| path.as_os_str().as_bytes()));
    parts.extend(targets.iter().map(|name| name.as_bytes()));
    Some(engine::key(parts))
}

/// What the rules of a workspace are read from.
pub(super) fn inputs(root: &Path) -> Inputs {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Inputs {
        root: root.to_owned(),
        env: std::env::vars_os().filter_map(text).collect(),
    }
}

/// The name in the workspace of a target that was typed in some directory.
pub(super) fn name(word: &OsString, cwd: &Path, root: &Path) -> Result<String, CommandError> {
    let mut path = PathBuf::new();
    for part in cwd.join(word).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => path.push(part),
        }
    }
    let inside = path.strip_prefix(root).ok().and_then(Path::to_str);
    inside.map(str::to_owned).ok_or_else(|| {
        CommandError::new(format_args!("{} is not in the workspace", path.display()))
            .hint("to run a command, put `--` before it: `rfs build -- COMMAND`")
    })
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Tells the engine of signals, on a thread of its own.
fn listen((taken, wiring): (Taken, Arc<Mutex<Option<Sender<Event>>>>)) {
    std::thread::spawn(move || {
        loop {
            let mut fds = [PollFd::new(taken.coming.as_fd(), PollFlags::POLLIN)];
            let _waited = poll(&mut fds, PollTimeout::NONE);
            while let Ok(Some(info)) = taken.coming.read_signal() {
                if info.ssi_signo == nix::libc::SIGCHLD as u32 {
                    continue;
                }
                let wiring = wiring.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(events) = &*wiring {
                    let _over = events.send(Event::Interrupt).is_err();
                }
            }
        }
    });
}

fn summary(counts: &Counts, seconds: f64) -> String {
    let Counts {
        ran,
        served,
        up_to_date,
        failed,
        blocked,
        errors,
        interrupted,
    } = counts;
    let mut text = format!("{ran} ran, {served} served, {up_to_date} up to date");
    for (n, what) in [(failed, "failed"), (blocked, "not run"), (errors, "errors")] {
        if *n > 0 {
            text.push_str(&format!(", {n} {what}"));
        }
    }
    if *interrupted {
        text.push_str(", interrupted");
    }
    format!("{text}; {seconds:.2} s")
}

/// Files that were made anew need not be so again.
fn keep_marks(path: &Path, remembered: &[String]) {
    if remembered.is_empty() {
        return;
    }
    // As they are by now.
    let kept = Marks::read(path).and_then(|mut marks| {
        for name in remembered {
            marks.set(Mark::Forgotten, name, false);
        }
        marks.write(path, &RealDisk)
    });
    if let Err(error) = kept {
        console::warn(error, None);
    }
}

/// What was said of files is easily forgotten.
fn remind(marks: &Marks) {
    for (mark, what) in [
        (
            Mark::Frozen,
            "frozen, and no job makes it (`rfs freeze --off` thaws it)",
        ),
        (
            Mark::Quiet,
            "marked, and its changes do not count (`rfs mark --off`)",
        ),
    ] {
        for name in marks.of(mark) {
            console::tell(format_args!("{name} is {what}"));
        }
    }
}

/// Tells people.
struct Teller {
    explain: bool,
    shown: Option<Arc<Shown>>,
    /// By title: the number of a job that runs.
    running: HashMap<String, u32>,
    n_begun: u32,
}

impl Teller {
    /// Takes the line of progress away before something is printed, and notes what it tells of next.
    fn show(&mut self, told: &Told) {
        let Some(shown) = &self.shown else { return };
        shown.live(&Live::Prints(b"\n"));
        let mut number = |title: &str| {
            self.running.remove(title).unwrap_or_else(|| {
                self.n_begun += 1;
                self.n_begun
            })
        };
        match told {
            Told::Runs(title, _) => {
                let (number, parent) = (number(title), None);
                self.running.insert(title.clone(), number);
                shown.live(&Live::Began {
                    number,
                    parent,
                    title,
                });
            }
            Told::Served(title) => shown.ended(number(title), title, &Verdict::Hit),
            Told::Done(title, chunks) | Told::Failed(title, _, chunks, true) => {
                for chunk in chunks {
                    shown.live(&Live::Prints(&chunk.bytes));
                }
                shown.ended(number(title), title, &Verdict::Ran(Miss::Unknown));
            }
            Told::UpToDate(_) | Told::Failed(..) | Told::Error(_) | Told::Warning(_) => {}
        }
    }
}

impl Tell for Teller {
    fn tell(&mut self, told: Told) {
        self.show(&told);
        match told {
            Told::Runs(title, why) if self.explain => {
                console::tell(format_args!("run {title}: {why}"));
            }
            Told::Runs(title, _) => console::tell(format_args!("run {title}")),
            Told::UpToDate(title) if self.explain => console::tell(format_args!("keep {title}")),
            Told::UpToDate(_) => {}
            Told::Served(title) => console::tell(format_args!("serve {title}")),
            Told::Done(_, chunks) => print(&chunks),
            Told::Failed(title, why, chunks, now) => {
                print(&chunks);
                let when = if now { "" } else { " (as before)" };
                console::tell(format_args!("failed {title}{when}: {why}"));
            }
            Told::Error(why) => console::tell(format_args!("error: {why}")),
            Told::Warning(text) => console::warn(text, None),
        }
    }
}

/// What a job printed, where it would have gone.
fn print(chunks: &[Chunk]) {
    for chunk in chunks {
        let _gone = match chunk.fd {
            1 => std::io::stdout().write_all(&chunk.bytes),
            _ => std::io::stderr().write_all(&chunk.bytes),
        };
    }
}

/// Of what the watch tells, jobs are the engine's.
struct Warnings(Option<Arc<Shown>>);

impl Sink for Warnings {
    fn take(&self, event: report::Event) {
        match event {
            report::Event::Warning(text) => {
                if let Some(shown) = &self.0 {
                    shown.clear();
                }
                console::warn(text, None);
            }
            report::Event::Step(_) => {}
        }
    }
}
