//! `rfs why --configure`: which probe of a configure script decided a define or a flag.
//!
//! What such a script tries to compile is kept as [`Scraps`] of its step. Each begins with all that was defined
//! before (autoconf's `confdefs.h`), so the last one without a define was tried when it was decided. What was
//! not defined is looked for by what the probes have tried. A `config.log` is asked for the question.

use super::configlog::{self, Section, mentions, words};
use super::run::{Run, StepRef};
use super::symbols::{given, is_about, own, told, value};
use super::{Error, compdb};
use crate::base::{Digest, Name, Record, Scraps, State, What};
use crate::report::explain::plain;
use crate::store::graph::{self, Step};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::fmt::{self, Display, Formatter};
use std::os::unix::ffi::OsStrExt;

/// Places of a symbol in what was made that are told.
const MANY: usize = 8;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Configured {
    schema: &'static str,
    /// What was asked about.
    pub symbol: String,
    /// Its value; none if it was not defined.
    pub value: Option<String>,
    /// Where it is in what the script made.
    pub found: Vec<Place>,
    /// The script, and before it what is around it, the outermost first.
    pub around: Vec<StepRef>,
    /// The script's command.
    pub script: Option<String>,
    /// Of what the script was called with: what may be about the symbol (`--disable-nls` of `ENABLE_NLS`).
    pub given: Vec<String>,
    /// How the probe is known: `asks` (its source has what the symbol stands for), `before` (the last one
    /// before the symbol was defined) or `uses` (the first whose command has the value).
    pub how: Option<&'static str>,
    /// The probe's commands; the compiler first, then what it had made, where that was run.
    pub probe: Vec<Probe>,
    /// Its source, without what was defined before.
    pub source: Option<String>,
    /// What the script wrote in its log.
    pub log: Option<Section>,
}

/// Where a symbol is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub path: String,
    /// The line.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// The command that wrote the file last.
    pub writer: Option<String>,
}

/// One command of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The step, if it was one of the run itself and not served with the script as a whole.
    pub step: Option<StepRef>,
    /// Where it was run.
    pub directory: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its exit status.
    pub status: i32,
    /// What it printed.
    pub printed: String,
}

/// What an answer may be looked for in beside the workspace's store.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Sources<'a> {
    /// The index of the cache.
    pub index: Option<&'a Snapshot>,
    /// Reads a file of the workspace, if it is there and not too large.
    pub read: &'a dyn Fn(&Name) -> Option<String>,
    /// Where a log is looked for when no script is known.
    pub cwd: &'a Name,
}

/// A script that has made scraps.
struct Script {
    /// Its step, or the one that it was served with.
    step: Step,
    record: Record,
    texts: Vec<(Digest, String)>,
}

/// Answers from the newest run in which a script is known to have asked, or from one that is named.
///
/// # Errors
/// No probe is known that could have decided it, or the store is damaged.
pub fn configured(
    store: &Snapshot,
    run: Option<u32>,
    symbol: &str,
    sources: Sources<'_>,
) -> Result<Configured, Error> {
    let runs = match run {
        Some(run) => vec![run],
        None => graph::builds(store)?
            .iter()
            .rev()
            .map(|build| build.number)
            .collect(),
    };
    for number in runs {
        let run = Run::open(store, Some(number))?;
        for script in scripts(&run, sources.index)? {
            let answer = answer(&run, &script, symbol, sources)?;
            if answer.log.is_some() || !answer.probe.is_empty() || !answer.found.is_empty() {
                return Ok(answer);
            }
        }
    }
    let log = log(sources.cwd, symbol, sources);
    match log {
        Some(log) => Ok(Configured {
            log: Some(log),
            ..empty(symbol)
        }),
        None => Err(Error::NoProbe(symbol.to_owned())),
    }
}

/// The scripts of a run; those that were served as a part of something are looked up.
fn scripts(run: &Run<'_>, index: Option<&Snapshot>) -> Result<Vec<Script>, Error> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for step in &run.steps {
        let Some(execution) = step.execution else {
            continue;
        };
        let record = history::rest(run.state, execution)?;
        let mut next: Vec<Digest> = Vec::new();
        if record.scraps.is_empty() {
            next.push(history::facts(run.state, execution)?.key);
            next.extend(&record.inner);
        } else {
            found.push(script(step, record));
            continue;
        }
        if step.fate != graph::Fate::Served {
            continue;
        }
        while let Some(key) = next.pop() {
            if !seen.insert(key) {
                continue;
            }
            if let Some(inner) =
                compdb::known(&key, run.state, index, &|one| !one.scraps.is_empty())?
            {
                next.extend(&inner.inner);
                if !inner.scraps.is_empty() {
                    found.push(script(step, inner));
                }
            }
        }
    }
    Ok(found)
}

fn script(step: &Step, record: Record) -> Script {
    let texts = Scraps::texts(&record.scraps);
    Script {
        step: step.clone(),
        record,
        texts,
    }
}

fn answer(
    run: &Run<'_>,
    script: &Script,
    symbol: &str,
    sources: Sources<'_>,
) -> Result<Configured, Error> {
    let names = words(symbol);
    let texts = &script.texts;
    let mut answer = Configured {
        found: places(run, script, symbol, sources)?,
        script: Some(plain(&script.record.title)),
        given: given(&script.record, symbol),
        log: log(&script.record.command.cwd, symbol, sources),
        ..empty(symbol)
    };
    for outer in run.around(&script.step) {
        answer.around.push(run.name(outer)?);
    }
    answer.around.push(run.name(&script.step)?);
    let probes = Probes {
        run,
        script,
        index: sources.index,
    };
    let defined = texts
        .iter()
        .position(|(_, text)| value(text, symbol).is_some());
    let asks = |(_, text): &&(Digest, String)| names.iter().any(|name| mentions(own(text), name));
    let told = answer
        .found
        .iter()
        .find_map(|place| told(&place.text, symbol));
    let (how, decided) = match defined {
        Some(first) => {
            answer.value = value(&texts[first].1, symbol);
            let before = first.checked_sub(1).map(|at| &texts[at]);
            // Several may have been defined since that probe.
            let nearest = texts[..first].iter().rev().take(4).find(asks);
            match (nearest, before) {
                (Some(nearest), _) => (Some("asks"), Some(nearest)),
                (None, before) => (Some("before"), before),
            }
        }
        None => (Some("asks"), texts.iter().rev().find(asks)),
    };
    if answer.value.is_none() {
        answer.value.clone_from(&told);
    }
    if let Some((digest, text)) = decided {
        answer.probe = probes.of(digest)?;
        answer.source = Some(own(text).to_owned());
        answer.how = how;
    } else if let Some(value) = told.filter(|value| !value.is_empty() && defined.is_none()) {
        let flags: Vec<&str> = value.split_whitespace().collect();
        if let Some((probe, digest)) = probes.using(&flags)? {
            let text = texts.iter().find(|(known, _)| *known == digest);
            answer.source = text.map(|(_, text)| own(text).to_owned());
            answer.probe = probe;
            answer.how = Some("uses");
        }
    }
    Ok(answer)
}

/// The commands that a script started.
struct Probes<'a> {
    run: &'a Run<'a>,
    script: &'a Script,
    index: Option<&'a Snapshot>,
}

impl Probes<'_> {
    /// Those that the script has started, with their deps, in their order, and their steps where they are known.
    fn all(&self) -> Result<Vec<(Option<&Step>, Record)>, Error> {
        let run = self.run;
        let mut found = Vec::new();
        for step in &run.steps {
            if let Some(execution) = step
                .execution
                .filter(|_| run.is_in(step, &self.script.step))
            {
                found.push((Some(step), history::record(run.state, execution)?));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let keys: BTreeSet<&Digest> = self.script.record.inner.iter().collect();
        // What was forgotten came first.
        let briefs = keys.iter().map(|key| history::brief(key));
        let briefs: Vec<Digest> = briefs.collect();
        for key in briefs.iter().chain(keys) {
            for store in std::iter::once(run.state).chain(self.index) {
                for execution in history::under(store, key)?.into_iter().rev() {
                    found.push((None, history::record(store, execution)?));
                }
            }
        }
        Ok(found)
    }

    /// The outermost one that read a content, and what ran what that one had made.
    fn of(&self, digest: &Digest) -> Result<Vec<Probe>, Error> {
        let all = self.all()?;
        let read = all.iter().position(|(_, record)| reads(record, digest));
        let Some(read) = read else {
            return Ok(Vec::new());
        };
        let mut found = vec![self.tell(&all[read])?];
        let made = all[read]
            .1
            .outputs
            .iter()
            .filter(|made| matches!(made.what, What::File { .. }));
        let made: Vec<&Name> = made.map(|made| &made.name).collect();
        let compiler = all[read].0.map(|step| step.number);
        for (step, record) in &all[read + 1..] {
            let inside = step.is_some_and(|step| step.parent == compiler);
            if inside || record.deps.is_empty() {
                continue;
            }
            if made.contains(&&record.command.program) && step.is_some() {
                found.push(self.tell(&(*step, record.clone()))?);
            }
            if step.is_some_and(|step| self.script.step.number == step.parent.unwrap_or(0)) {
                break;
            }
        }
        Ok(found)
    }

    /// The first one whose arguments hold some flags in a row, and the content of the script's that it read.
    fn using(&self, flags: &[&str]) -> Result<Option<(Vec<Probe>, Digest)>, Error> {
        for (step, record) in self.all()? {
            let words: Vec<String> = record.command.argv.iter().map(|word| lossy(word)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if !words.windows(flags.len()).any(|window| window == flags) {
                continue;
            }
            let mut texts = self.script.texts.iter();
            if let Some((digest, _)) = texts.find(|(digest, _)| reads(&record, digest)) {
                return Ok(Some((vec![self.tell(&(step, record))?], *digest)));
            }
        }
        Ok(None)
    }

    fn tell(&self, (step, record): &(Option<&Step>, Record)) -> Result<Probe, Error> {
        let printed = record.chunks.iter().flat_map(|chunk| chunk.bytes.clone());
        Ok(Probe {
            step: step.map(|step| self.run.name(step)).transpose()?,
            directory: record.command.cwd.to_string(),
            arguments: record.command.argv.iter().map(|word| lossy(word)).collect(),
            status: record.status,
            printed: lossy(&printed.collect::<Vec<u8>>()),
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn reads(record: &Record, wanted: &Digest) -> bool {
    let is_it = |state: &State| matches!(state, State::File { digest: Some(digest), .. } if digest == wanted);
    record.deps.iter().any(|dep| is_it(&dep.state))
}

fn places(
    run: &Run<'_>,
    script: &Script,
    symbol: &str,
    sources: Sources<'_>,
) -> Result<Vec<Place>, Error> {
    let mut found = Vec::new();
    // What is as it was before was compared, not made.
    let execution = script.step.execution;
    let record = execution.map(|one| history::record(run.state, one));
    let deps = record.transpose()?.map(|record| record.deps);
    let deps = deps.unwrap_or_default();
    let made = script.record.outputs.iter().map(|made| &made.name);
    let made = made.chain(deps.iter().map(|dep| &dep.name)).filter(|name| {
        let path = name.as_path();
        let is_header = path.extension().is_some_and(|ending| ending == "h");
        let named = |name: &str| path.file_name().is_some_and(|last| last == name);
        name.inside() && (is_header || named("config.status") || named("Makefile"))
    });
    let mut names: Vec<&Name> = made.collect();
    let depth = |name: &Name| name.as_path().components().count();
    names.sort_by_key(|name| {
        (
            name.as_path().extension().is_none(),
            depth(name),
            (*name).clone(),
        )
    });
    names.dedup();
    for name in names {
        if found.len() == MANY {
            break;
        }
        let text = (sources.read)(name).unwrap_or_default();
        let line = text
            .lines()
            .enumerate()
            .find(|(_, line)| is_about(line, symbol));
        if let Some((at, line)) = line {
            let writer = graph::writer(run.state, name)?;
            let writer = writer
                .map(|writer| history::rest(run.state, writer))
                .transpose()?;
            found.push(Place {
                path: name.to_string(),
                line: at + 1,
                text: line.to_owned(),
                writer: writer.map(|record| plain(&record.title)),
            });
        }
    }
    Ok(found)
}

fn log(directory: &Name, symbol: &str, sources: Sources<'_>) -> Option<Section> {
    let path = directory.as_path().join("config.log");
    let name = Name::from_bytes(path.as_os_str().as_bytes());
    let text = (sources.read)(&name)?;
    configlog::about(&name.to_string(), &text, &words(symbol))
}

fn empty(symbol: &str) -> Configured {
    Configured {
        schema: "rfs.why-configure/1",
        symbol: symbol.to_owned(),
        value: None,
        found: Vec::new(),
        around: Vec::new(),
        script: None,
        given: Vec::new(),
        how: None,
        probe: Vec::new(),
        source: None,
        log: None,
    }
}

impl Display for Configured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) if *value == self.symbol => write!(f, "{value} is used")?,
            Some(value) => write!(f, "{} is {value:?}", self.symbol)?,
            None => write!(f, "{} is not defined", self.symbol)?,
        }
        for place in &self.found {
            write!(f, "\n{}:{}: {}", place.path, place.line, plain(&place.text))?;
            if let Some(writer) = &place.writer {
                write!(f, "\n  written by {writer}")?;
            }
        }
        if let Some(step) = self.around.last() {
            write!(f, "\nrun {}, {step}", step.run)?;
            if let Some(script) = self
                .script
                .as_ref()
                .filter(|script| **script != step.command)
            {
                write!(f, "\nas a part of which was served: {script}")?;
            }
        }
        if !self.given.is_empty() {
            write!(f, "\ncalled with {}", plain(&self.given.join(" ")))?;
        }
        match self.how {
            Some("asks") => f.write_str("\ndecided by a probe that asks for it:")?,
            Some("before") => f.write_str("\ndefined after this probe, before the next one:")?,
            Some("uses") => f.write_str("\nfirst tried by this probe:")?,
            _ if self.given.is_empty() => f.write_str(
                "\nno probe that has decided it is known: it follows from others, or from what the script itself says",
            )?,
            _ => {}
        }
        for line in self.source.iter().flat_map(|source| source.lines()) {
            write!(f, "\n  | {line}")?;
        }
        for probe in &self.probe {
            match &probe.step {
                Some(step) => write!(f, "\n  step {} in {}: ", step.step, probe.directory)?,
                None => write!(f, "\n  in {}: ", probe.directory)?,
            }
            f.write_str(&plain(&probe.arguments.join(" ")))?;
            for line in probe.printed.lines() {
                write!(f, "\n  > {}", plain(line))?;
            }
            write!(f, "\n  exit status {}", probe.status)?;
        }
        if let Some(log) = &self.log {
            let result = log.result.as_deref().unwrap_or("no result");
            write!(f, "\n{}: {}... {result}", log.path, log.question)?;
            if self.probe.is_empty() {
                for line in &log.lines {
                    write!(f, "\n  {}", plain(line))?;
                }
            }
        }
        Ok(())
    }
}
