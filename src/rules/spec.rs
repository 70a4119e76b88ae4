//! One job: a rule whose stems have values.

use super::builtin::{self, Words};
use super::function::Field;
use super::pattern::{Pattern, Stems, Template, quoted};
use super::{Attribute, Cmd, DepFlags, Limits, Rule, RuleId, Rules, Sources, TargetFlags};
use crate::base::{Digest, digest::Framed};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Directories of the workspace that it sees others in the place of: where, and which; none within another.
    pub views: Vec<(String, String)>,
    /// Within what it runs.
    pub limits: Arc<Limits>,
    /// Why it cannot be run: what a function of its rule has to complain about.
    pub broken: Option<String>,
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
        for (at, real) in &self.views {
            key.part(at.as_bytes()).part(real.as_bytes());
        }
        // What is ignored is in no record.
        for ignored in self.ignore.expressions() {
            key.part(b"ignore").part(ignored.as_bytes());
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

    /// Whether a file, or a directory of nothing else, is none of the job's business. A target always is.
    #[must_use]
    pub fn ignores(&self, name: &str) -> bool {
        self.ignore.are_named()
            && self.target(name).is_none()
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

/// What is known of a job while its attributes are made out.
struct Draft<'r> {
    rules: &'r Rules,
    rule: &'r Rule,
    stems: &'r Stems,
    /// Names of targets; empty for star targets.
    files: Vec<String>,
    deps: Vec<(Option<String>, Input)>,
    broken: Option<String>,
}

impl Draft<'_> {
    /// What a hole stands for.
    fn value(&self, hole: &str) -> Vec<&str> {
        let named = || self.files.iter().filter(|name| !name.is_empty());
        let deps = || self.deps.iter().map(|(_, dep)| dep.name.as_str());
        match hole {
            "target" => self.files.iter().take(1).map(String::as_str).collect(),
            "targets" => named().map(String::as_str).collect(),
            "dep" => deps().take(1).collect(),
            "deps" => deps().collect(),
            _ => {
                if let Some(stem) = self.stems.get(hole) {
                    return vec![stem];
                }
                let keyed = |key: &Option<String>| key.as_deref() == Some(hole);
                let of_targets = self.rule.targets.iter().zip(&self.files);
                let of_targets = of_targets.filter(|((key, ..), _)| keyed(key));
                let of_deps = self.deps.iter().filter(|(key, _)| keyed(key));
                of_targets
                    .map(|(_, file)| file.as_str())
                    .chain(of_deps.map(|(_, dep)| dep.name.as_str()))
                    .collect()
            }
        }
    }

    /// What a function gives for an attribute, where one does.
    fn call<T>(
        &mut self,
        attribute: Attribute,
        read: impl FnOnce(starlark::values::Value<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let mut dynamic = self.rule.dynamic.iter();
        let (_, id) = dynamic.find(|(other, _)| *other == attribute)?;
        let makes = |name: &str| self.rules.recognise(name) && !self.rules.sources.names(name);
        let given = self.rules.functions.call(*id, self.fields(), makes, read);
        match given {
            Ok(value) => Some(value),
            Err(why) => {
                self.broken.get_or_insert(why);
                None
            }
        }
    }

    /// What functions are told: all that commands can name, and the stems.
    fn fields(&self) -> Vec<(String, Field)> {
        let mut holes = self.rule.holes();
        let keys = self.deps.iter().filter_map(|(key, _)| key.as_deref());
        holes.extend(keys);
        holes.sort_unstable();
        holes.dedup();
        let field = |hole: &str| {
            let value = self.value(hole);
            let field = match hole {
                "targets" | "deps" => Field::List(value.into_iter().map(str::to_owned).collect()),
                _ => Field::Text(value.join(" ")),
            };
            (hole.to_owned(), field)
        };
        let mut fields: Vec<(String, Field)> = holes.into_iter().map(field).collect();
        fields.push(("stems".to_owned(), Field::Map(self.stems.clone())));
        fields
    }

    fn argv(&mut self) -> Vec<String> {
        let shell = |text: String| vec![self.rules.shell.clone(), "-ec".to_owned(), text];
        let mut argv = match (&self.rule.cmd, self.rule.dynamic.is_empty()) {
            (None, _) => return Vec::new(),
            (Some(cmd), _) if !cmd.templates().is_empty() => match cmd {
                Cmd::Shell(text) => shell(text.fill(|hole| {
                    let words = self.value(hole).into_iter().map(quoted);
                    words.collect::<Vec<_>>().join(" ")
                })),
                Cmd::Argv(words) => {
                    let mut argv = Vec::new();
                    for word in words {
                        match word.only_hole() {
                            Some(hole) => {
                                argv.extend(self.value(hole).into_iter().map(str::to_owned));
                            }
                            None => argv.push(word.fill(|hole| self.value(hole).join(" "))),
                        }
                    }
                    argv
                }
            },
            (Some(_), _) => match self.call(Attribute::Cmd, builtin::words) {
                Some(Words::Shell(text)) => shell(text),
                Some(Words::Argv(words)) => words,
                None => Vec::new(),
            },
        };
        if argv.first().is_some_and(|program| !program.contains('/')) {
            // It looks through the job's `PATH`, and what it looks at counts as the job's.
            argv.insert(0, "/usr/bin/env".to_owned());
        }
        argv
    }

    /// Within what it runs.
    fn limits(&mut self) -> Arc<Limits> {
        if self.rule.dynamic.is_empty() {
            return self.rule.limits.clone();
        }
        let mut limits = (*self.rule.limits).clone();
        if let Some(timeout) = self.call(Attribute::Timeout, builtin::seconds) {
            limits.timeout = timeout;
        }
        if let Some(retries) = self.call(Attribute::Retries, builtin::retries) {
            limits.retries = retries;
        }
        if let Some(stderr_ok) = self.call(Attribute::StderrOk, builtin::stderr_ok) {
            limits.stderr_ok = stderr_ok;
        }
        if let Some(resources) = self.call(Attribute::Resources, builtin::resources) {
            limits.resources = resources;
        }
        Arc::new(limits)
    }
}

impl Rules {
    /// The job of a rule with these stems.
    #[must_use]
    pub fn spec(&self, id: RuleId, stems: &Stems) -> Spec {
        let rule = self.rule(id);
        let stem = |name: &str| stems.get(name).cloned().unwrap_or_default();
        let targets: Vec<Target> = rule.targets.iter().filter_map(|t| made(t, stems)).collect();
        let file = |target: &Target| match target {
            Target::File(name, _) => name.clone(),
            Target::Star(..) => String::new(),
        };
        let mut draft = Draft {
            rules: self,
            rule,
            stems,
            files: targets.iter().map(file).collect(),
            deps: Vec::new(),
            broken: None,
        };
        let input = |name: String, flags: &DepFlags| Input {
            name,
            flags: *flags,
        };
        draft.deps = match draft.call(Attribute::Deps, builtin::names) {
            Some(names) => {
                let deps = names.into_iter();
                deps.map(|(key, name, flags)| (key, input(name, &flags)))
                    .collect()
            }
            None => {
                let deps = rule.deps.iter();
                deps.map(|(key, name, flags)| (key.clone(), input(name.fill(stem), flags)))
                    .collect()
            }
        };
        let argv = draft.argv();
        let environ = draft.call(Attribute::Environ, builtin::environ);
        let limits = draft.limits();
        let views = rule.views.iter();
        let views = views.map(|(at, real)| (at.fill(stem), real.fill(stem)));
        let views: Vec<(String, String)> = views.collect();
        let program = argv.first().map_or("", String::as_str);
        let Draft {
            files,
            deps,
            mut broken,
            ..
        } = draft;
        if let Err(why) = apart(&views, program) {
            broken.get_or_insert(why);
        }
        let mut deps: Vec<Input> = deps.into_iter().map(|(_, dep)| dep).collect();
        let program = argv.first().map_or("", String::as_str);
        let program = program.strip_prefix("./").unwrap_or(program).to_owned();
        // One in the workspace has to be there before.
        let is_ours = !program.is_empty() && !program.starts_with('/');
        if is_ours && !deps.iter().any(|dep| dep.name == program) {
            deps.push(input(program, &DepFlags::default()));
        }
        let mut env: BTreeMap<String, String> = environ.unwrap_or_else(|| rule.environ.clone());
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
            views,
            limits,
            broken,
        }
    }
}

/// Checks that views are of directories of the workspace, that none is within another one, and that the program
/// does not lie in one.
///
/// # Errors
/// The first that is wrong.
fn apart(views: &[(String, String)], program: &str) -> Result<(), String> {
    let within = |name: &str, dir: &str| {
        let rest = name.strip_prefix(dir);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let names = || views.iter().flat_map(|(at, real)| [at, real]);
    for name in names() {
        let mut parts = name.split('/');
        let odd = parts.any(|part| matches!(part, "" | "." | ".." | ".rfs"));
        if odd {
            return Err(format!("views: {name:?} is no directory of the workspace"));
        }
    }
    for (at, _) in views {
        // Two may be of one directory.
        let others = names().filter(|name| !std::ptr::eq(*name, at));
        for other in others {
            if within(at, other) || within(other, at) {
                return Err(format!("views: {at:?} and {other:?} are not apart"));
            }
        }
        if within(program.strip_prefix("./").unwrap_or(program), at) {
            return Err(format!(
                "views: the program {program:?} would lie in {at:?}"
            ));
        }
    }
    Ok(())
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
