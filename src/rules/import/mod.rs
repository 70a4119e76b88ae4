//! Rules out of what other build tools know: a `build.ninja`, or what make says that it would do.
//!
//! Pure: text in, the text of an `Rfsfile` out.

pub mod database;
pub mod make;
pub mod ninja;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Files that one command makes out of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// What it makes.
    pub targets: Vec<String>,
    /// What it may make besides.
    pub optional: Vec<String>,
    /// Whether its targets need not be there.
    pub phony: bool,
    /// What it needs.
    pub deps: Vec<String>,
    /// Those of them that must only be there first.
    pub order: Vec<String>,
    /// Whether the command tells what else it has read (a depfile), so that it need not be said before.
    pub tells: bool,
    /// The text for `sh -c`; none where the target stands for its deps.
    pub cmd: Option<String>,
    /// How many of these run at a time, by a name.
    pub pool: Option<(String, u64)>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// One a command.
    pub recipes: Vec<Recipe>,
    /// What could not be taken over, for people.
    pub left_out: Vec<String>,
}

impl Imported {
    /// The text of an `Rfsfile`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for what in &self.left_out {
            let _written = writeln!(text, "# left out: {what}");
        }
        let pools: BTreeMap<&str, u64> = self
            .recipes
            .iter()
            .filter_map(|recipe| recipe.pool.as_ref())
            .map(|(name, depth)| (name.as_str(), *depth))
            .collect();
        for (name, depth) in &pools {
            let _written = writeln!(text, "resource({}, {depth})", quoted(name));
        }
        let mut names = BTreeSet::new();
        for recipe in &self.recipes {
            let Some(first) = recipe.targets.first() else {
                continue;
            };
            if !names.insert(first) {
                let _written = writeln!(text, "# left out: another way to make {first:?}");
                continue;
            }
            recipe.write(first, &mut text);
        }
        text
    }
}

impl Recipe {
    fn write(&self, name: &str, text: &mut String) {
        let phony = self.phony || self.cmd.is_none();
        let targets = self.targets.iter().map(|target| match phony {
            true => format!("target({}, phony = True)", braced(target)),
            false => braced(target),
        });
        let optional = self.optional.iter();
        let optional = optional.map(|name| format!("target({}, optional = True)", braced(name)));
        let targets: Vec<String> = targets.chain(optional).collect();
        let _written = writeln!(
            text,
            "rule(\n    {},\n    targets = [{}],",
            quoted(name),
            targets.join(", ")
        );
        if !self.deps.is_empty() {
            let deps: Vec<String> = self.deps.iter().map(|dep| braced(dep)).collect();
            let _written = writeln!(text, "    deps = [{}],", deps.join(", "));
        }
        let cmd = match &self.cmd {
            Some(cmd) => format!("[\"/bin/sh\", \"-c\", {}]", braced(cmd)),
            None => "[\"/bin/true\"]".to_owned(),
        };
        let _written = writeln!(text, "    cmd = {cmd},");
        if let Some((pool, _)) = &self.pool {
            let _written = writeln!(text, "    resources = {{{}: 1}},", quoted(pool));
        }
        text.push_str(")\n");
    }
}

/// A string of Starlark.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A string of Starlark that is a template of ours without holes.
fn braced(text: &str) -> String {
    quoted(&text.replace('{', "{{").replace('}', "}}"))
}

/// A name relative to the workspace, without `.` and `..` where that can be told.
pub fn tidy(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "." => {}
            "" if !parts.is_empty() => {}
            ".." if parts.last().is_some_and(|last| !matches!(*last, "" | "..")) => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Files that a compiler writes beside its output, by its options: `-MD`, `-MMD` and `-MF FILE`.
fn depfiles(cmd: &str) -> Vec<String> {
    let words: Vec<&str> = cmd.split_whitespace().collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1).map(|word| (*word).to_owned())
    };
    if let Some(file) = after("-MF") {
        return vec![file];
    }
    let wanted = words
        .iter()
        .any(|word| matches!(*word, "-MD" | "-MMD") || word.starts_with("-Wp,-M"));
    let named = words.iter().find_map(|word| {
        word.strip_prefix("-Wp,-MD,")
            .or(word.strip_prefix("-Wp,-MMD,"))
    });
    match (wanted, named, after("-o")) {
        (true, Some(named), _) => vec![named.to_owned()],
        (true, None, Some(output)) => {
            let stem = output
                .rsplit_once('.')
                .map_or(output.as_str(), |(stem, _)| stem);
            vec![format!("{stem}.d")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_written_as_rules() {
        let imported = Imported {
            recipes: vec![Recipe {
                targets: vec!["a{b".to_owned()],
                optional: vec!["a.d".to_owned()],
                deps: vec!["in".to_owned()],
                cmd: Some("echo \"$x\" \\\n > a".to_owned()),
                pool: Some(("link".to_owned(), 2)),
                phony: false,
                ..Recipe::default()
            }],
            left_out: Vec::new(),
        };
        assert_eq!(
            imported.text(),
            "resource(\"link\", 2)\nrule(\n    \"a{b\",\n    targets = [\"a{{b\", \
             target(\"a.d\", optional = True)],\n    deps = [\"in\"],\n    cmd = [\"/bin/sh\", \"-c\", \
             \"echo \\\"$x\\\" \\\\\\n > a\"],\n    resources = {\"link\": 1},\n)\n"
        );
    }

    #[test]
    fn names_are_tidied_and_depfiles_found() {
        assert_eq!(tidy("./a//b/../c"), "a/c");
        assert_eq!(tidy("../a"), "../a");
        assert_eq!(tidy("/x/./y"), "/x/y");
        assert_eq!(depfiles("cc -MMD -c a.c -o o/a.o"), ["o/a.d"]);
        assert_eq!(depfiles("cc -MD -MF x.d -c a.c -o a.o"), ["x.d"]);
        assert_eq!(depfiles("cc -Wp,-MD,y.d -c a.c"), ["y.d"]);
        assert_eq!(depfiles("cc -c a.c -o a.o"), Vec::<String>::new());
    }
}
