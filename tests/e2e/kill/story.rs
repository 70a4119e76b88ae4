//! Builds that are struck at random moments, many times in one workspace.
//!
//! A story is told again by `RFS_SEED=N cargo test --test e2e kill::story` (`N..M` for some); what it does
//! is the same then, though not the very moment in which a build is struck.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use super::blow::{self, Blow};
use super::{left, small};
use crate::dice::Dice;
use crate::run;
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

/// Blows of one story.
const BLOWS: u32 = 17;

struct Story {
    s: TestSpace,
    seed: u64,
    dice: Dice,
    bare: &'static small::Bare,
    version: u64,
    /// How long a build took when it was not struck: one that serves nothing, one that serves.
    takes: [Duration; 2],
    connections: Vec<String>,
    n_runs: u64,
    /// What was done since the last whole build.
    log: Vec<String>,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nobody = dice.roll(3) == 0;
        let tracer: Option<&'static str> = *dice.pick(&[&None, &None, &Some("ptrace")]);
        let setting = Setting { nobody, tracer };
        let mut story = Self {
            s: TestSpace::with(setting),
            seed,
            dice,
            bare: small::bare(setting.nobody),
            version: 0,
            takes: [Duration::from_millis(300); 2],
            connections: Vec::new(),
            n_runs: 0,
            log: vec![format!("{setting:?}")],
        };
        story.version = story.dice.roll(small::VERSIONS);
        small::edit(&story.s, story.version);
        story.build_whole(true);
        story.build_whole(false);
        story
    }

    fn when(&self) -> String {
        format!("seed {}: {}", self.seed, self.log.join(", "))
    }

    /// One that nobody strikes: it makes what a bare one makes.
    fn build_whole(&mut self, rerun: bool) {
        self.n_runs += 1;
        self.log.push(format!("whole, rerun {rerun}"));
        let options: &[&str] = if rerun { &["--rerun"] } else { &[] };
        let since = Instant::now();
        let run = self.s.rfs_with(options, small::command(self.n_runs));
        self.takes[usize::from(!rerun)] = since.elapsed();
        let when = self.when();
        assert_eq!(
            (run.code(), run.out().as_str()),
            (0, small::SAID),
            "{when}: {run:#?}"
        );
        assert_eq!(run.err(), "", "{when}");
        let version = usize::try_from(self.version).unwrap();
        // What a struck build has made for itself.
        for name in [
            "big", "all", "sum", "xz", "many/1", "many/2", "many/3", "many/4", "many/5", "many/6",
        ] {
            assert!(
                !self.s.exists(format!("out/{name}.tmp")),
                "{when}: {name}.tmp"
            );
        }
        assert_same(&self.bare.trees[version], &self.s.tree(), &when);
        left::wait_gone(&self.s, &when);
    }

    fn whole_cache(&mut self) {
        let when = self.when();
        left::assert_unmounted(&self.s, &self.connections, &when);
        self.connections.clear();
        small::assert_whole_cache(&self.s, &when);
    }

    fn edit(&mut self) {
        match self.dice.roll(8) {
            0..=2 => {
                self.version = self.dice.roll(small::VERSIONS);
                self.log.push(format!("version {}", self.version));
                small::edit(&self.s, self.version);
            }
            3 => {
                self.log.push("no outputs".to_owned());
                self.s.remove("out");
            }
            4 => {
                let name = *self.dice.pick(&[&"big", &"copy", &"sum", &"many"]);
                self.log.push(format!("no {name}"));
                self.s.remove(format!("out/{name}"));
            }
            5 if self.dice.roll(4) == 0 => {
                self.log.push("no cache".to_owned());
                std::fs::remove_dir_all(self.s.cache()).unwrap();
            }
            _ => {}
        }
    }

    /// Starts a build and strikes it. Whether it was struck.
    fn struck(&mut self, blow: Blow) -> bool {
        self.n_runs += 1;
        // Who has threads is waited for, and must run.
        let rerun = self.dice.roll(3) == 0 || blow == Blow::TracedThread;
        let takes = self.takes[usize::from(!rerun)].as_micros();
        let mut delay = self.dice.roll(u64::try_from(takes).unwrap());
        // Who is young is so at the beginning.
        if blow == Blow::Young {
            delay /= 64;
        } else if blow == Blow::TracedThread {
            delay /= 16;
        }
        self.log
            .push(format!("{blow:?} after {delay} us, rerun {rerun}"));
        let mut options = vec!["-q".into()];
        if rerun {
            options.push("--rerun".into());
        }
        let command = if blow == Blow::TracedThread {
            small::slow_command(self.n_runs)
        } else {
            small::command(self.n_runs)
        };
        let mut command = self.s.build_command(options, &command);
        let said = self.s.root().join("said");
        let errors = self.s.root().join("errors");
        command
            .stdout(File::create(&said).unwrap())
            .stderr(File::create(&errors).unwrap());
        let mut started = run::start_quietly(command);
        let guard = started.guard();
        thread::sleep(Duration::from_micros(delay));
        let landed = blow::strike(
            blow,
            &self.s,
            &started,
            &mut self.dice,
            &mut self.connections,
        );
        let status = started.child.wait().unwrap();
        let when = self.when();
        guard.dismiss(&format!("{when}: {}", started.what));
        left::wait_gone(&self.s, &when);

        let said = std::fs::read_to_string(said).unwrap();
        let errors = std::fs::read_to_string(errors).unwrap();
        let told = format!("{when}: {status:?}, said {said:?} and {errors:?}");
        assert!(!errors.contains("panicked"), "{told}");
        judge(blow, status, &errors, &told);
        small::assert_sound(&self.s, self.version, self.bare, &told);
        if status.success() {
            let version = usize::try_from(self.version).unwrap();
            assert_eq!(said, small::SAID, "{told}");
            assert_same(&self.bare.trees[version], &self.s.tree(), &told);
        }
        landed
    }
}

/// Whether a build that was struck ended as it should have.
fn judge(blow: Blow, status: ExitStatus, errors: &str, told: &str) {
    let failed = status
        .code()
        .is_some_and(|code| (1..125).contains(&code) || code > 128);
    let lost = status.code() == Some(125) && errors.contains("lost sight of the command");
    let by = |signal| status.signal() == Some(signal);
    let fine = match blow {
        _ if status.success() => true,
        Blow::Front | Blow::Group => by(9),
        // The host is struck first, and the front may tell.
        Blow::Ours | Blow::Everybody => by(9) || lost,
        Blow::Young => by(9) || status.code() == Some(125),
        Blow::Host
        | Blow::HostThread
        | Blow::Reaper
        | Blow::HostAndReaper
        | Blow::StoppedTraced => lost,
        // A shell that loses a child says 137, gcc 1.
        Blow::Command | Blow::Traced | Blow::TracedThread => by(9) || failed,
        Blow::Term | Blow::TermGroup => by(15) || failed,
        Blow::Hangup => by(1),
        Blow::Interrupt | Blow::Storm => by(2) || failed,
        Blow::Quit => by(3) || failed,
    };
    assert!(fine, "{told}");
}

/// Tells one story; gives the blows that landed, by kind.
fn tell(seed: u64) -> BTreeMap<Blow, u32> {
    let mut story = Story::begin(seed);
    let mut landed = BTreeMap::new();
    let mut kinds = blow::ALL.to_vec();
    while landed.values().sum::<u32>() < BLOWS {
        story.log.truncate(1);
        for _ in 0..=story.dice.roll(3) {
            story.edit();
            if kinds.is_empty() {
                kinds = blow::ALL.to_vec();
            }
            let n = u64::try_from(kinds.len()).unwrap();
            let blow = kinds[usize::try_from(story.dice.roll(n)).unwrap()];
            let hit = story.struck(blow);
            if hit {
                kinds.retain(|other| *other != blow);
            }
            *landed.entry(blow).or_default() += u32::from(hit);
        }
        let rerun = story.dice.roll(6) == 0;
        story.build_whole(rerun);
        story.whole_cache();
    }
    // What was served or recorded before is still there.
    story.n_runs -= 1;
    story.build_whole(false);
    landed
}

fn is_long() -> bool {
    std::env::var_os("RFS_LONG").is_some()
}

/// All the stories of some seeds, or the one that is asked for.
fn tell_all(seeds: std::ops::Range<u64>) {
    let longer = if is_long() { 20 } else { 1 };
    let n = seeds.end - seeds.start;
    let seeds = match std::env::var("RFS_SEED") {
        Ok(asked) => {
            let (from, to) = asked.split_once("..").unwrap_or((&asked, ""));
            let from = from.parse().unwrap();
            from..to.parse().unwrap_or(from + 1)
        }
        Err(_) => seeds.start * 1000..seeds.start * 1000 + n * longer,
    };
    let mut landed: BTreeMap<Blow, u32> = BTreeMap::new();
    for seed in seeds.clone() {
        for (blow, n) in tell(seed) {
            *landed.entry(blow).or_default() += n;
        }
    }
    let whole = seeds.end - seeds.start >= n;
    for blow in [Blow::Young, Blow::TracedThread] {
        let hits = landed.get(&blow).copied().unwrap_or_default();
        assert!(
            !whole || hits > 0,
            "{blow:?} never landed in {seeds:?}: {landed:?}"
        );
    }
    eprintln!(
        "seeds {seeds:?}: {} blows: {landed:?}",
        landed.values().sum::<u32>()
    );
}

#[test]
fn builds_are_struck_1() {
    tell_all(0..8);
}

#[test]
fn builds_are_struck_2() {
    tell_all(8..16);
}

#[test]
fn builds_are_struck_3() {
    tell_all(16..24);
}

#[test]
fn builds_are_struck_4() {
    tell_all(24..32);
}
