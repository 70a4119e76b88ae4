//! `rfs rules show`: which rule makes a file, before anything is built.

use super::error::CommandError;
use super::{ask, console, import, rules as by_rules};
use crate::engine::{Mark, Marks};
use crate::rules::{Candidate, Rules, Spec, Target};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// Tell which rule makes a file, out of what, by which command
///
/// Nothing is built or looked up. Whether an optional or a star target is really made shows when its job
/// runs. With --json: schema `rfs.rules.show/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file
    target: OsString,
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Shown {
    schema: &'static str,
    target: String,
    /// Whether `source()` names it.
    is_source: bool,
    /// Whether it is there.
    is_there: bool,
    /// Whether it is taken as it is, and no job makes it (`rfs freeze`).
    is_frozen: bool,
    /// Whether a change of it is no reason to run anything (`rfs mark`).
    is_quiet: bool,
    /// The rules that recognise it, in the order in which they are tried.
    rules: Vec<Maker>,
}

#[derive(Debug, Serialize)]
struct Maker {
    rule: String,
    at: String,
    priority: f64,
    stems: BTreeMap<String, String>,
    targets: Vec<String>,
    deps: Vec<String>,
    command: Vec<String>,
    environ: BTreeMap<String, String>,
    /// Files that it may make and change without anybody's notice.
    ignore: Vec<String>,
    /// By directory: the one that it sees in its place.
    views: BTreeMap<String, String>,
    timeout_s: Option<f64>,
    retries: u32,
    stderr_ok: bool,
    resources: BTreeMap<String, u64>,
    /// The static dep that cannot be had, so that the rule does not apply.
    lacks: Option<String>,
    /// Why it cannot be run.
    broken: Option<String>,
    /// Whether it is among those that are tried first.
    is_first: bool,
}

pub(super) fn run(args: &Args, cwd: &Path) -> Result<i32, CommandError> {
    let (root, rules) = import::load(cwd)?;
    let target = by_rules::name(&args.target, cwd, &root)?;
    let is_there = root.join(&target).symlink_metadata().is_ok();
    let is_source = rules.sources.names(&target);
    let mut asked = Asked {
        rules: &rules,
        root: &root,
        known: HashMap::new(),
        depth: 0,
    };
    let mut makers = Vec::new();
    let mut is_decided = is_source;
    for group in rules.candidates(&target) {
        let mut applies = false;
        for candidate in &group {
            let mut maker = asked.maker(candidate);
            maker.is_first = !is_decided && maker.lacks.is_none();
            applies |= maker.is_first;
            makers.push(maker);
        }
        is_decided |= applies;
    }
    if makers.is_empty() && !is_there {
        return Err(
            CommandError::new(format_args!("no rule makes {target}, nor is it there"))
                .hint("`rfs rules targets` lists what rules name"),
        );
    }
    let marks = Marks::read(&root.join(by_rules::MARKS)).map_err(CommandError::new)?;
    let shown = Shown {
        schema: "rfs.rules.show/1",
        is_frozen: marks.has(Mark::Frozen, &target),
        is_quiet: marks.has(Mark::Quiet, &target),
        target,
        is_source,
        is_there,
        rules: makers,
    };
    match args.json {
        true => ask::answer(Ok(shown), true),
        false => {
            console::answer(shown.to_string().trim_end());
            Ok(0)
        }
    }
}

struct Asked<'r> {
    rules: &'r Rules,
    root: &'r Path,
    /// Which files can be had.
    known: HashMap<String, bool>,
    /// Files through which it was asked.
    depth: usize,
}

/// Through no more files it is asked whether one can be had.
const DEEP: usize = 100;

impl Asked<'_> {
    fn maker(&mut self, candidate: &Candidate) -> Maker {
        let rule = self.rules.rule(candidate.rule);
        let spec = self.rules.spec(candidate.rule, &candidate.stems);
        let target = |target: &Target| match target {
            Target::File(name, _) => name.clone(),
            Target::Star(names, ..) => names.as_str().to_owned(),
        };
        Maker {
            rule: rule.name.clone(),
            at: rule.at.to_string(),
            priority: rule.priority,
            stems: candidate.stems.clone(),
            targets: spec.targets.iter().map(target).collect(),
            lacks: self.lacks(&spec),
            deps: spec.deps.into_iter().map(|dep| dep.name).collect(),
            command: spec.argv,
            environ: spec.env.into_iter().collect(),
            ignore: spec.ignore.globs().to_vec(),
            views: spec.views.into_iter().collect(),
            timeout_s: spec.limits.timeout.map(|timeout| timeout.as_secs_f64()),
            retries: spec.limits.retries,
            stderr_ok: spec.limits.stderr_ok,
            resources: spec.limits.resources.clone(),
            broken: spec.broken,
            is_first: false,
        }
    }

    fn lacks(&mut self, spec: &Spec) -> Option<String> {
        let mut deps = spec.deps.iter();
        let lacking = deps.find(|dep| !dep.flags.required && !self.can_be_had(&dep.name));
        lacking.map(|dep| match dep.name.is_empty() {
            true => "a dep without a name".to_owned(),
            false => dep.name.clone(),
        })
    }

    fn can_be_had(&mut self, name: &str) -> bool {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        // Who asks again meanwhile goes in a circle, or on for ever.
        self.known.insert(name.to_owned(), true);
        let sources = &self.rules.sources;
        let by_right = !sources.are_named() || sources.names(name);
        let is_there = by_right && !name.is_empty() && self.root.join(name).exists();
        self.depth += 1;
        // An endless one is told when it is built.
        let endless = self.depth > DEEP || name.len() > 4096;
        let can = is_there
            || endless
            || self.rules.candidates(name).iter().flatten().any(|other| {
                let spec = self.rules.spec(other.rule, &other.stems);
                self.lacks(&spec).is_none()
            });
        self.depth -= 1;
        self.known.insert(name.to_owned(), can);
        can
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_source, self.rules.is_empty()) {
            (true, _) => writeln!(f, "{} is a source", self.target)?,
            (false, true) => writeln!(f, "{} is there, and no rule makes it", self.target)?,
            (false, false) => writeln!(f, "{}", self.target)?,
        }
        if self.is_frozen {
            writeln!(
                f,
                "  frozen: no job makes it until `rfs freeze --off {}`",
                self.target
            )?;
        }
        if self.is_quiet {
            writeln!(f, "  marked: its changes are no reason to run anything")?;
        }
        let (first, others): (Vec<&Maker>, Vec<&Maker>) =
            self.rules.iter().partition(|maker| maker.is_first);
        for maker in &first {
            write!(f, "{maker}")?;
        }
        for other in others {
            write!(f, "  not: {} at {}", other.rule, other.at)?;
            match &other.lacks {
                Some(lacking) => writeln!(f, ", which would need {lacking}")?,
                None => writeln!(f, ", of priority {}", other.priority)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  by rule {} at {}", self.rule, self.at)?;
        let mut line = |what: &str, text: String| match text.is_empty() {
            true => Ok(()),
            false => writeln!(f, "    {what:<9} {text}"),
        };
        let pairs = |map: &BTreeMap<String, String>| {
            let pairs = map.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        line("stems", pairs(&self.stems))?;
        line("targets", self.targets.join(" "))?;
        line("deps", self.deps.join(" "))?;
        let command = match self.command.as_slice() {
            [_, dash, text] if dash == "-ec" => text.trim_end().replace('\n', "\n              "),
            words => words.join(" "),
        };
        line("command", command)?;
        line("environ", pairs(&self.environ))?;
        line("ignore", self.ignore.join(" "))?;
        line("views", pairs(&self.views))?;
        let mut limits = Vec::new();
        limits.extend(self.timeout_s.map(|s| format!("{s} s")));
        if self.retries > 0 {
            limits.push(format!("{} retries", self.retries));
        }
        limits.extend(self.resources.iter().map(|(name, n)| format!("{n} {name}")));
        line("limits", limits.join(", "))?;
        line("broken", self.broken.clone().unwrap_or_default())
    }
}
