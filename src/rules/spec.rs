//! One job: a rule whose stems have values.

use super::pattern::{Pattern, Stems, Template, quoted};
use super::{Cmd, DepFlags, Rule, RuleId, Rules, Sources, TargetFlags};
use crate::base::{Digest, digest::Framed};
use regex::Regex;

/// A target of a job.
#[derive(Debug, Clone)]
pub enum Target {
    /// This file.
    File(String, TargetFlags),
    /// All files of such names, which lie below this directory.
    Star(Regex, String, TargetFlags),
}

impl Target {
    /// Whether a name is this target's.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::File(own, _) => own == name,
            Self::Star(names, ..) => names.is_match(name),
        }
    }

    /// What is special about it.
    #[must_use]
    pub fn flags(&self) -> TargetFlags {
        match self {
            Self::File(_, flags) | Self::Star(_, _, flags) => *flags,
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
    /// Files whose fate in it is nobody's business.
    pub ignore: Sources,
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
                Target::Star(names, _, flags) => (names.as_str(), flags),
            };
            key.part(name.as_bytes());
            key.number(u64::from(flags.incremental));
        }
        key.finish()
    }

    /// Whether a program with these arguments and this environment is its.
    #[must_use]
    pub fn is(&self, argv: &[Vec<u8>], env: &[Vec<u8>]) -> bool {
        let alike = |mine: &mut dyn Iterator<Item = Vec<u8>>, its: &[Vec<u8>]| {
            its.iter().all(|word| mine.next().as_ref() == Some(word)) && mine.next().is_none()
        };
        let mut words = self.argv.iter().map(|word| word.clone().into_bytes());
        let mut assignments = self.env.iter().map(|pair| assignment(pair).into_bytes());
        alike(&mut words, argv) && alike(&mut assignments, env)
    }

    /// Whether a file, or a directory of nothing else, is none of the job's business.
    #[must_use]
    pub fn ignores(&self, name: &str) -> bool {
        self.ignore.are_named()
            && (self.ignore.names(name) || self.ignore.names(&format!("{name}/.")))
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
        let file = |target: &Target| match target {
            Target::File(name, _) => name.clone(),
            Target::Star(..) => String::new(),
        };
        let files: Vec<String> = targets.iter().map(file).collect();
        let named: Vec<&String> = files.iter().filter(|name| !name.is_empty()).collect();
        let value = |hole: &str| -> Vec<&String> {
            let keyed = |key: &Option<String>| key.as_deref() == Some(hole);
            match hole {
                "target" => files.iter().take(1).collect(),
                "targets" => named.clone(),
                "dep" => deps.iter().map(|dep| &dep.name).take(1).collect(),
                "deps" => deps.iter().map(|dep| &dep.name).collect(),
                _ if stems.contains_key(hole) => vec![&stems[hole]],
                _ => {
                    let of_targets = rule.targets.iter().zip(&files);
                    let of_targets = of_targets.filter(|((key, ..), _)| keyed(key));
                    let of_deps = rule.deps.iter().zip(&deps);
                    let of_deps = of_deps.filter(|((key, ..), _)| keyed(key));
                    let of_targets = of_targets.map(|(_, file)| file);
                    of_targets
                        .chain(of_deps.map(|(_, dep)| &dep.name))
                        .collect()
                }
            }
        };
        let argv = match &rule.cmd {
            Some(Cmd::Shell(text)) => {
                let quote = |name: &&String| quoted(name);
                let text = text.fill(|hole| {
                    let words: Vec<String> = value(hole).iter().map(quote).collect();
                    words.join(" ")
                });
                vec![self.shell.clone(), "-ec".to_owned(), text]
            }
            Some(Cmd::Argv(words)) => {
                let mut argv = Vec::new();
                for word in words {
                    match word.only_hole() {
                        Some(hole) => argv.extend(value(hole).into_iter().cloned()),
                        None => argv.push(word.fill(|hole| {
                            let words: Vec<&str> = value(hole).iter().map(|w| w.as_str()).collect();
                            words.join(" ")
                        })),
                    }
                }
                if argv.first().is_some_and(|program| !program.contains('/')) {
                    // It looks through the job's `PATH`, and what it looks at counts as the job's.
                    argv.insert(0, "/usr/bin/env".to_owned());
                }
                argv
            }
            None => Vec::new(),
        };
        let program = argv.first().map_or("", String::as_str);
        let program = program.strip_prefix("./").unwrap_or(program).to_owned();
        let deps = match program.starts_with('/') || deps.iter().any(|dep| dep.name == program) {
            true => deps,
            // One in the workspace has to be there before.
            false => {
                let flags = DepFlags::default();
                let name = program;
                [deps, vec![Input { name, flags }]].concat()
            }
        };
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
            ignore: rule.ignore.clone(),
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
        let dir = pattern.dir().unwrap_or_default().to_owned();
        return Some(Target::Star(pattern.with(stems)?, dir, *flags));
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
