//! The engine against a model, over random graphs and histories: after each build every target is what a
//! build from nothing would make, nothing was run twice on the same inputs, and nobody waits for ever,
//! however few slots there are.
//!
//! Programs are threads that do what their arguments say. `RFS_SEED=N` runs one history.
#![allow(
    clippy::disallowed_methods,
    reason = "does what people and programs do to files"
)]

mod model;

use super::*;
use crate::base::{
    Access, Cost, Dep, Name, Output, Provenance, Record, Scraps, Stamp, Stdin, What,
};
use crate::disk::RealDisk;
use crate::rules::{Inputs, load};
use crate::watch::jobs::Ticket;
use model::{Dice, Model, Op, fails, leaves_out, more, result};
use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;

/// Histories of the short form.
const HISTORIES: u64 = 60;
/// Builds of one history.
const BUILDS: usize = 8;

/// What was run on which inputs, over all builds of a history.
type Runs = Arc<Mutex<HashMap<Vec<String>, Vec<Vec<String>>>>>;

struct Threads {
    known: Known,
    root: PathBuf,
    runs: Runs,
    twice: Arc<Mutex<Vec<String>>>,
}

impl Run for Threads {
    fn start(
        &mut self,
        job: JobId,
        start: Start,
        jobs: &Arc<dyn Jobs>,
        tell: &Sender<Event>,
    ) -> Result<(), String> {
        self.prepare(start.remove.clone(), start.make.clone())?;
        let bytes = |words: Vec<String>| words.into_iter().map(String::into_bytes).collect();
        let argv: Vec<Vec<u8>> = bytes(start.argv.clone());
        let env: Vec<Vec<u8>> = bytes(start.env.iter().map(|(n, v)| format!("{n}={v}")).collect());
        let ticket = jobs.starting(&argv, &env).expect("an ordered job");
        assert_eq!(ticket.id, job);
        let _heard = tell.send(Event::Started(job, Ok(1)));
        let program = Program {
            known: self.known.clone(),
            root: self.root.clone(),
            jobs: jobs.clone(),
            ticket,
            runs: self.runs.clone(),
            twice: self.twice.clone(),
        };
        std::thread::spawn(move || program.run(&start.argv));
        Ok(())
    }

    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String> {
        for path in remove {
            let _absent = fs::remove_file(path);
        }
        make.iter()
            .try_for_each(fs::create_dir_all)
            .map_err(|error| error.to_string())
    }

    fn kill(&mut self, _: i32, _: i32) {}
}

struct Program {
    known: Known,
    root: PathBuf,
    jobs: Arc<dyn Jobs>,
    ticket: Ticket,
    runs: Runs,
    twice: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn look(&self, name: &str, deps: &mut Vec<Dep>) -> String {
        let path = self.root.join(name);
        while !self.jobs.is_ready(self.ticket.id, &path) {
            self.jobs.wait(self.ticket.id, &path, &|| true);
        }
        let seen = self.known.world.look(&path).seen;
        let content = fs::read_to_string(&path);
        let access = match seen.is_absent() {
            true => Access::KIND,
            false => {
                self.known.world.digest(&path, &seen).unwrap();
                Access::KIND | Access::REG
            }
        };
        deps.push(Dep {
            name: Name::of(&path, &self.root),
            access,
            state: seen.state(access, None).unwrap(),
            rank: 0,
        });
        content.unwrap_or_default()
    }

    /// Notes a run. Gives how often there was the same before.
    fn again(&self, argv: &[String], flaky: bool, read: &[String]) -> usize {
        let mut runs = self.runs.lock().unwrap();
        let before = runs.entry(argv.to_vec()).or_default();
        let n = before.iter().filter(|other| *other == read).count();
        // Of more, the cache keeps the newest.
        if n > usize::from(flaky) && before.len() < 8 {
            let told = format!("{argv:?} on {read:?}");
            self.twice.lock().unwrap().push(told);
        }
        before.push(read.to_vec());
        n
    }

    fn run(&self, argv: &[String]) {
        let [
            _,
            target,
            constant,
            may_fail,
            optional,
            star,
            flaky,
            ops @ ..,
        ] = argv
        else {
            panic!("{argv:?}");
        };
        let mut deps = Vec::new();
        let mut read = Vec::new();
        for op in ops.iter().filter_map(|word| Op::of(word)) {
            read.extend(op.read(&mut |name| self.look(name, &mut deps)));
        }
        let result = result(target, constant.parse().unwrap(), &read);
        let is_flaky = flaky == "true";
        let n_before = self.again(argv, is_flaky, &read);
        let failed = fails(may_fail == "true", &result) || is_flaky && n_before % 2 == 0;
        let mut outputs = Vec::new();
        let cache = self.known.cache.as_ref().unwrap();
        let mut names = vec![target.clone()];
        if leaves_out(optional == "true", &result) {
            names.clear();
        }
        if star == "true" {
            names.push(format!("{target}.d/{}", more(&result)));
        }
        for name in names.iter().filter(|_| !failed) {
            let path = self.root.join(name);
            fs::write(&path, &result).unwrap();
            self.known.world.changed(&path);
            let (digest, size) = cache.insert(&fs::File::open(&path).unwrap()).unwrap();
            let seen = self.known.world.look(&path).seen;
            outputs.push(Output {
                name: Name::of(&path, &self.root),
                what: What::File {
                    digest,
                    size,
                    mode: seen.mode[0],
                    in_place: false,
                },
                stamp: Stamp::Now(0),
                owner: None,
            });
        }
        deps.dedup_by(|one, other| one.name == other.name);
        let record = Record {
            title: target.clone(),
            deps,
            outputs,
            dirs: Vec::new(),
            chunks: Vec::new(),
            stdin: Stdin::Null,
            status: i32::from(failed),
            notes: Vec::new(),
            cost: Cost::default(),
            provenance: Provenance::default(),
            command: crate::base::Command::default(),
            inner: Vec::new(),
            scraps: Scraps::default(),
        };
        cache.add(&self.ticket.key, record.clone()).unwrap();
        let ended = Ended {
            status: record.status,
            chunks: Vec::new(),
            record: Ok(Box::new(record)),
            changed: Vec::new(),
        };
        if ended.status == 0 {
            self.jobs.exits(self.ticket.id);
        }
        self.jobs.ended(self.ticket.id, ended);
    }
}

#[derive(Default)]
struct Heard(Vec<Told>);

impl Tell for Heard {
    fn tell(&mut self, told: Told) {
        self.0.push(told);
    }
}

struct Silence;

impl crate::report::Sink for Silence {
    fn take(&self, _: crate::report::Event) {}
}

/// One build: whether it failed, and what was told, for a failed test.
fn build(
    dir: &Path,
    slots: usize,
    targets: &[String],
    (runs, circles): (&Runs, bool),
) -> (bool, String) {
    let root = dir.join("w");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let known = Known::open(&root, &dir.join("cache"), &disk, &Silence);
    let rules = load(&Inputs {
        root: root.clone(),
        env: BTreeMap::new(),
    })
    .unwrap();
    let key = key(targets.iter().map(|name| name.as_bytes()));
    let state = root.join(".rfs");
    let clean = Clean::read(&state, key, &root, &BTreeMap::new());
    if clean.as_ref().is_some_and(Clean::is_all) {
        return (false, "all stands".to_owned());
    }
    let setting = Setting {
        root: root.clone(),
        clean,
        machine: "machine".to_owned(),
        known: known.clone(),
        disk: disk.clone(),
        ledger: Ledger::open(&root.join(".rfs"), disk).unwrap(),
        marks: Marks::default(),
    };
    let wish = Wish {
        jobs: slots,
        keep_going: true,
        dry: false,
        retry_failed: false,
        from_nothing: false,
        keep_failed: false,
        force: false,
        retries: 0,
    };
    let twice = Arc::default();
    let mut threads = Threads {
        known,
        root,
        runs: runs.clone(),
        twice: Arc::clone(&twice),
    };
    let mut heard = Heard::default();
    let (engine, events) = Engine::new(rules, setting, wish, &mut threads, &mut heard);
    // Whoever waits for ever is told to stop, and has failed.
    let (done, is_done) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = is_done.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout);
        if late {
            let _heard = events.send(Event::Lost("it waits for ever".to_owned()));
        }
        late
    });
    let (counts, _) = engine.build(targets, || Some(key));
    drop(done);
    assert!(
        !watchdog.join().unwrap(),
        "a build never ends: {:?}",
        heard.0
    );
    let twice = twice.lock().unwrap();
    // Who reads in a circle was not told the truth, and asks again.
    assert!(
        circles || twice.is_empty(),
        "run twice: {twice:?}\n{:?}",
        heard.0
    );
    let failed = counts.failed + counts.blocked + counts.errors > 0;
    (failed, format!("{:#?}", heard.0))
}

fn history(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("w");
    fs::create_dir_all(root.join(".rfs")).unwrap();
    let mut model = Model::random(&mut dice);
    let runs = Runs::default();
    for n in 0..BUILDS {
        for (number, content) in model.sources.iter().enumerate() {
            let path = root.join(format!("s{number}"));
            let content = content.to_string();
            if fs::read_to_string(&path).ok().as_ref() != Some(&content) {
                fs::write(path, content).unwrap();
            }
        }
        fs::write(root.join("Rfsfile"), model.rules()).unwrap();
        let wanted: Vec<String> = (0..model.plans.len())
            .filter(|_| dice.one_in(2))
            .map(|number| format!("t{number}"))
            .collect();
        let slots = 1 + dice.roll(3);
        let (failed, told) = build(dir.path(), slots, &wanted, (&runs, model.has_circles()));
        let must_fail = wanted.iter().any(|name| model.value(name).is_none());
        assert_eq!(failed, must_fail, "RFS_SEED={seed}: build {n}: {told}");
        for name in &wanted {
            let found = fs::read_to_string(root.join(name)).ok();
            let rules = model.rules();
            let expected = model.value(name);
            // Where a dep has failed, what was made of an older one stays.
            if expected.is_none() {
                continue;
            }
            assert_eq!(
                found, expected,
                "RFS_SEED={seed}: {name} after build {n} with {slots} slots; sources {:?}\n{rules}{told}",
                model.sources
            );
        }
        edit(&mut model, &root, &mut dice);
    }
}

/// What people do between two builds.
fn edit(model: &mut Model, root: &Path, dice: &mut Dice) {
    for _ in 0..dice.roll(3) {
        let target = root.join(format!("t{}", dice.roll(model.plans.len())));
        match dice.roll(6) {
            0 => drop(fs::remove_file(target)),
            1 => fs::write(target, "by hand").unwrap(),
            2 => {
                let number = dice.roll(model.plans.len());
                model.plans[number].constant = dice.roll(2);
            }
            _ => {
                let number = dice.roll(model.sources.len());
                model.sources[number] = dice.roll(3);
            }
        }
    }
}

#[test]
fn every_history_ends_as_a_clean_build() {
    if let Some(seed) = std::env::var_os("RFS_SEED") {
        return history(seed.to_str().unwrap().parse().unwrap());
    }
    let n = match std::env::var_os("RFS_LONG") {
        Some(_) => 50 * HISTORIES,
        None => HISTORIES,
    };
    (1..=n).for_each(history);
}
