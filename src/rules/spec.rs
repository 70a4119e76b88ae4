//! One job: a rule whose stems have values.

use super::pattern::{Pattern, Stems, Template, quoted};
use super::{DepFlags, Rule, RuleId, Rules, TargetFlags};
use crate::base::{Digest, digest::Framed};
use regex::Regex;

/// A target of a job.
#[derive(Debug, Clone)]
pub enum Target {
    /// This file.
    File(String, TargetFlags),
    /// All files of such names.
    Star(Regex, TargetFlags),
}

impl Target {
    /// Whether a name is this target's.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::File(own, _) => own == name,
            Self::Star(names, _) => names.is_match(name),
        }
    }

    /// What is special about it.
    #[must_use]
    pub fn flags(&self) -> TargetFlags {
        match self {
            Self::File(_, flags) | Self::Star(_, flags) => *flags,
        }
    }
}

/// A static dep of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What is special about it.
    pub flags: DepFlags,
}

/// A rule with values for its stems.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The rule.
    pub rule: RuleId,
    /// What people call the job: the rule's name and the first target.
    pub title: String,
    /// Which job it is, whatever its command.
    pub identity: Digest,
    /// What it makes.
    pub targets: Vec<Target>,
    /// What it is known to need before it runs.
    pub deps: Vec<Input>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, sorted.
    pub env: Vec<(String, String)>,
}

impl Spec {
    /// What decides, beside the files that it looks at, what the job makes.
    #[must_use]
    pub fn key(&self, machine: &str) -> Digest {
        let mut key = Framed::new("rfs job 1");
        key.part(machine.as_bytes());
        for list in [&self.argv, &self.env.iter().map(assignment).collect()] {
            key.number(list.len() as u64);
            for text in list {
                key.part(text.as_bytes());
            }
        }
        for target in &self.targets {
            let (name, flags) = match target {
                Target::File(name, flags) => (name.as_str(), flags),
                Target::Star(names, flags) => (names.as_str(), flags),
            };
            key.part(name.as_bytes());
            key.number(u64::from(flags.incremental));
        }
        key.finish()
    }

    /// The target that a name is.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.is(name))
    }

    /// The targets that are single files.
    pub fn files(&self) -> impl Iterator<Item = (&str, TargetFlags)> {
        self.targets.iter().filter_map(|target| match target {
            Target::File(name, flags) => Some((name.as_str(), *flags)),
            Target::Star(..) => None,
        })
    }
}

fn assignment((name, value): &(String, String)) -> String {
    format!("{name}={value}")
}

/// What each hole of a rule's templates can be.
const LISTS: [&str; 4] = ["target", "targets", "dep", "deps"];

impl Rule {
    /// Names that its dep templates may use.
    pub(super) fn stems(&self) -> Vec<&str> {
        let mut stems: Vec<&str> = Vec::new();
        for (_, pattern, _) in &self.targets {
            stems.extend(pattern.stems());
        }
        stems.sort_unstable();
        stems.dedup();
        stems
    }

    /// Names that its command may use.
    pub(super) fn holes(&self) -> Vec<&str> {
        let mut names = self.stems();
        names.extend(LISTS);
        names.extend(self.targets.iter().filter_map(|(key, ..)| key.as_deref()));
        names.extend(self.deps.iter().filter_map(|(key, ..)| key.as_deref()));
        names
    }
}

impl Rules {
    /// The job of a rule with these stems.
    #[must_use]
    pub fn spec(&self, id: RuleId, stems: &Stems) -> Spec {
        let rule = self.rule(id);
        let stem = |name: &str| stems.get(name).cloned().unwrap_or_default();
        let deps: Vec<Input> = rule
            .deps
            .iter()
            .map(|(_, template, flags)| Input {
                name: template.fill(stem),
                flags: *flags,
            })
            .collect();
        let targets: Vec<Target> = rule.targets.iter().filter_map(|t| made(t, stems)).collect();
        let names = |keyed: &mut dyn Iterator<Item = &String>| -> String {
            let words: Vec<String> = keyed.map(|name| quoted(name)).collect();
            words.join(" ")
        };
        let file = |target: &Target| match target {
            Target::File(name, _) => name.clone(),
            Target::Star(..) => String::new(),
        };
        let files: Vec<String> = targets.iter().map(file).collect();
        let value = |name: &str| -> String {
            let keyed = |key: &Option<String>| key.as_deref() == Some(name);
            match name {
                "target" => names(&mut files.iter().take(1)),
                "targets" => names(&mut files.iter().filter(|name| !name.is_empty())),
                "dep" => names(&mut deps.iter().map(|dep| &dep.name).take(1)),
                "deps" => names(&mut deps.iter().map(|dep| &dep.name)),
                _ if stems.contains_key(name) => quoted(&stem(name)),
                _ => {
                    let of_targets = rule.targets.iter().zip(&files);
                    let of_deps = rule.deps.iter().zip(&deps);
                    names(
                        &mut of_targets
                            .filter(|((key, ..), _)| keyed(key))
                            .map(|(_, file)| file)
                            .chain(
                                of_deps
                                    .filter(|((key, ..), _)| keyed(key))
                                    .map(|(_, dep)| &dep.name),
                            ),
                    )
                }
            }
        };
        let text = rule
            .cmd
            .as_ref()
            .map_or(String::new(), |cmd| cmd.fill(value));
        let argv = vec![self.shell.clone(), "-ec".to_owned(), text];
        let mut env = rule.environ.clone();
        env.entry("PATH".to_owned())
            .or_insert_with(|| PATH.to_owned());
        let mut identity = Framed::new("rfs instance 1");
        identity.part(rule.name.as_bytes());
        for (name, value) in stems {
            identity.part(name.as_bytes()).part(value.as_bytes());
        }
        let first = files.iter().find(|name| !name.is_empty());
        Spec {
            rule: id,
            title: match first {
                Some(first) => format!("{} {first}", rule.name),
                None => rule.name.clone(),
            },
            identity: identity.finish(),
            targets,
            deps,
            argv,
            env: env.into_iter().collect(),
        }
    }
}

/// The `PATH` of jobs that are given none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn made(
    (_, pattern, flags): &(Option<String>, Pattern, TargetFlags),
    stems: &Stems,
) -> Option<Target> {
    if pattern.is_star() {
        return Some(Target::Star(pattern.with(stems)?, *flags));
    }
    Some(Target::File(pattern.name(stems), *flags))
}

/// Checks that a template has only holes of these names.
///
/// # Errors
/// The hole, the names, and which of them may have been meant.
pub(super) fn check(template: &Template, names: &[&str]) -> Result<(), String> {
    let strange = template.holes().find(|hole| !names.contains(hole));
    strange.map_or(Ok(()), |hole| {
        let near = names
            .iter()
            .map(|name| (strsim::damerau_levenshtein(name, hole), name))
            .filter(|(distance, _)| *distance <= 2)
            .min();
        let text = template.text();
        Err(match near {
            Some((_, near)) => format!("no {hole:?} in {text:?}: did you mean {near:?}?"),
            None => format!(
                "no {hole:?} in {text:?}: there are {}; write `{{{{{hole}}}}}` for braces",
                names.join(", ")
            ),
        })
    })
}
