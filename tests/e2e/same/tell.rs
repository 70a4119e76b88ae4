//! Tells a sequence bare and then wrapped, at the same path, and says what is not the same.

use std::io::BufRead;
use std::path::PathBuf;

use crate::run::{Cmd, Run, Started};
use crate::space::TestSpace;
use crate::tree::Tree;

use super::plan::{Kind, Plan, Round, hand, keeper};
use super::stamps::{Stamps, mark};

/// What came of a round.
struct Seen {
    run: Run,
    tree: Tree,
    stamps: Stamps,
    /// Whether somebody waited at the gate.
    gated: bool,
}

/// What a sequence without a fault counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub runs: u64,
    /// Served as a whole.
    pub whole: u64,
    /// Steps that were served.
    pub hits: u64,
    pub races: u64,
    pub gates: u64,
}

impl Counts {
    fn count(&mut self, run: &Run) {
        self.runs += 1;
        let summary = run.summary.as_ref();
        self.whole += u64::from(summary.is_some_and(|s| s.whole_hit));
        self.hits += summary.map_or(0, |s| s.hit);
    }

    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.whole += other.whole;
        self.hits += other.hits;
        self.races += other.races;
        self.gates += other.gates;
    }
}

/// The first difference.
#[derive(Debug)]
pub struct Fault {
    pub round: usize,
    /// What sort of thing differs; a smaller sequence must have a fault of the same sort.
    pub sort: &'static str,
    pub text: String,
}

/// A space in which a sequence is told.
struct Stage<'a> {
    space: TestSpace,
    plan: &'a Plan,
    marks: Vec<PathBuf>,
}

/// Tells `plan`; a fault is the first difference.
pub fn tell(plan: &Plan) -> Result<Counts, Fault> {
    let space = TestSpace::with(plan.setting);
    let mut stage = Stage {
        space,
        plan,
        marks: Vec::new(),
    };
    if plan.rounds.iter().any(|round| round.kind == Kind::Raced) {
        return stage.tell_races();
    }
    stage.tell_twice(true)
}

/// The same without us: both runs are bare. Races are left out.
pub fn tell_bare(plan: &Plan) -> Result<Counts, Fault> {
    let space = TestSpace::with(plan.setting);
    let marks = Vec::new();
    let mut stage = Stage { space, plan, marks };
    match plan.rounds.iter().any(|round| round.kind == Kind::Raced) {
        true => Ok(Counts::default()),
        false => stage.tell_twice(false),
    }
}

/// The lines of an output, sorted when things were done side by side: then make may also name another line
/// of a recipe that failed. How far in the future a time stamp lies depends on the time at which make says
/// so.
fn said(bytes: &[u8], parallel: bool) -> Vec<String> {
    let mut lines: Vec<_> = String::from_utf8_lossy(bytes)
        .split_inclusive('\n')
        .map(|line| match line.split_once(" has modification time ") {
            Some((front, _)) => format!("{front} has modification time ...\n"),
            None => line.to_owned(),
        })
        .collect();
    if parallel {
        for line in &mut lines {
            if let Some((front, rest)) = line.split_once(" [Makefile:") {
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                *line = format!("{front} [Makefile:...{rest}");
            }
        }
        lines.sort();
    }
    lines
}

/// Something that a user could see is not the same.
fn compare(
    bare: &Seen,
    wrapped: &Seen,
    n_marks: usize,
    parallel: bool,
    in_order: bool,
) -> Option<(&'static str, String)> {
    let (left, right) = (&bare.run, &wrapped.run);
    if bare.gated != wrapped.gated {
        return Some((
            "gate",
            format!("waited: bare {}, wrapped {}", bare.gated, wrapped.gated),
        ));
    }
    if left.status != right.status {
        return Some(("status", format!("bare {left:#?}")));
    }
    for (sort, left, right) in [
        ("stdout", &left.stdout, &right.stdout),
        ("stderr", &left.stderr, &right.stderr),
    ] {
        let (left, right) = (said(left, parallel), said(right, parallel));
        if left != right {
            let n = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
            let (left, right) = (left.get(n), right.get(n));
            let text = format!("line {n}:\n  - bare {left:?}\n  + wrapped {right:?}");
            return Some((sort, text));
        }
    }
    let diff = bare.tree.diff(&wrapped.tree);
    if !diff.is_empty() {
        return Some(("tree", format!("- bare, + wrapped\n{diff}")));
    }
    let turned = bare.stamps.turned(&wrapped.stamps, n_marks, in_order);
    (!turned.is_empty()).then(|| ("stamps", format!("only bare: {turned:#?}")))
}

/// A run that finds what the one before it had found, the order of time stamps included, and was not refused
/// in part, as the one before was not, must be a whole hit.
fn never_served(
    before: &[Seen],
    plan: &Plan,
    n: usize,
    seen: &Seen,
) -> Option<(&'static str, String)> {
    let rounds = &plan.rounds;
    let [.., found_then, last] = before else {
        return None;
    };
    let again = |n: usize| rounds[n].kind == Kind::Again && rounds[n].cmd == rounds[n - 1].cmd;
    let steady = again(n)
        && again(n - 1)
        && last.tree == found_then.tree
        // What lies there is not compared, and may grow each time.
        && !last.tree.leads_out()
        && last.stamps.is_ordered_as(&found_then.stamps)
        && last
            .run
            .summary
            .as_ref()
            .is_some_and(|summary| summary.refused == 0);
    let summary = seen.run.summary.as_ref()?;
    let due = steady && plan.can_be_served() && seen.run.code() == 0;
    (due && !summary.whole_hit && summary.refused == 0).then(|| {
        (
            "hit",
            "nothing has changed, and yet it is not served".to_owned(),
        )
    })
}

impl Stage<'_> {
    /// Makes the workspace.
    fn begin(&self) {
        self.sh(": > ../outside/gate; echo 0 > ../outside/round");
        self.sh(&self.plan.making());
    }

    fn sh(&self, text: &str) {
        let _as_may_be = self.space.bare(Cmd::sh(text));
    }

    fn mark(&mut self) {
        let path = self.space.root().join(format!("mark.{}", self.marks.len()));
        mark(&path);
        self.marks.push(path);
    }

    /// Tells the plan bare and then, at the same path, wrapped or once more bare.
    fn tell_twice(&mut self, wrapped: bool) -> Result<Counts, Fault> {
        let plan = self.plan;
        let bare = self.tell_all(false, |_, _| Ok(()))?;
        self.space.wipe();
        self.marks.clear();
        let mut counts = Counts::default();
        let _second = self.tell_all(wrapped, |before, seen| {
            let n = before.len();
            counts.count(&seen.run);
            counts.gates += u64::from(seen.gated);
            let round = &plan.rounds[n];
            compare(&bare[n], seen, n + 1, round.is_parallel(), plan.in_order())
                .or_else(|| never_served(before, plan, n, seen))
                .map_or(Ok(()), |(sort, text)| {
                    let text = format!("{text}\n{:#?}", seen.run);
                    Err(Fault {
                        round: n,
                        sort,
                        text,
                    })
                })
        })?;
        Ok(counts)
    }

    fn tell_all(
        &mut self,
        wrapped: bool,
        mut check: impl FnMut(&[Seen], &Seen) -> Result<(), Fault>,
    ) -> Result<Vec<Seen>, Fault> {
        let mut all = Vec::new();
        self.begin();
        for (n, round) in self.plan.rounds.iter().enumerate() {
            if round.kind == Kind::Anew {
                self.space.wipe();
                self.begin();
            }
            let edits = hand(&round.edits);
            let gated = round.kind == Kind::Gated;
            match gated {
                true => self.sh(&format!(
                    "echo {n} > ../outside/round; rm -f ../outside/ended"
                )),
                false if round.edits.is_empty() => {}
                false => self.sh(&edits),
            }
            self.mark();
            let keeper = gated.then(|| self.keep(&edits, wrapped));
            let run = self.run(round, wrapped);
            let gated = keeper.is_some_and(|keeper| self.leave(keeper));
            let seen = Seen {
                gated,
                ..self.seen(run)
            };
            check(&all, &seen)?;
            all.push(seen);
        }
        Ok(all)
    }

    /// What can be seen after a run.
    fn seen(&self, run: Run) -> Seen {
        Seen {
            run,
            tree: self.space.tree(),
            stamps: Stamps::read(self.space.ws(), &self.marks),
            gated: false,
        }
    }

    fn run(&self, round: &Round, wrapped: bool) -> Run {
        let mut cmd = Cmd::from(round.cmd.as_str());
        if self.plan.merged {
            cmd = cmd.merged();
        }
        match wrapped {
            true => self.space.rfs(cmd),
            false => self.space.bare(cmd),
        }
    }

    /// Starts the keeper of the gate and waits until he holds it.
    fn keep(&self, edits: &str, wrapped: bool) -> Started {
        let keeper = keeper(edits, wrapped);
        let mut keeper = self.space.start(Cmd::sh(&keeper), false);
        let mut line = String::new();
        let pipe = keeper.child.stdout.as_mut().unwrap();
        std::io::BufReader::with_capacity(1, pipe)
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        keeper
    }

    /// Tells the keeper that the run has ended; says whether somebody waited.
    fn leave(&self, keeper: Started) -> bool {
        self.space.write("../outside/ended", "");
        let (status, _, _) = keeper.finish(None);
        status.success()
    }

    /// After each race a wrapped run must give what a bare run gives from the same tree, the order of time stamps
    /// included.
    fn tell_races(&mut self) -> Result<Counts, Fault> {
        let mut counts = Counts::default();
        self.begin();
        let outside = self.space.root().to_path_buf();
        let shell = |text: &str| {
            let ok = self.space.bare(Cmd::sh(text).cwd(&outside));
            assert!(ok.status.success(), "{ok:#?}");
        };
        for (n, round) in self.plan.rounds.iter().enumerate() {
            let edits = hand(&round.edits);
            if round.kind == Kind::Raced {
                let editor = self.space.start(Cmd::sh(&edits), false);
                counts.count(&self.run(round, true));
                let _as_may_be = editor.finish(None);
                counts.races += 1;
            } else {
                self.sh(&edits);
            }
            shell(
                "rm -rf kept kept.outside; cp -a ws kept; cp -a outside kept.outside; rm -rf kept/.rfs",
            );
            self.marks = vec![self.space.root().join("mark.race")];
            mark(&self.marks[0]);
            let wrapped = self.seen(self.run(round, true));
            counts.count(&wrapped.run);
            shell(
                "mv ws ws.wrapped; mv outside outside.wrapped; cp -a kept ws; cp -a kept.outside outside",
            );
            mark(&self.marks[0]);
            let bare = self.seen(self.run(round, false));
            shell("rm -rf ws outside; mv ws.wrapped ws; mv outside.wrapped outside");
            let (parallel, in_order) = (round.is_parallel(), self.plan.in_order());
            if let Some((sort, text)) = compare(&bare, &wrapped, 1, parallel, in_order) {
                let text = format!("{text}\n{:#?}", wrapped.run);
                return Err(Fault {
                    round: n,
                    sort,
                    text,
                });
            }
        }
        Ok(counts)
    }
}
