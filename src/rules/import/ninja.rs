//! Recipes out of a `build.ninja`, as <https://ninja-build.org/manual.html> defines it.

use super::{Imported, Recipe, tidy};
use std::collections::HashMap;

type Variables = HashMap<String, String>;

/// How much deeper files may include each other.
const MAX_DEPTH: usize = 50;

/// Reads a file and those that it includes, which `open` gives.
///
/// # Errors
/// File, line, and what is wrong there.
pub fn read(file: &str, open: &dyn Fn(&str) -> Result<String, String>) -> Result<Imported, String> {
    let mut reader = Reader {
        open,
        rules: HashMap::new(),
        pools: HashMap::from([("console".to_owned(), 1)]),
        imported: Imported::default(),
    };
    reader.file(file, &mut Variables::new(), 0)?;
    Ok(reader.imported)
}

struct Reader<'a> {
    open: &'a dyn Fn(&str) -> Result<String, String>,
    /// The unexpanded variables of each rule.
    rules: HashMap<String, Variables>,
    pools: HashMap<String, u64>,
    imported: Imported,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, scope: &mut Variables, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("{file}: files include each other"));
        }
        let text = (self.open)(file)?;
        let lines = joined(&text);
        let mut at = 0;
        while let Some((number, line)) = lines.get(at) {
            at += 1;
            let wrong = |what: &str| format!("{file}:{number}: {what}");
            let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "rule" => {
                    let own = indented(&lines, &mut at);
                    self.rules.insert(rest.to_owned(), own);
                }
                "pool" => {
                    let own = indented(&lines, &mut at);
                    let depth = own
                        .get("depth")
                        .map(|depth| expand(depth, &|n| lookup(scope, n)));
                    let depth = depth.and_then(|depth| depth.trim().parse().ok());
                    let depth = depth.ok_or_else(|| wrong("a pool without a depth"))?;
                    self.pools.insert(rest.to_owned(), depth);
                }
                "build" => {
                    let own = indented(&lines, &mut at);
                    self.build(rest, &own, scope).map_err(|what| wrong(&what))?;
                }
                "default" => {
                    let words = words(rest, &|name| lookup(scope, name));
                    let deps = words.into_iter().map(|name| tidy(&name)).collect();
                    self.imported.recipes.push(Recipe {
                        targets: vec!["default".to_owned()],
                        deps,
                        ..Recipe::default()
                    });
                }
                "include" => {
                    let name = expand(rest, &|name| lookup(scope, name));
                    self.file(&name, scope, depth + 1)?;
                }
                "subninja" => {
                    let name = expand(rest, &|name| lookup(scope, name));
                    self.file(&name, &mut scope.clone(), depth + 1)?;
                }
                _ => {
                    let (name, value) = line.split_once('=').ok_or_else(|| {
                        wrong(&format!("{word:?} is neither a statement nor a variable"))
                    })?;
                    let value = expand(value.trim_start(), &|name| lookup(scope, name));
                    scope.insert(name.trim().to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn build(&mut self, rest: &str, own: &Variables, scope: &Variables) -> Result<(), String> {
        let (outs, ins) = cut(rest).ok_or("a build without `:`")?;
        let own: Variables = own
            .iter()
            .map(|(name, value)| (name.clone(), expand(value, &|name| lookup(scope, name))))
            .collect();
        let local = |name: &str| {
            own.get(name)
                .cloned()
                .unwrap_or_else(|| lookup(scope, name))
        };
        let ins = words(ins, &local);
        let (rule, ins) = ins.split_first().ok_or("a build without a rule")?;
        let all = words(outs, &local);
        let explicit: Vec<String> = until_bar(&all);
        let targets: Vec<String> = all
            .iter()
            .filter(|name| *name != "|")
            .map(|n| tidy(n))
            .collect();
        let main_ins = until_bar(ins);
        let validations = ins
            .iter()
            .position(|name| name == "|@")
            .unwrap_or(ins.len());
        let deps = ins[..validations].iter();
        let deps: Vec<String> = deps
            .filter(|name| !matches!(name.as_str(), "|" | "||"))
            .map(|name| tidy(name))
            .collect();
        let order = ins[..validations].iter().skip_while(|name| *name != "||");
        let order: Vec<String> = order.skip(1).map(|name| tidy(name)).collect();
        if rule == "phony" {
            // Without inputs it says that a file needs nobody to make it.
            if !deps.is_empty() {
                self.imported.recipes.push(Recipe {
                    targets,
                    deps,
                    ..Recipe::default()
                });
            }
            return Ok(());
        }
        let of_rule = self.rules.get(rule);
        let of_rule = of_rule.ok_or_else(|| format!("no rule {rule:?}"))?.clone();
        let value =
            |name: &str| -> String { variable(name, &of_rule, &local, &explicit, &main_ins, 0) };
        if !value("generator").is_empty() {
            self.imported
                .left_out
                .push(format!("what makes {}, by itself", targets.join(" ")));
            return Ok(());
        }
        if !value("dyndep").is_empty() {
            self.imported
                .left_out
                .push(format!("the dyndep of {}", targets.join(" ")));
        }
        let mut cmd = value("command");
        let mut optional = Vec::new();
        let tells = !value("depfile").is_empty() || !value("deps").is_empty();
        let depfile = value("depfile");
        if !depfile.is_empty() {
            optional.push(tidy(&depfile));
        }
        let rspfile = value("rspfile");
        if !rspfile.is_empty() {
            let content = value("rspfile_content");
            let quote = crate::rules::pattern::quoted;
            cmd = format!(
                "printf %s {} > {} &&\n{cmd}",
                quote(&content),
                quote(&rspfile)
            );
            optional.push(tidy(&rspfile));
        }
        optional.retain(|name| !targets.contains(name));
        let pool = value("pool");
        let depth = self.pools.get(&pool).copied().filter(|depth| *depth > 0);
        self.imported.recipes.push(Recipe {
            targets,
            optional,
            deps,
            order,
            tells,
            cmd: Some(cmd),
            phony: false,
            pool: depth.map(|depth| (pool, depth)),
        });
        Ok(())
    }
}

/// A variable as a rule's command sees it: of the build, of the rule, of the file.
fn variable(
    name: &str,
    of_rule: &Variables,
    local: &dyn Fn(&str) -> String,
    outs: &[String],
    ins: &[String],
    depth: usize,
) -> String {
    let listed = |names: &[String], between: &str| {
        let names: Vec<String> = names
            .iter()
            .map(|n| crate::rules::pattern::quoted(n))
            .collect();
        names.join(between)
    };
    match name {
        "in" => return listed(ins, " "),
        "in_newline" => return listed(ins, "\n"),
        "out" => return listed(outs, " "),
        _ => {}
    }
    let found = local(name);
    match of_rule.get(name) {
        Some(value) if found.is_empty() && depth < MAX_DEPTH => expand(value, &|name| {
            variable(name, of_rule, local, outs, ins, depth + 1)
        }),
        Some(_) | None => found,
    }
}

fn lookup(scope: &Variables, name: &str) -> String {
    scope.get(name).cloned().unwrap_or_default()
}

/// Lines with their numbers, continued ones joined, empty ones and comments left out.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut whole) = match open.take() {
            Some((number, begun)) => (number, begun + line.trim_start()),
            None => (index + 1, line.to_owned()),
        };
        let n_dollars = whole.bytes().rev().take_while(|byte| *byte == b'$').count();
        if n_dollars % 2 == 1 {
            whole.pop();
            open = Some((number, whole));
        } else if !whole.trim().is_empty() && !whole.trim_start().starts_with('#') {
            lines.push((number, whole));
        }
    }
    lines
}

/// The variables below a statement.
fn indented(lines: &[(usize, String)], at: &mut usize) -> Variables {
    let mut own = Variables::new();
    while let Some((_, line)) = lines
        .get(*at)
        .filter(|(_, line)| line.starts_with([' ', '\t']))
    {
        if let Some((name, value)) = line.split_once('=') {
            own.insert(name.trim().to_owned(), value.trim_start().to_owned());
        }
        *at += 1;
    }
    own
}

/// A text with its variables and escapes replaced.
fn expand(text: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (piece, after) = escape(after, value);
        out.push_str(&piece);
        rest = after;
    }
    out + rest
}

/// What stands for the text after a `$`, and the rest.
fn escape<'t>(after: &'t str, value: &dyn Fn(&str) -> String) -> (String, &'t str) {
    if let Some((name, rest)) = after
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'))
    {
        return (value(name), rest);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
    match (&after[..end], after.chars().next()) {
        ("", Some(c)) => (c.to_string(), &after[c.len_utf8()..]),
        ("", None) => (String::new(), ""),
        (name, _) => (value(name), &after[end..]),
    }
}

/// The words of a list of paths.
fn words(text: &str, value: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            ' ' | '\t' => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            '$' => {
                let (piece, after) = escape(rest, value);
                word.push_str(&piece);
                rest = after;
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Cuts at the first `:` that is not escaped.
fn cut(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ':' if !escaped => return Some((&text[..at], &text[at + 1..])),
            '$' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// The names before the first `|`, `||` or `|@`.
fn until_bar(names: &[String]) -> Vec<String> {
    let before = names.iter().take_while(|name| !name.starts_with('|'));
    before.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\nflags = -O1\nbuilddir = out\npool link\n  depth = 2\n\
        rule cc\n  command = cc $flags -MD -MF $out.d -c $in -o $out $more\n  depfile = $out.d\n  \
        description = CC $out\n\
        rule ln\n  command = cc -o $out @$out.rsp\n  rspfile = $out.rsp\n  rspfile_content = $in\n  pool = link\n\
        rule again\n  command = gen\n  generator = 1\n\
        build $builddir/a.o: cc ./src/a$ b.c | gen.h || dirs\n  flags = $flags -g\n\
        build prog | prog.map: ln $builddir/a.o $\n    lib.a\n\
        build build.ninja: again in\nbuild all: phony prog\nbuild old.h: phony\ndefault all\n";

    fn read_all(text: &str) -> Result<Imported, String> {
        read("build.ninja", &|name| match name {
            "build.ninja" => Ok(text.to_owned()),
            "more.ninja" => Ok("build x: cc y.c\n".to_owned()),
            name => Err(format!("{name}: not found")),
        })
    }

    #[test]
    fn statements_become_recipes() {
        let imported = read_all(TEXT).unwrap();
        let [object, prog, all, default] = imported.recipes.as_slice() else {
            panic!("{imported:?}");
        };
        assert_eq!(object.targets, ["out/a.o"]);
        assert_eq!(object.optional, ["out/a.o.d"]);
        assert_eq!(object.deps, ["src/a b.c", "gen.h", "dirs"]);
        let cmd = object.cmd.as_deref();
        assert_eq!(
            cmd,
            Some("cc -O1 -g -MD -MF out/a.o.d -c './src/a b.c' -o out/a.o ")
        );
        assert_eq!(prog.targets, ["prog", "prog.map"]);
        assert_eq!(prog.pool, Some(("link".to_owned(), 2)));
        let cmd = prog.cmd.as_deref();
        assert_eq!(
            cmd,
            Some("printf %s 'out/a.o lib.a' > prog.rsp &&\ncc -o prog @prog.rsp")
        );
        assert_eq!(
            (all.cmd.as_deref(), all.deps.as_slice()),
            (None, ["prog".to_owned()].as_slice())
        );
        assert_eq!(default.targets, ["default"]);
        assert_eq!(imported.left_out, ["what makes build.ninja, by itself"]);
    }

    #[test]
    fn files_include_files_and_mistakes_have_a_place() {
        let rule = "rule cc\n  command = cc $in\n";
        let both = read_all(&format!("{rule}include more.ninja\nsubninja more.ninja\n")).unwrap();
        assert_eq!(both.recipes.len(), 2);
        for (text, told) in [
            ("build x: nothing y\n", "build.ninja:1: no rule \"nothing\""),
            ("\nbuild x\n", "build.ninja:2: a build without `:`"),
            ("include gone\n", "gone: not found"),
            ("include build.ninja\n", "include each other"),
            ("what\n", "neither a statement nor a variable"),
        ] {
            assert_eq!(
                read_all(text).map_err(|e| e.contains(told)),
                Err(true),
                "{text}"
            );
        }
    }
}
