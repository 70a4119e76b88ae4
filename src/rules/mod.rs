//! What an `Rfsfile` says: rules, sources, and which rule makes which name.
//!
//! Pure but for [`load()`]. Knows nothing of what is up to date, nor how a job is run.

mod asked;
mod builtin;
mod function;
mod gathered;
pub mod import;
pub mod load;
pub mod pattern;
mod sources;
mod spec;

pub use asked::Asked;
pub use function::{Attribute, FunctionId};
pub use load::{Error, Inputs, load};
pub use sources::{Sources, matching};
pub use spec::{Input, Spec, Target};

use function::Functions;
use pattern::{Pattern, Stems, Template};
use regex::RegexSet;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where something was written: file, line and column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place(pub String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is special about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetFlags {
    /// The job may leave it out; other rules are tried then.
    pub optional: bool,
    /// Its absence is as good as its presence.
    pub phony: bool,
    /// It is not removed before the job runs.
    pub incremental: bool,
    /// It may be a source, which the job then writes over.
    pub source_ok: bool,
}

/// What is special about a static dep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DepFlags {
    /// The job runs though the dep could not be made.
    pub ignore_error: bool,
    /// Deps that are named after it are made when it is.
    pub critical: bool,
    /// The rule applies though it cannot be had, and the job fails then.
    pub required: bool,
}

/// Within what a job runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// A job that takes longer fails.
    pub timeout: Option<Duration>,
    /// Signals that end a job, one a second; SIGKILL comes after them.
    pub kill: Vec<i32>,
    /// How often a failed job is run again.
    pub retries: u32,
    /// Whether a job may print to standard error and still succeed.
    pub stderr_ok: bool,
    /// How much of each resource a job needs while it runs.
    pub resources: BTreeMap<String, u64>,
}

/// What a job runs.
#[derive(Debug, Clone)]
pub enum Cmd {
    /// A text for the shell.
    Shell(Template),
    /// A program and its arguments. One that is nothing but a hole is as many as there are names for it.
    Argv(Vec<Template>),
}

impl Default for Cmd {
    fn default() -> Self {
        Self::Argv(Vec::new())
    }
}

impl Cmd {
    pub(crate) fn templates(&self) -> &[Template] {
        match self {
            Self::Shell(text) => std::slice::from_ref(text),
            Self::Argv(words) => words,
        }
    }
}

/// A rule: how files of certain names are made out of others.
///
/// INVARIANT: every hole of a template has a value in every job of the rule, and every target that is no
/// star target has all stems.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name; no two rules have the same.
    pub name: String,
    /// Where it was written.
    pub at: Place,
    /// Targets, with the keys that they go by in the command.
    pub targets: Vec<(Option<String>, Pattern, TargetFlags)>,
    /// Static deps, with the keys that they go by.
    pub deps: Vec<(Option<String>, Template, DepFlags)>,
    /// What is run; none for an anti-rule, whose targets nobody makes.
    pub cmd: Option<Cmd>,
    /// Variables of the job's environment beside those that every job has.
    pub environ: BTreeMap<String, String>,
    /// Rules of a higher priority are tried first.
    pub priority: f64,
    /// Within what a job runs.
    pub limits: Arc<Limits>,
    /// Files that a job may look at, make and change without anybody's notice.
    pub ignore: Sources,
    /// Directories that a job sees others in the place of: where, and which.
    pub views: Vec<(Template, Template)>,
    /// Attributes that are functions of the job; what stands for them above does not count.
    pub dynamic: Vec<(Attribute, FunctionId)>,
}

/// A rule, by its place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub usize);

/// A rule and one of its targets that recognise a name.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The rule.
    pub rule: RuleId,
    /// The values of its stems.
    pub stems: Stems,
    /// Which of its targets.
    pub target: usize,
}

/// All that the `Rfsfile` says.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// The rules and targets that are single names.
    literal: HashMap<String, Vec<(RuleId, usize)>>,
    /// All other targets, for one quick look.
    any: RegexSet,
    /// The rule and the target of each expression of `any`.
    of: Vec<(RuleId, usize)>,
    /// Which files are sources.
    pub sources: Sources,
    /// How much there is of each resource.
    pub resources: BTreeMap<String, u64>,
    /// The shell that runs commands.
    pub shell: String,
    functions: Functions,
}

impl Rules {
    /// Puts rules together.
    ///
    /// # Errors
    /// The patterns are more than can be looked at at once.
    pub fn new(
        rules: Vec<Rule>,
        sources: Sources,
        resources: BTreeMap<String, u64>,
        shell: String,
    ) -> Result<Self, String> {
        let mut literal = HashMap::new();
        let mut of = Vec::new();
        let mut texts = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for (target, (_, pattern, _)) in rule.targets.iter().enumerate() {
                if let Some(name) = pattern.literal() {
                    let of_name: &mut Vec<_> = literal.entry(name).or_default();
                    of_name.push((RuleId(index), target));
                    continue;
                }
                of.push((RuleId(index), target));
                texts.push(pattern.expression().to_owned());
            }
        }
        let any = RegexSet::new(texts).map_err(|error| error.to_string())?;
        Ok(Self {
            rules,
            literal,
            any,
            of,
            sources,
            resources,
            shell,
            functions: Functions::default(),
        })
    }

    /// What the reading of them, and what was said of jobs, has asked.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.functions.asked()
    }

    /// A rule.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0]
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The targets that are single names and can be made, in no order.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let can_be_made =
            |of: &[(RuleId, usize)]| of.iter().any(|(id, _)| self.rule(*id).cmd.is_some());
        let made = self.literal.iter().filter(move |(_, of)| can_be_made(of));
        made.map(|(name, _)| name.as_str())
    }

    /// The directories that targets are said to lie in, sorted.
    #[must_use]
    pub fn dirs(&self) -> Vec<&str> {
        let made = self.rules.iter().filter(|rule| rule.cmd.is_some());
        let targets = made.flat_map(|rule| &rule.targets);
        let mut dirs: Vec<&str> = targets
            .filter_map(|(_, pattern, _)| pattern.dir())
            .collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    /// Whether some rule's target recognises a name.
    #[must_use]
    pub fn recognise(&self, name: &str) -> bool {
        self.literal.contains_key(name) || self.any.is_match(name)
    }

    /// All that recognise a name, in groups of equal priority, highest first; in a group in the order of
    /// the file. A group ends with the first anti-rule that recognises the name, and so do all groups.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<Vec<Candidate>> {
        let mut found: Vec<Candidate> = Vec::new();
        let literal = self.literal.get(name).into_iter().flatten().copied();
        let matches = self.any.matches(name);
        let mut all: Vec<(RuleId, usize)> = literal
            .chain(matches.iter().map(|at| self.of[at]))
            .collect();
        all.sort_unstable();
        for (rule, target) in all {
            let (_, pattern, _) = &self.rule(rule).targets[target];
            if let Some(stems) = pattern.recognise(name) {
                if !found.iter().any(|c| c.rule == rule && c.stems == stems) {
                    found.push(Candidate {
                        rule,
                        stems,
                        target,
                    });
                }
            }
        }
        found.sort_by(|a, b| {
            let (one, other) = (self.rule(a.rule), self.rule(b.rule));
            let by_priority = other.priority.total_cmp(&one.priority);
            // Of equal priority, an anti-rule goes before those that it is to stop.
            by_priority.then(one.cmd.is_some().cmp(&other.cmd.is_some()))
        });
        let mut groups: Vec<Vec<Candidate>> = Vec::new();
        let mut last = f64::NAN;
        for candidate in found {
            let rule = self.rule(candidate.rule);
            if rule.cmd.is_none() {
                break;
            }
            if rule.priority.total_cmp(&last).is_ne() {
                groups.push(Vec::new());
                last = rule.priority;
            }
            if let Some(group) = groups.last_mut() {
                group.push(candidate);
            }
        }
        groups
    }
}
