//! The functions of the language.

use super::gathered::Gathered;
use super::load::other;
use super::pattern::{Pattern, Template};
use super::sources::{Sources, glob};
use super::spec::check;
use super::{Cmd, DepFlags, Place, Rule, TargetFlags};
use nix::sys::signal::Signal;
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneType;
use starlark::values::tuple::UnpackTuple;
use std::collections::BTreeMap;
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
        };
        targets.push((key, Pattern::new(&text)?, flags));
    }
    if targets.is_empty() {
        return Err("a rule needs a target".to_owned());
    }
    Ok(targets)
}

fn deps(value: Value<'_>) -> Result<Vec<(Option<String>, Template, DepFlags)>, String> {
    let mut deps = Vec::new();
    for (key, value) in keyed("deps", value)? {
        let (text, is_set) = flagged("deps", value)?;
        let flags = DepFlags {
            ignore_error: is_set("ignore_error"),
        };
        deps.push((key, Template::new(&text)?, flags));
    }
    Ok(deps)
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
    let holes = rule.holes();
    let templates = rule.cmd.iter().flat_map(Cmd::templates);
    templates
        .into_iter()
        .try_for_each(|template| check(template, &holes))
}

fn strings(
    what: &str,
    map: SmallMap<String, Value<'_>>,
) -> Result<BTreeMap<String, String>, String> {
    map.into_iter()
        .map(|(name, value)| match value.unpack_str() {
            Some(text) => Ok((name, text.to_owned())),
            None => Err(format!("{what}: {name} is {value}, which is no string")),
        })
        .collect()
}

fn amounts(what: &str, map: SmallMap<String, i32>) -> Result<BTreeMap<String, u64>, String> {
    map.into_iter()
        .map(|(name, amount)| match u64::try_from(amount) {
            Ok(amount) => Ok((name, amount)),
            Err(_) => Err(format!("{what}: {name} is negative")),
        })
        .collect()
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
fn seconds(value: Value<'_>) -> Result<Option<Duration>, String> {
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
        #[starlark(require = named)] environ: Option<SmallMap<String, Value<'v>>>,
        #[starlark(require = named, default = NoneType)] priority: Value<'v>,
        #[starlark(require = named, default = NoneType)] timeout: Value<'v>,
        #[starlark(require = named)] kill: Option<UnpackList<String>>,
        #[starlark(require = named, default = 0)] retries: u32,
        #[starlark(require = named, default = true)] stderr_ok: bool,
        #[starlark(require = named)] ignore: Option<UnpackList<String>>,
        #[starlark(require = named)] resources: Option<SmallMap<String, i32>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let rule = (|| -> Result<Rule, String> {
            let rule = Rule {
                name,
                at: place(eval),
                targets: self::targets(targets)?,
                deps: self::deps(deps)?,
                cmd: Some(command(cmd)?),
                environ: strings("environ", environ.unwrap_or_default())?,
                priority: if priority.is_none() {
                    0.0
                } else {
                    number("priority", priority)?
                },
                timeout: seconds(timeout)?,
                kill: signals(kill)?,
                retries,
                stderr_ok,
                ignore: Sources::new(&ignore.unwrap_or_default().items)?,
                resources: amounts("resources", resources.unwrap_or_default())?,
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
                timeout: None,
                kill: Vec::new(),
                retries: 0,
                stderr_ok: true,
                ignore: Sources::default(),
                resources: BTreeMap::new(),
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
    ) -> starlark::Result<SmallMap<String, Value<'v>>> {
        let flags = [
            ("optional", optional),
            ("phony", phony),
            ("incremental", incremental),
        ];
        Ok(with_flags(pattern, &flags))
    }

    /// A dep with flags.
    fn dep<'v>(
        pattern: Value<'v>,
        #[starlark(require = named, default = false)] ignore_error: bool,
    ) -> starlark::Result<SmallMap<String, Value<'v>>> {
        Ok(with_flags(pattern, &[("ignore_error", ignore_error)]))
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
        gathered(eval)?.sources.borrow_mut().extend(patterns);
        Ok(NoneType)
    }

    /// How much there is of a resource that jobs share.
    fn resource<'v>(
        name: String,
        amount: u64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        gathered(eval)?.resources.borrow_mut().insert(name, amount);
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
            gathered(eval)?.shell.replace(shell);
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
