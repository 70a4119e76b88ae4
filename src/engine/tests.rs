//! The engine against a model, over random graphs and histories: after each build every target is what a
//! build from nothing would make, nothing was run twice on the same inputs, and nobody waits for ever,
//! however few slots there are.
//!
//! Programs are threads that do what their arguments say. `RFS_SEED=N` runs one history.
#![allow(
    clippy::disallowed_methods,
    reason = "does what people and programs do to files"
)]

use super::*;
use crate::base::{
    Access, Cost, Dep, Digest, Name, Output, Provenance, Record, Scraps, Stamp, Stdin, What,
};
use crate::disk::RealDisk;
use crate::rules::{Inputs, load};
use crate::watch::jobs::Ticket;
use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;

/// Histories of the short form.
const HISTORIES: u64 = 60;
/// Builds of one history.
const BUILDS: usize = 8;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % sides
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

/// What a program does.
#[derive(Debug, Clone)]
enum Op {
    /// It reads a file, which may be absent.
    Read(String),
    /// It reads a file, and then the one among these that the content says.
    Follow(String, Vec<String>),
}

#[derive(Debug, Clone)]
struct Plan {
    constant: usize,
    ops: Vec<Op>,
    /// Files among those that it reads which its rule names.
    deps: Vec<String>,
    /// It fails on some inputs.
    may_fail: bool,
    /// On some inputs it leaves its target out, which another rule makes then.
    optional: bool,
    /// It makes a file more, whose name depends on the inputs.
    star: bool,
    /// On each inputs it fails the first time.
    flaky: bool,
}

impl Op {
    fn word(&self) -> String {
        match self {
            Self::Read(name) => format!("r:{name}"),
            Self::Follow(name, list) => format!("f:{name}:{}", list.join(",")),
        }
    }

    fn of(word: &str) -> Option<Self> {
        let (kind, rest) = word.split_once(':')?;
        Some(match (kind, rest.split_once(':')) {
            ("f", Some((name, list))) => Self::Follow(
                name.to_owned(),
                list.split(',').map(str::to_owned).collect(),
            ),
            _ => Self::Read(rest.to_owned()),
        })
    }

    /// What is read, in order, where `value` tells contents.
    fn read(&self, value: &mut dyn FnMut(&str) -> String) -> Vec<String> {
        match self {
            Self::Read(name) => vec![value(name)],
            Self::Follow(name, list) => {
                let which = value(name);
                let at = usize::from(Digest::of(which.as_bytes()).0[0]) % list.len();
                vec![which, value(&list[at])]
            }
        }
    }
}

fn result(name: &str, constant: usize, read: &[String]) -> String {
    let text = format!("{name} {constant} {}", read.join(" "));
    Digest::of(text.as_bytes()).hex()[..12].to_owned()
}

fn leaves_out(optional: bool, result: &str) -> bool {
    optional && result.starts_with(['3', '4', '5', '6', '7'])
}

/// The last component of the name of a file more.
fn more(result: &str) -> &str {
    if result.as_bytes()[1] % 2 == 0 {
        "0"
    } else {
        "1"
    }
}

/// What the rule says of a target that is left out.
const ELSE: usize = 9;

fn fails(may_fail: bool, result: &str) -> bool {
    may_fail && result.starts_with(['0', '1', '2'])
}

/// A graph and what its sources contain: what a clean build of it makes.
struct Model {
    sources: Vec<usize>,
    plans: Vec<Plan>,
}

impl Model {
    fn random(dice: &mut Dice) -> Self {
        let sources = (0..2 + dice.roll(3)).map(|_| dice.roll(3)).collect();
        let mut model = Self {
            sources,
            plans: Vec::new(),
        };
        for n in 0..3 + dice.roll(8) {
            let ops: Vec<Op> = (0..1 + dice.roll(3)).map(|_| model.op(n, dice)).collect();
            let names = ops.iter().map(|op| match op {
                Op::Read(name) | Op::Follow(name, _) => name.clone(),
            });
            // A rule does not apply that needs what no rule makes.
            let known = |name: &String| match name.strip_prefix('t') {
                Some(rest) => rest.split('.').next().and_then(|n| n.parse().ok()) < Some(n),
                None => true,
            };
            let names = names.filter(known);
            let deps = names.filter(|_| dice.one_in(3)).collect();
            model.plans.push(Plan {
                constant: dice.roll(2),
                ops,
                deps,
                may_fail: dice.one_in(5),
                optional: dice.one_in(5),
                star: dice.one_in(4),
                flaky: dice.one_in(5),
            });
        }
        model
    }

    fn op(&self, below: usize, dice: &mut Dice) -> Op {
        let mut name = || match below > 0 && !dice.one_in(3) {
            // Some go in a circle.
            true if dice.one_in(25) => format!("t{}", below + 1),
            true => {
                let number = dice.roll(below);
                match self.plans[number].star && dice.one_in(2) {
                    true => format!("t{number}.d/{}", dice.roll(2)),
                    false => format!("t{number}"),
                }
            }
            false => format!("s{}", dice.roll(self.sources.len())),
        };
        let (first, list) = (name(), vec![name(), name()]);
        match dice.one_in(3) {
            true => Op::Follow(first, list),
            false => Op::Read(first),
        }
    }

    fn rules(&self) -> String {
        let rule = |(n, plan): (usize, &Plan)| {
            let words: Vec<String> = plan
                .ops
                .iter()
                .map(|op| format!("'{}'", op.word()))
                .collect();
            let deps: Vec<String> = plan.deps.iter().map(|dep| format!("'{dep}'")).collect();
            let star = match plan.star {
                true => format!(", 't{n}.d/{{*:.*}}'"),
                false => String::new(),
            };
            format!(
                "rule('j{n}', targets = [target('t{n}', optional = {}){star}], deps = [{}], retries = {}, \
                 cmd = ['/p', '{{target}}', '{}', '{}', '{}', '{}', '{}', {}])\n\
                 rule('e{n}', targets = 't{n}', priority = -1, \
                 cmd = ['/p', '{{target}}', '{ELSE}', 'false', 'false', 'false', 'false'])\n",
                if plan.optional { "True" } else { "False" },
                deps.join(", "),
                i32::from(plan.flaky),
                plan.constant,
                plan.may_fail,
                plan.optional,
                plan.star,
                plan.flaky,
                words.join(", ")
            )
        };
        self.plans.iter().enumerate().map(rule).collect()
    }

    fn has_circles(&self) -> bool {
        let inside = |number: usize, name: &String| {
            let rest = name
                .strip_prefix('t')
                .and_then(|rest| rest.split('.').next());
            rest.and_then(|n| n.parse::<usize>().ok())
                .is_some_and(|n| n >= number)
        };
        self.plans.iter().enumerate().any(|(number, plan)| {
            plan.ops.iter().any(|op| match op {
                Op::Read(name) => inside(number, name),
                Op::Follow(name, list) => {
                    inside(number, name) || list.iter().any(|n| inside(number, n))
                }
            })
        })
    }

    /// The content of a file after a clean build; none where it cannot be made.
    fn value(&self, name: &str) -> Option<String> {
        self.value_within(name, &mut Vec::new())
    }

    /// The same where these are being made, which nobody who needs them can wait for.
    fn value_within(&self, name: &str, within: &mut Vec<usize>) -> Option<String> {
        let (kind, number) = name.split_at(1);
        let (number, part) = match number.split_once(".d/") {
            Some((number, part)) => (number, Some(part)),
            None => (number, None),
        };
        let number: usize = number.parse().ok()?;
        if kind == "s" {
            return Some(self.sources[number].to_string());
        }
        let Some(plan) = self.plans.get(number) else {
            return Some(String::new());
        };
        if within.contains(&number) {
            return None;
        }
        within.push(number);
        let mut deps = plan.deps.iter();
        let mut failed = deps.any(|dep| self.value_within(dep, within).is_none());
        let mut read = Vec::new();
        for op in &plan.ops {
            read.extend(op.read(&mut |name| {
                let value = self.value_within(name, within);
                failed |= value.is_none();
                value.unwrap_or_default()
            }));
        }
        within.pop();
        let target = format!("t{number}");
        let made = result(&target, plan.constant, &read);
        if failed || fails(plan.may_fail, &made) {
            return None;
        }
        Some(match part {
            Some(part) if part == more(&made) => made,
            Some(_) => String::new(),
            None if leaves_out(plan.optional, &made) => result(&target, ELSE, &[]),
            None => made,
        })
    }
}

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
