//! Random sequences: a random small workspace, random changes by hand, and after each of them the
//! same command bare and wrapped, from equal states. Contents, modes, links, the order of time
//! stamps, what is said and how it ends must be equal. What each run may serve is not stated, only
//! that what is run a third time without a change is served.
//!
//! `RFS_BARE=1` compares two bare runs, which must be equal as well: else the sequence tells nothing.
//!
//! `RFS_SEED=17` tells one sequence, `RFS_SEED=1000..2000` so many; `RFS_LONG=1` tells them for
//! hours, `RFS_LONG=500` that many, with seeds that are new each time.

use std::env;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dice::Dice;
use crate::space::Setting;

use self::edit::Names;
use self::plan::{Kind, Plan, Round};
use self::tell::{Counts, Fault};

mod edit;
mod links;
mod plan;
mod project;
mod script;
mod shrink;
mod stamps;
mod tell;

/// The sequences of the short form.
const SHORT: Range<u64> = 0..304;
const LONG: u64 = 100_000;

/// The sequence that belongs to a seed.
fn plan(seed: u64) -> Plan {
    let dice = &mut Dice::new(seed);
    let setting = match dice.roll(8) {
        0 => Setting {
            nobody: true,
            tracer: None,
        },
        1 => Setting {
            nobody: false,
            tracer: Some("ptrace"),
        },
        _ => Setting::default(),
    };
    let (project, branches) = (dice.roll(3) == 0, dice.roll(4) == 0);
    let (parallel, gated, raced) = (dice.roll(3) == 0, dice.roll(3) == 0, dice.roll(10) == 0);
    let merged = !parallel && dice.roll(4) == 0;
    // What waits at the gate has nobody beside it.
    let gated = gated && !raced && !(project && parallel);
    let apart = gated || raced;
    let branches = branches && !apart;
    let files: Vec<&str> = [&script::FILES[..], &script::SOURCES[..]].concat();
    let (files, dirs): (&[&str], &[&str]) = match (project, apart) {
        (true, true) => (&project::SOURCES, &["src"]),
        (true, false) => (&project::FILES, &project::DIRS),
        (false, true) => (&script::APART, &["u"]),
        (false, false) => (&files, &script::DIRS),
    };
    let contents: &[&str] = match project {
        true => &project::CONTENTS,
        false => &["edit1\\n", "edit2\\n", "word a\\n", "word\\nword\\n", ""],
    };
    let names = Names {
        files,
        dirs,
        contents,
        branches,
        apart,
        ordered: !parallel,
    };
    let mut pieces = match project {
        true => project::workspace(dice, parallel, gated),
        false => script::workspace(dice, parallel, gated),
    };
    if branches {
        pieces.extend(edit::branches(dice, &names));
    }
    let command = |dice: &mut Dice| match (project, dice.roll(6)) {
        (true, _) => project::command(dice, parallel),
        (false, 0) => "env V=2 sh ../outside/build.sh".to_owned(),
        (false, _) => "sh ../outside/build.sh".to_owned(),
    };
    let mut rounds = Vec::new();
    let clock = &mut Dice::new(!seed);
    for n in 0..6 {
        let kind = match dice.roll(6) {
            _ if n == 0 => Kind::Edited,
            _ if raced => [Kind::Raced, Kind::Raced, Kind::Edited][n % 3],
            0 => Kind::Anew,
            1 => Kind::Again,
            2..=4 if gated => Kind::Gated,
            _ => Kind::Edited,
        };
        let n_edits = match kind {
            Kind::Again => 0,
            Kind::Raced => 6,
            Kind::Anew | Kind::Edited if n == 0 => 0,
            Kind::Anew => dice.roll(2),
            Kind::Edited | Kind::Gated => 1 + dice.roll(2),
        };
        let mut edits: Vec<_> = (0..n_edits).map(|_| edit::edit(dice, &names)).collect();
        let calm = matches!(kind, Kind::Edited | Kind::Anew) && !raced;
        if calm && n > 0 && clock.roll(6) == 0 {
            edits.push(edit::clock_step(clock));
        }
        if kind == Kind::Raced {
            edits
                .iter_mut()
                .for_each(|edit| *edit += &format!("; sleep 0.0{}", dice.roll(3)));
        }
        let cmd = command(dice);
        rounds.push(Round { kind, edits, cmd });
    }
    let cmd = rounds[5].cmd.clone();
    for _ in 0..if raced { 0 } else { 3 } {
        rounds.push(Round {
            kind: Kind::Again,
            edits: vec![],
            cmd: cmd.clone(),
        });
    }
    Plan {
        seed,
        setting,
        merged,
        pieces,
        rounds,
    }
}

/// A panic (something hangs) is a fault of the last round.
fn tell(plan: &Plan) -> Result<Counts, Fault> {
    let tell = match env::var_os("RFS_BARE") {
        Some(_) => tell::tell_bare,
        None => tell::tell,
    };
    catch_unwind(AssertUnwindSafe(|| tell(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.unwrap_or_else(|| "panicked".to_owned());
        let round = plan.rounds.len().saturating_sub(1);
        Err(Fault {
            round,
            sort: "panic",
            text,
        })
    })
}

/// What to do about a fault: the smallest sequence with it, to be done by hand.
fn explain(plan: Plan, fault: Fault) -> String {
    let seed = plan.seed;
    let first = format!(
        "RFS_SEED={seed}: round {} ({}): {}",
        fault.round, fault.sort, fault.text
    );
    if fault.sort == "panic" {
        return format!("{first}\n{}", plan.reproduction());
    }
    say(&first);
    if (0..3).all(|_| tell(&plan).is_ok()) {
        return format!("{first}\nnot each time:\n{}", plan.reproduction());
    }
    let (plan, fault) = shrink::shrink(plan, fault, |plan| tell(plan).map(drop));
    format!(
        "{first}\n\nthe smallest with such a fault: round {} ({}): {}\n\n{}",
        fault.round,
        fault.sort,
        fault.text,
        plan.reproduction()
    )
}

/// Past the test runner, which shows only what failed.
fn say(text: &str) {
    let _unseen = writeln!(std::io::stderr(), "{text}");
}

/// The seeds that are asked for.
fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
    if let Ok(seed) = env::var("RFS_SEED") {
        return match seed.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => number(&seed)..number(&seed) + 1,
        };
    }
    let Ok(n) = env::var("RFS_LONG") else {
        return SHORT;
    };
    let n = match number(&n) {
        1 => LONG,
        n => n,
    };
    let first = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        * 1000;
    first..first + n
}

#[test]
fn random_sequences() {
    let seeds = seeds();
    say(&format!("random sequences {seeds:?}"));
    let (next, total, faults) = (
        AtomicU64::new(seeds.start),
        Mutex::new(Counts::default()),
        Mutex::new(Vec::new()),
    );
    let n_threads = thread::available_parallelism().map_or(2, usize::from) + 1;
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || faults.lock().unwrap().len() >= 5 {
                return;
            }
            let plan = plan(seed);
            match tell(&plan) {
                Ok(counts) => total.lock().unwrap().add(counts),
                Err(fault) => {
                    let text = explain(plan, fault);
                    say(&text);
                    faults.lock().unwrap().push(text);
                }
            }
            if (seed - seeds.start) % 500 == 499 {
                say(&format!("random sequences: up to {seed}"));
            }
        }
    };
    thread::scope(|scope| {
        (0..n_threads).for_each(|_| drop(scope.spawn(worker)));
    });
    let n = next.into_inner().min(seeds.end) - seeds.start;
    let total = total.into_inner().unwrap();
    say(&format!("random sequences: {n} told, {total:?}"));
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(
        n < 20 || total.whole > n,
        "each is served now and then: {total:?}"
    );
}
