//! The functions of the language.

use super::gathered::Gathered;
use super::load::other;
use super::pattern::{Pattern, Template};
use super::sources::{Sources, glob};
use super::spec::check;
use super::{Attribute, Cmd, DepFlags, FunctionId, Limits, Place, Rule, TargetFlags};
use nix::sys::signal::Signal;
use starlark::collections::SmallMap;
use starlark::environment::{GlobalsBuilder, Module};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneType;
use starlark::values::tuple::UnpackTuple;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The key of a string of a dict that stands for one with flags.
const PATTERN: &str = "pattern";

type Keyed<'v> = Vec<(Option<String>, Value<'v>)>;

/// One string, a list of them, or a dict of them by key; in the place of a string may stand what `target()`
/// or `dep()` gave.
fn keyed<'v>(what: &str, value: Value<'v>) -> Result<Keyed<'v>, String> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    if let Some(list) = ListRef::from_value(value) {
        return Ok(list.iter().map(|value| (None, value)).collect());
    }
    match DictRef::from_value(value) {
        Some(dict) if dict.get_str(PATTERN).is_none() => dict
            .iter()
            .map(|(key, value)| match key.unpack_str() {
                Some(key) => Ok((Some(key.to_owned()), value)),
                None => Err(format!("{what}: the key {key} is no string")),
            })
            .collect(),
        Some(_) | None => Ok(vec![(None, value)]),
    }
}

/// A string, or what `target()` or `dep()` gave: the text, and whether a flag is set.
fn flagged<'v>(
    what: &str,
    value: Value<'v>,
) -> Result<(String, impl Fn(&str) -> bool + use<'v>), String> {
    let dict = DictRef::from_value(value);
    let text = match &dict {
        Some(dict) => dict.get_str(PATTERN).and_then(|text| text.unpack_str()),
        None => value.unpack_str(),
    };
    let Some(text) = text else {
        return Err(format!("{what}: {value} is no string"));
    };
    let is_set = move |flag: &str| {
        let dict = DictRef::from_value(value);
        dict.and_then(|dict| dict.get_str(flag))
            .is_some_and(|value| value.to_bool())
    };
    Ok((text.to_owned(), is_set))
}

fn targets(value: Value<'_>) -> Result<Vec<(Option<String>, Pattern, TargetFlags)>, String> {
    let mut targets = Vec::new();
    for (key, value) in keyed("targets", value)? {
        let (text, is_set) = flagged("targets", value)?;
        let flags = TargetFlags {
            optional: is_set("optional"),
            phony: is_set("phony"),
            incremental: is_set("incremental"),
            source_ok: is_set("source_ok"),
        };
        targets.push((key, Pattern::new(&text)?, flags));
    }
    if targets.is_empty() {
        return Err("a rule needs a target".to_owned());
    }
    Ok(targets)
}

/// Deps as they are written, or as a function gives them.
pub(super) fn names(value: Value<'_>) -> Result<Vec<(Option<String>, String, DepFlags)>, String> {
    let mut deps = Vec::new();
    for (key, value) in keyed("deps", value)? {
        let (text, is_set) = flagged("deps", value)?;
        let flags = DepFlags {
            ignore_error: is_set("ignore_error"),
            critical: is_set("critical"),
            required: is_set("required"),
        };
        deps.push((key, text, flags));
    }
    Ok(deps)
}

fn deps(value: Value<'_>) -> Result<Vec<(Option<String>, Template, DepFlags)>, String> {
    let names = names(value)?.into_iter();
    let deps = names.map(|(key, text, flags)| Ok((key, Template::new(&text)?, flags)));
    deps.collect()
}

/// Each stem must have a value whichever target is asked for.
fn complete(rule: &Rule) -> Result<(), String> {
    let stems = rule.stems();
    for (_, pattern, _) in &rule.targets {
        if let Some(lacking) = stems
            .iter()
            .find(|stem| !pattern.stems().any(|own| own == **stem))
        {
            let text = pattern.text();
            return Err(format!(
                "every stem must be in every target: {text:?} has no {lacking:?}"
            ));
        }
    }
    for (_, template, _) in &rule.deps {
        check(template, &stems)?;
    }
    for template in rule.views.iter().flat_map(|(at, real)| [at, real]) {
        check(template, &stems)?;
    }
    if rule
        .dynamic
        .iter()
        .any(|(attribute, _)| *attribute == Attribute::Cmd)
    {
        return Ok(());
    }
    let holes = rule.holes();
    let templates = rule.cmd.iter().flat_map(Cmd::templates);
    templates
        .into_iter()
        .try_for_each(|template| check(template, &holes))
}

/// The entries of a dict of strings.
fn entries<'v>(what: &str, value: Value<'v>) -> Result<Vec<(String, Value<'v>)>, String> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    let dict = DictRef::from_value(value).ok_or_else(|| format!("{what}: {value} is no dict"))?;
    let entry = |(name, value): (Value<'v>, Value<'v>)| match name.unpack_str() {
        Some(name) => Ok((name.to_owned(), value)),
        None => Err(format!("{what}: the key {name} is no string")),
    };
    dict.iter().map(entry).collect()
}

pub(super) fn environ(value: Value<'_>) -> Result<BTreeMap<String, String>, String> {
    let text = |(name, value): (String, Value<'_>)| match value.unpack_str() {
        Some(text) => Ok((name, text.to_owned())),
        None => Err(format!("environ: {name} is {value}, which is no string")),
    };
    entries("environ", value)?.into_iter().map(text).collect()
}

pub(super) fn resources(value: Value<'_>) -> Result<BTreeMap<String, u64>, String> {
    let amount = |(name, value): (String, Value<'_>)| match value.unpack_i32() {
        Some(amount) if amount >= 0 => Ok((name, u64::from(amount.unsigned_abs()))),
        Some(_) => Err(format!("resources: {name} is negative")),
        None => Err(format!("resources: {name} is {value}, which is no number")),
    };
    entries("resources", value)?
        .into_iter()
        .map(amount)
        .collect()
}

/// What is seen where: templates over stems.
fn views(value: Value<'_>) -> Result<Vec<(Template, Template)>, String> {
    let view = |(at, real): (String, Value<'_>)| match real.unpack_str() {
        Some(real) => Ok((Template::new(&at)?, Template::new(real)?)),
        None => Err(format!("views: {at} is {real}, which is no string")),
    };
    entries("views", value)?.into_iter().map(view).collect()
}

pub(super) fn retries(value: Value<'_>) -> Result<u32, String> {
    let number = value
        .unpack_i32()
        .and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("retries: {value} is no number of runs"))
}

pub(super) fn stderr_ok(value: Value<'_>) -> Result<bool, String> {
    let truth = value.unpack_bool();
    truth.ok_or_else(|| format!("stderr_ok: {value} is neither True nor False"))
}

/// What a function says is to be run: a text for the shell, or words, all of them as they are.
pub(super) fn words(value: Value<'_>) -> Result<Words, String> {
    if let Some(text) = value.unpack_str() {
        return Ok(Words::Shell(text.to_owned()));
    }
    let words = ListRef::from_value(value).filter(|words| !words.is_empty());
    let words =
        words.ok_or_else(|| format!("cmd: {value} is neither a string nor a list of words"))?;
    let word = |word: Value<'_>| match word.unpack_str() {
        Some(word) => Ok(word.to_owned()),
        None => Err(format!("cmd: {word} is no string")),
    };
    words
        .iter()
        .map(word)
        .collect::<Result<_, _>>()
        .map(Words::Argv)
}

/// A whole command.
#[derive(Debug, Clone)]
pub(super) enum Words {
    Shell(String),
    Argv(Vec<String>),
}

/// Attributes of a rule, of which some are functions.
struct Attributes<'v, 'g> {
    gathered: &'g Gathered,
    module: &'v Module,
    dynamic: Vec<(Attribute, FunctionId)>,
}

impl<'v> Attributes<'v, '_> {
    /// What is written; nothing where a function stands.
    fn read<T: Default>(
        &mut self,
        attribute: Attribute,
        value: Value<'v>,
        read: impl FnOnce(Value<'v>) -> Result<T, String>,
    ) -> Result<T, String> {
        if value.get_type() != "function" {
            return read(value);
        }
        let id = self.gathered.keep(self.module, value);
        self.dynamic.push((attribute, id));
        Ok(T::default())
    }
}

/// What a job runs: a text for the shell, or a list of words.
fn command(value: Value<'_>) -> Result<Cmd, String> {
    if let Some(text) = value.unpack_str() {
        return Ok(Cmd::Shell(Template::new(text)?));
    }
    let words = ListRef::from_value(value).filter(|words| !words.is_empty());
    let Some(words) = words else {
        return Err(format!(
            "cmd: {value} is neither a string nor a list of words"
        ));
    };
    let words = words.iter().map(|word| match word.unpack_str() {
        Some(word) => Template::new(word),
        None => Err(format!("cmd: {word} is no string")),
    });
    Ok(Cmd::Argv(words.collect::<Result<_, _>>()?))
}

/// Signals by their names, with or without `SIG`.
fn signals(names: Option<UnpackList<String>>) -> Result<Vec<i32>, String> {
    let Some(names) = names else {
        return Ok(vec![libc::SIGTERM]);
    };
    let number = |name: &String| {
        let whole = format!("SIG{}", name.trim_start_matches("SIG"));
        let signal = whole.parse::<Signal>();
        signal.map(|signal| signal as i32).map_err(|_unknown| {
            format!("kill: {name:?} is no signal: there are \"INT\", \"TERM\", ...")
        })
    };
    names.items.iter().map(number).collect()
}

/// Seconds, as an int or a float.
pub(super) fn seconds(value: Value<'_>) -> Result<Option<Duration>, String> {
    if value.is_none() {
        return Ok(None);
    }
    let text = value.to_string();
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    match seconds {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(format!("timeout: {text} is no number of seconds")),
    }
}

fn number(what: &str, value: Value<'_>) -> Result<f64, String> {
    let text = value.to_string();
    text.parse()
        .map_err(|error| format!("{what}: {text}: {error}"))
}

fn gathered<'v, 'a>(eval: &Evaluator<'v, 'a, '_>) -> starlark::Result<&'a Gathered> {
    let extra = eval
        .extra
        .and_then(|extra| extra.downcast_ref::<Gathered>());
    extra.ok_or_else(|| other("not in an Rfsfile".to_owned()))
}

/// Where the function that is running was called.
fn place(eval: &Evaluator<'_, '_, '_>) -> Place {
    match eval.call_stack_top_location() {
        Some(span) => {
            let begin = span.resolve_span().begin;
            Place(format!(
                "{}:{}:{}",
                span.filename(),
                begin.line + 1,
                begin.column + 1
            ))
        }
        None => Place::default(),
    }
}

#[starlark_module]
#[expect(
    clippy::too_many_arguments,
    reason = "they are keyword arguments of the language"
)]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// Says how files of certain names are made.
    fn rule<'v>(
        name: String,
        #[starlark(require = named)] targets: Value<'v>,
        #[starlark(require = named)] cmd: Value<'v>,
        #[starlark(require = named, default = NoneType)] deps: Value<'v>,
        #[starlark(require = named, default = NoneType)] environ: Value<'v>,
        #[starlark(require = named, default = NoneType)] priority: Value<'v>,
        #[starlark(require = named, default = NoneType)] timeout: Value<'v>,
        #[starlark(require = named)] kill: Option<UnpackList<String>>,
        #[starlark(require = named, default = 0)] retries: Value<'v>,
        #[starlark(require = named, default = true)] stderr_ok: Value<'v>,
        #[starlark(require = named)] ignore: Option<UnpackList<String>>,
        #[starlark(require = named, default = NoneType)] resources: Value<'v>,
        #[starlark(require = named, default = NoneType)] views: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let rule = (|| -> Result<Rule, String> {
            let mut all = Attributes {
                gathered: gathered(eval).map_err(|error| error.to_string())?,
                module: eval.module(),
                dynamic: Vec::new(),
            };
            let limits = Limits {
                timeout: all.read(Attribute::Timeout, timeout, seconds)?,
                kill: signals(kill)?,
                retries: all.read(Attribute::Retries, retries, self::retries)?,
                stderr_ok: all.read(Attribute::StderrOk, stderr_ok, self::stderr_ok)?,
                resources: all.read(Attribute::Resources, resources, self::resources)?,
            };
            let rule = Rule {
                name,
                at: place(eval),
                targets: self::targets(targets)?,
                deps: all.read(Attribute::Deps, deps, self::deps)?,
                cmd: Some(all.read(Attribute::Cmd, cmd, command)?),
                environ: all.read(Attribute::Environ, environ, self::environ)?,
                priority: if priority.is_none() {
                    0.0
                } else {
                    number("priority", priority)?
                },
                limits: Arc::new(limits),
                ignore: Sources::new(&ignore.unwrap_or_default().items)?,
                views: self::views(views)?,
                dynamic: all.dynamic,
            };
            complete(&rule)?;
            Ok(rule)
        })();
        let added = rule.and_then(|rule| gathered(eval).map_err(|e| e.to_string())?.add(rule));
        added.map(|()| NoneType).map_err(other)
    }

    /// Says that nobody makes files of these names.
    fn anti_rule<'v>(
        targets: Value<'v>,
        #[starlark(require = named, default = NoneType)] priority: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let gathered = gathered(eval)?;
        let n = gathered.n_anti.get();
        gathered.n_anti.set(n + 1);
        let rule = (|| -> Result<Rule, String> {
            Ok(Rule {
                name: format!("anti_rule {n}"),
                at: place(eval),
                targets: self::targets(targets)?,
                deps: Vec::new(),
                cmd: None,
                environ: BTreeMap::new(),
                priority: if priority.is_none() {
                    0.0
                } else {
                    number("priority", priority)?
                },
                limits: Arc::default(),
                ignore: Sources::default(),
                views: Vec::new(),
                dynamic: Vec::new(),
            })
        })();
        rule.and_then(|rule| gathered.add(rule))
            .map(|()| NoneType)
            .map_err(other)
    }

    /// A target with flags.
    fn target<'v>(
        pattern: Value<'v>,
        #[starlark(require = named, default = false)] optional: bool,
        #[starlark(require = named, default = false)] phony: bool,
        #[starlark(require = named, default = false)] incremental: bool,
        #[starlark(require = named, default = false)] source_ok: bool,
    ) -> starlark::Result<SmallMap<String, Value<'v>>> {
        let flags = [
            ("optional", optional),
            ("phony", phony),
            ("incremental", incremental),
            ("source_ok", source_ok),
        ];
        Ok(with_flags(pattern, &flags))
    }

    /// A dep with flags.
    fn dep<'v>(
        pattern: Value<'v>,
        #[starlark(require = named, default = false)] ignore_error: bool,
        #[starlark(require = named, default = false)] critical: bool,
        #[starlark(require = named, default = false)] required: bool,
    ) -> starlark::Result<SmallMap<String, Value<'v>>> {
        let flags = [
            ("ignore_error", ignore_error),
            ("critical", critical),
            ("required", required),
        ];
        Ok(with_flags(pattern, &flags))
    }

    /// Names sources by glob patterns. From then on other files are no sources.
    fn source<'v>(
        #[starlark(args)] patterns: UnpackTuple<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let patterns = patterns.items;
        for pattern in &patterns {
            glob(pattern).map_err(other)?;
        }
        let gathered = gathered(eval)?;
        gathered.is_open().map_err(other)?;
        gathered.sources.borrow_mut().extend(patterns);
        Ok(NoneType)
    }

    /// How much there is of a resource that jobs share.
    fn resource<'v>(
        name: String,
        amount: u64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let gathered = gathered(eval)?;
        gathered.is_open().map_err(other)?;
        gathered.resources.borrow_mut().insert(name, amount);
        Ok(NoneType)
    }

    /// Settings of all rules.
    fn config<'v>(
        #[starlark(require = named)] shell: Option<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        if let Some(shell) = shell {
            if !shell.starts_with('/') {
                return Err(other(format!("shell: {shell:?} must be an absolute path")));
            }
            let gathered = gathered(eval)?;
            gathered.is_open().map_err(other)?;
            gathered.shell.replace(shell);
        }
        Ok(NoneType)
    }

    /// A variable of the user's environment.
    fn env<'v>(
        name: String,
        #[starlark(default = NoneType)] default: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let gathered = gathered(eval)?;
        let value = gathered.env.get(&name);
        gathered
            .asked
            .borrow_mut()
            .variable(&name, value.map(String::as_str));
        Ok(value.map_or(default, |value| eval.heap().alloc(value.as_str())))
    }

    /// The files of the workspace that a glob pattern names, sorted. `exclude` leaves out some.
    fn glob<'v>(
        pattern: String,
        #[starlark(require = named)] exclude: Option<UnpackList<String>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        let exclude = exclude.unwrap_or_default().items;
        let gathered = gathered(eval)?;
        let found = gathered
            .asked
            .borrow_mut()
            .glob(&gathered.root, &pattern, &exclude);
        found.map_err(other)
    }

    /// The content of a file of the workspace.
    fn read<'v>(name: String, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        let gathered = gathered(eval)?;
        let path = gathered.root.join(&name);
        gathered.asked.borrow_mut().file(&path);
        gathered.read.borrow_mut().push(name.clone());
        std::fs::read_to_string(path).map_err(|error| other(format!("{name}: {error}")))
    }
}

fn with_flags<'v>(pattern: Value<'v>, flags: &[(&str, bool)]) -> SmallMap<String, Value<'v>> {
    let mut map = SmallMap::new();
    map.insert(PATTERN.to_owned(), pattern);
    for (flag, set) in flags {
        map.insert((*flag).to_owned(), Value::new_bool(*set));
    }
    map
}
