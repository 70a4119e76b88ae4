//! A build by rules on a disk that fails at one operation, or from it on: that of the command, or that of the
//! process that prepares its jobs.

use crate::host::{Noted, Told as Sunk};
use nix::sys::signal::SigSet;
use rfs::base::policy::Policy;
use rfs::disk::Disk;
use rfs::engine::{
    self, Clean, Engine, Known, Ledger, Mark, Marks, Programs, Setting, Tell, Told, Wish,
};
use rfs::rules::{self, Inputs};
use rfs::runner::jobs::Setup;
use rfs::runner::{Tracer, spawner};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

/// What makes a file of it by rules, in the ways there are: after another one, several at once, names that are known
/// at the end only, modes, links, in directories that are still to be made, over what somebody has written.
pub const RFSFILE: &str = "\
rule('copy', targets = 'out/copy', deps = 'in', cmd = 'cat {dep} > {target}')
rule('both', targets = ['out/a', 'out/b'], deps = 'out/copy', cmd = 'cat in > out/a; cat out/copy in > out/b; echo said')
rule('star', targets = 'parts/{*:[xy]}.p', deps = 'in', cmd = 'cat in > parts/x.p; cat in in > parts/y.p; chmod 755 parts/y.p')
rule('link', targets = 'link', cmd = 'ln -s out/copy link')
rule('deep', targets = 'd/e/{n}.f', deps = 'in', cmd = 'cat in > {target}')
rule('mine', targets = 'mine', deps = 'in', cmd = 'cat in > mine')
rule('sum', targets = 'sum', deps = ['out/b', 'link', 'd/e/1.f', 'mine'], cmd = 'cat out/a parts/x.p {deps} > sum')
";

/// What somebody wrote where a target is to be.
pub const MINE: &str = "by hand\n";

/// Prints what the engine tells.
struct Lines;

impl Tell for Lines {
    fn tell(&mut self, told: Told) {
        match told {
            Told::Runs(title, _) => eprintln!("run {title}"),
            Told::UpToDate(title) => eprintln!("keep {title}"),
            Told::Served(title) => eprintln!("serve {title}"),
            Told::Done(..) => {}
            Told::Failed(title, why, ..) => eprintln!("failure of {title}: {why}"),
            Told::Error(why) => eprintln!("error {why}"),
            Told::Warning(text) => eprintln!("warning {text}"),
        }
    }
}

/// `WHERE TEMPER AT CACHE NOTE` in the workspace: makes `sum` on a disk that fails, that of the `command` or of its
/// `spawner`; says what failed, and what was told.
pub fn main(arguments: &[String]) -> ExitCode {
    let [place, temper, at, cache, note] = arguments else {
        panic!("{arguments:?}")
    };
    let never = usize::MAX.to_string();
    let (ours, theirs) = match place.as_str() {
        "command" => (at, &never),
        _ => (&never, at),
    };
    let noted = Arc::new(Noted::new(temper, ours, None));
    let done = build(&noted, Path::new(cache), &[temper, theirs, note]);
    match (noted.failed(), std::fs::read_to_string(note)) {
        (Some(op), _) => eprintln!("failed {op}"),
        (None, Ok(op)) => eprintln!("failed {op}"),
        (None, Err(_)) => {}
    }
    match done {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            eprintln!("error {why}");
            ExitCode::from(125)
        }
    }
}

/// `TEMPER AT NOTE`: prepares and starts jobs.
pub fn spawn_jobs(arguments: &[String]) -> ExitCode {
    let [temper, at, note] = arguments else {
        panic!("{arguments:?}")
    };
    spawner::serve(&Noted::new(temper, at, Some(note.into()))).unwrap();
    ExitCode::SUCCESS
}

/// The exit status, or why nothing could be done.
fn build(disk: &Arc<Noted>, cache: &Path, spawner: &[&String; 3]) -> Result<u8, String> {
    let root = std::env::current_dir().unwrap();
    let state = root.join(".rfs");
    std::fs::create_dir_all(&state).unwrap();
    let disk: Arc<dyn Disk> = disk.clone();
    let text = |(name, value): (OsString, OsString)| {
        (name.into_string().unwrap(), value.into_string().unwrap())
    };
    let env: BTreeMap<String, String> = std::env::vars_os().map(text).collect();
    let inputs = Inputs {
        root: root.clone(),
        env: env.clone(),
    };
    let marks_path = state.join("marks");
    let key = || Some(engine::key([b"sum".as_slice()]));
    let clean = Clean::read(&state, key().unwrap(), &root, &env);
    if clean.as_ref().is_some_and(Clean::is_all) {
        eprintln!("all stands");
        return Ok(0);
    }
    let sink = Arc::new(Sunk::default());
    let known = Known::open(&root, cache, &disk, &*sink);
    let exe = std::env::current_exe().unwrap();
    let mut words: Vec<OsString> = vec![exe.into(), "spawn-jobs".into()];
    words.extend(spawner.iter().map(OsString::from));
    let mut programs = Programs::new(
        Setup {
            spawner: words,
            title: "sum".to_owned(),
            workspace: root.clone(),
            cache: cache.to_owned(),
            cache_size: u64::MAX,
            disk: disk.clone(),
            mask: SigSet::thread_get_mask().unwrap(),
            tracer: Tracer::Auto,
            preload: rfs_tracer::Preload::Off,
            policy: Policy::default(),
        },
        vec![
            env!("CARGO_BIN_EXE_rfs").into(),
            "guard-jobs".into(),
            root.clone().into(),
        ],
        known.clone(),
        sink.clone(),
        Box::new(|| ()),
    );
    let why = |error: rfs::disk::Error| error.to_string();
    let mut marks = Marks::read(&marks_path).map_err(why)?;
    let setting = Setting {
        root: root.clone(),
        marks: marks.clone(),
        clean,
        machine: engine::machine(),
        known: known.clone(),
        disk: disk.clone(),
        ledger: Ledger::open(&state, disk.clone()).map_err(why)?,
    };
    let wish = Wish {
        jobs: 2,
        keep_going: true,
        dry: false,
        retry_failed: true,
        force: false,
        from_nothing: false,
        keep_failed: true,
        retries: 0,
    };
    let rules = rules::load(&inputs).unwrap();
    let mut lines = Lines;
    let (engine, _events) = Engine::new(rules, setting, wish, &mut programs, &mut lines);
    let (counts, remembered) = engine.build(&["sum".to_owned()], key);
    programs.end();
    if !remembered.is_empty() {
        for name in &remembered {
            marks.set(Mark::Forgotten, name, false);
        }
        if let Err(error) = marks.write(&marks_path, &*disk) {
            eprintln!("warning {error}");
        }
    }
    drop(known.world.flush());
    for line in sink.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        eprintln!("{line}");
    }
    Ok(u8::from(counts.failed + counts.errors + counts.blocked > 0))
}
