//! The store side by side with LMDB, redb and SQLite on the same operations.
//!
//!     cargo run --release --manifest-path tests/bench/store/Cargo.toml -- [--divisor N] [--dir DIR]
//!         [--engines rfs,lmdb,redb,sqlite] [--apart] [--cold] [--absent]
//!
//! The whole is 1 000 000 names, 200 000 executions, 50 000 000 deps; `--divisor 20` takes a twentieth.
//! `--apart`: executions share no deps. `--cold`: what is opened is dropped from the page cache first (as
//! root). `--absent`: fills the store of rfs with and without the deps on what is absent, half of all, and
//! fails when one costs more than 4 bytes. Each engine fills its database in one process and answers in another.

mod lmdb;
mod ours;
mod redb;
mod sqlite;
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use work::{Size, Step};

/// What an engine can do. Everything that fails ends the bench.
pub trait Engine: Sized {
    /// Opens what is in a directory, or makes it.
    fn open(dir: &Path, size: Size) -> Self;
    /// Adds names whose numbers follow each other, in one transaction that survives the process.
    fn add_names(&mut self, first: u32, names: &[String]);
    /// Adds executions, in one transaction.
    fn add(&mut self, steps: &[Step], durable: bool);
    /// The number that a name has in the database.
    fn find(&self, name: &str) -> u32;
    /// The name of such a number.
    fn name(&self, number: u32) -> Vec<u8>;
    /// Deps of an execution, with their names.
    fn deps(&self, key: &[u8; 32]) -> Vec<(Vec<u8>, bool)>;
    /// How many executions have a dep on a name.
    fn readers(&self, name: &str) -> usize;
    /// Called when all is in.
    fn settle(&mut self) {}
}

const AT_ONCE: u32 = 1000;

struct Args {
    engines: Vec<String>,
    divisor: u32,
    dir: PathBuf,
    shares: bool,
    cold: bool,
    absent: bool,
    role: Option<String>,
}

fn args() -> Args {
    let mut args = Args {
        engines: ["rfs", "lmdb", "redb", "sqlite"].map(str::to_owned).to_vec(),
        divisor: 20,
        dir: std::env::temp_dir().join("rfs-store-bench"),
        shares: true,
        cold: false,
        absent: false,
        role: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--engines" => args.engines = value().split(',').map(str::to_owned).collect(),
            "--divisor" => args.divisor = value().parse().expect("a number"),
            "--dir" => args.dir = value().into(),
            "--role" => args.role = Some(value()),
            "--apart" => args.shares = false,
            "--cold" => args.cold = true,
            "--absent" => args.absent = true,
            _ => panic!("unknown: {word}"),
        }
    }
    args
}

fn main() {
    let args = args();
    let size = Size::whole(args.shares).part(args.divisor);
    if let Some(role) = &args.role {
        let dir = args.dir.join(&args.engines[0]);
        return match args.engines[0].as_str() {
            "rfs" => act::<ours::Ours>(role, &dir, size),
            "lmdb" => act::<lmdb::Lmdb>(role, &dir, size),
            "redb" => act::<redb::Redb>(role, &dir, size),
            "sqlite" => act::<sqlite::Sqlite>(role, &dir, size),
            other => panic!("unknown engine {other}"),
        };
    }
    if args.absent {
        return weigh_absent(&args.dir.join("absent"), size);
    }
    println!(
        "{} names, {} executions, {} deps each{}",
        size.nodes,
        size.executions,
        size.deps,
        if size.shares { "" } else { ", none shared" }
    );
    for engine in &args.engines {
        println!("{engine}");
        let dir = args.dir.join(engine);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).unwrap();
        for role in ["fill", "look"] {
            if role == "look" && args.cold {
                assert!(Command::new("sync").status().unwrap().success());
                std::fs::write("/proc/sys/vm/drop_caches", "3").expect("--cold needs root");
            }
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(std::env::args().skip(1));
            child.args(["--role", role, "--engines", engine]);
            assert!(child.status().unwrap().success(), "{engine} {role}");
        }
        println!("  {:<34}{:>12.1} MB", "on disk", megabytes(disk(&dir)));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// What a dep on an absent name costs on disk: the same executions with and without those deps.
fn weigh_absent(dir: &Path, size: Size) {
    let [(without, none), (with, n_absent)] = [false, true].map(|absent| {
        let size = Size { absent, ..size };
        drop(std::fs::remove_dir_all(dir));
        std::fs::create_dir_all(dir).unwrap();
        let mut engine = ours::Ours::open(dir, size);
        for first in (0..size.nodes).step_by(AT_ONCE as usize) {
            let end = (first + AT_ONCE).min(size.nodes);
            let names: Vec<String> = (first..end).map(|number| size.name(number)).collect();
            engine.add_names(first, &names);
        }
        let mut n_absent = 0;
        for first in (0..size.executions).step_by(AT_ONCE as usize) {
            let end = (first + AT_ONCE).min(size.executions);
            let steps: Vec<Step> = (first..end).map(|number| size.step(number)).collect();
            let deps = steps.iter().flat_map(|step| &step.deps);
            n_absent += deps.filter(|(_, content)| content.is_none()).count();
            engine.add(&steps, false);
        }
        (disk(dir), n_absent)
    });
    std::fs::remove_dir_all(dir).unwrap();
    let each = (with.saturating_sub(without)) as f64 / n_absent as f64;
    println!(
        "{} names, {} executions, {n_absent} deps on absent names: {:.1} MB with them, {:.1} MB without: {each:.2} bytes each",
        size.nodes, size.executions, megabytes(with), megabytes(without)
    );
    assert!(none == 0 && n_absent > 0);
    assert!(each <= 4.0, "a dep on an absent name costs more than 4 bytes");
}

fn act<E: Engine>(role: &str, dir: &Path, size: Size) {
    match role {
        "fill" => fill::<E>(dir, size),
        _ => look::<E>(dir, size),
    }
}

fn fill<E: Engine>(dir: &Path, size: Size) {
    let mut engine = E::open(dir, size);
    let mut spent = Duration::ZERO;
    for first in (0..size.nodes).step_by(AT_ONCE as usize) {
        let end = (first + AT_ONCE).min(size.nodes);
        let names: Vec<String> = (first..end).map(|number| size.name(number)).collect();
        let begun = Instant::now();
        engine.add_names(first, &names);
        spent += begun.elapsed();
    }
    tell("insert a name", spent, size.nodes);
    println!("  {:<34}{:>12.1} bytes", "a name", disk(dir) as f64 / f64::from(size.nodes));
    let before = disk(dir);
    let (mut spent, mut n_deps) = (Duration::ZERO, 0);
    // The last few are added one by one.
    let many = size.executions - 40;
    for first in (0..many).step_by(AT_ONCE as usize) {
        let steps: Vec<Step> = (first..(first + AT_ONCE).min(many)).map(|n| size.step(n)).collect();
        n_deps += steps.iter().map(|step| step.deps.len()).sum::<usize>();
        let begun = Instant::now();
        engine.add(&steps, false);
        spent += begun.elapsed();
    }
    tell("insert an execution", spent, many);
    let each = (disk(dir) - before) as f64 / n_deps as f64;
    println!("  {:<34}{:>12.1} bytes", "a dep, executions included", each);
    for (durable, what) in [(false, "commit one, as builds do"), (true, "commit one, synced")] {
        let first = if durable { size.executions - 20 } else { many };
        let begun = Instant::now();
        for number in first..first + 20 {
            engine.add(&[size.step(number)], durable);
        }
        tell(what, begun.elapsed(), 20);
    }
    engine.settle();
    tell_memory("to fill");
}

fn look<E: Engine>(dir: &Path, size: Size) {
    let some = size.some_names(300_000);
    let names: Vec<String> = some.iter().map(|number| size.name(*number)).collect();
    let resident = memory();
    let begun = Instant::now();
    let engine = E::open(dir, size);
    let opened = begun.elapsed();
    let found = engine.find(&names[0]);
    tell("open", opened, 1);
    tell("open and look one up", begun.elapsed(), 1);
    assert_eq!(engine.name(found), names[0].as_bytes());
    let begun = Instant::now();
    let n_names = u32::try_from(names.len()).unwrap();
    let numbers: Vec<u32> = names.iter().map(|name| engine.find(name)).collect();
    tell("name to number, the first time", begun.elapsed(), n_names);
    let begun = Instant::now();
    assert!(names.iter().map(|name| engine.find(name)).eq(numbers.iter().copied()));
    tell("name to number", begun.elapsed(), n_names);
    let begun = Instant::now();
    for (name, number) in names.iter().zip(&numbers) {
        assert_eq!(engine.name(*number), name.as_bytes());
    }
    tell("number to name", begun.elapsed(), n_names);
    let steps: Vec<Step> = (0..200).map(|n| size.step(n * (size.executions / 200))).collect();
    let begun = Instant::now();
    for step in &steps {
        let deps = engine.deps(&step.key);
        assert_eq!(deps.len(), step.deps.len());
        assert_eq!(deps[0].0, size.name(step.deps[0].0).as_bytes());
    }
    tell("deps of an execution", begun.elapsed(), 200);
    let headers: Vec<String> = size.some_headers(5).iter().map(|n| size.name(*n)).collect();
    let begun = Instant::now();
    let n_readers: usize = headers.iter().map(|name| engine.readers(name)).sum();
    tell("who reads a name", begun.elapsed(), 5);
    println!("  {:<34}{:>12}", "readers found", n_readers);
    let [anonymous, of_files] = memory();
    println!(
        "  {:<34}{:>12.1} MB and {:.1} MB of pages of the file",
        "memory to look",
        megabytes(anonymous.saturating_sub(resident[0])),
        megabytes(of_files.saturating_sub(resident[1]))
    );
}

fn tell(what: &str, spent: Duration, n: u32) {
    let each = spent.as_nanos() as f64 / f64::from(n);
    let text = match each {
        ..10_000.0 => format!("{each:>12.0} ns"),
        10_000.0..10_000_000.0 => format!("{:>12.1} us", each / 1e3),
        _ => format!("{:>12.1} ms", each / 1e6),
    };
    println!("  {what:<34}{text}");
}

fn tell_memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("  {:<34}{:>15}", format!("most memory {what}"), peak.unwrap_or("?").trim());
}

/// Anonymous and file-backed bytes that are resident.
fn memory() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    ["RssAnon:", "RssFile:"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.map_or(0, |kb| kb.parse::<u64>().unwrap() * 1024)
    })
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes on disk below a directory.
fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}
