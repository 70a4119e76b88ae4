//! Which files are sources: those that `source()` names, else all that no rule makes.

use regex::{Regex, RegexSet};
use std::path::Path;

/// The patterns of `source()`, as expressions and as they were given.
#[derive(Debug, Default, Clone)]
pub struct Sources(Option<RegexSet>, Vec<String>);

impl Sources {
    /// Sources by glob patterns; with none of them, whatever is there and nobody makes.
    ///
    /// # Errors
    /// What is wrong with a pattern, for people.
    pub fn new(globs: &[String]) -> Result<Self, String> {
        if globs.is_empty() {
            return Ok(Self(None, Vec::new()));
        }
        let expressions = globs.iter().map(|glob| expression(glob));
        RegexSet::new(expressions)
            .map(|set| Self(Some(set), globs.to_vec()))
            .map_err(|error| error.to_string())
    }

    /// The patterns, as they were given.
    #[must_use]
    pub fn globs(&self) -> &[String] {
        &self.1
    }

    /// The expressions that name them.
    pub(super) fn expressions(&self) -> &[String] {
        self.0.as_ref().map_or(&[], RegexSet::patterns)
    }

    /// Whether a file is named as a source.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(name))
    }

    /// Whether files that are not named are no sources.
    #[must_use]
    pub fn are_named(&self) -> bool {
        self.0.is_some()
    }
}

/// What a glob pattern recognises: `*` and `?` within a directory, `**` across directories, `[...]` one
/// of these characters.
///
/// # Errors
/// What is wrong with it.
pub(super) fn glob(text: &str) -> Result<Regex, String> {
    Regex::new(&expression(text)).map_err(|error| format!("in {text:?}: {error}"))
}

/// The files of the workspace that lie below a directory and whose names an expression recognises, sorted.
#[must_use]
pub fn matching(root: &Path, dir: &str, expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(expression) = Regex::new(expression) {
        below(root, dir, &mut |_| {}, &mut |name| {
            if expression.is_match(name) {
                found.push(name.to_owned());
            }
        });
    }
    found.sort();
    found
}

/// The files of the workspace that one glob pattern names and no other excludes, sorted. `enter` hears of
/// each directory before it is read.
///
/// # Errors
/// What is wrong with a pattern.
pub(super) fn find(
    root: &Path,
    pattern: &str,
    exclude: &[String],
    enter: &mut dyn FnMut(&Path),
) -> Result<Vec<String>, String> {
    let wanted = glob(pattern)?;
    let unwanted = exclude.iter().map(|pattern| glob(pattern));
    let unwanted = unwanted.collect::<Result<Vec<_>, String>>()?;
    let fixed = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    let top = fixed.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut found = Vec::new();
    below(root, top, enter, &mut |name| {
        if wanted.is_match(name) && !unwanted.iter().any(|glob| glob.is_match(name)) {
            found.push(name.to_owned());
        }
    });
    found.sort();
    Ok(found)
}

/// Calls `tell` for each file below a directory of the workspace, and `enter` for each directory before.
fn below(root: &Path, dir: &str, enter: &mut dyn FnMut(&Path), tell: &mut dyn FnMut(&str)) {
    let path = root.join(dir);
    enter(&path);
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = if dir.is_empty() {
            name.clone()
        } else {
            format!("{dir}/{name}")
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                if !matches!(name.as_str(), ".rfs" | ".git") {
                    below(root, &path, enter, tell);
                }
            }
            Ok(_) => tell(&path),
            Err(_) => {}
        }
    }
}

fn expression(glob: &str) -> String {
    let mut regex = String::from("(?s)^");
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            regex.push_str("(?:.*/)?");
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("**") {
            regex.push_str(".*");
            rest = after;
            continue;
        }
        if let Some((set, after)) = set(rest) {
            regex.push_str(&set);
            rest = after;
            continue;
        }
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
        rest = &rest[c.len_utf8()..];
    }
    regex.push('$');
    regex
}

/// One of a set of characters, as a regular expression, and what comes after it. A set without an end is none.
fn set(glob: &str) -> Option<(String, &str)> {
    let inside = glob.strip_prefix('[')?;
    let (inverted, inside) = match inside.strip_prefix(['!', '^']) {
        Some(inside) => (true, inside),
        None => (false, inside),
    };
    // A bracket that comes first is one of them.
    let first = inside.chars().next()?.len_utf8();
    let end = first + inside.get(first..)?.find(']')?;
    let mut set = String::from(if inverted { "[^/" } else { "[" });
    for c in inside[..end].chars() {
        if matches!(c, '[' | ']' | '\\' | '^' | '&' | '~') {
            set.push('\\');
        }
        set.push(c);
    }
    set.push(']');
    Some((set, &inside[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_those_of_a_shell() {
        let is = |pattern: &str, name: &str| glob(pattern).unwrap().is_match(name);
        assert!(is("*.c", "a.c") && !is("*.c", "d/a.c") && !is("*.c", "a.cc"));
        assert!(is("**/*.c", "a.c") && is("**/*.c", "x/y/a.c"));
        assert!(is("src/**", "src/x/y") && !is("src/**", "srcx"));
        assert!(is("a[0-9]?", "a1x") && !is("a[!0-9]?", "a1x"));
        assert!(is("[a!]", "!") && !is("[!a]", "/") && is("[[]x[]]", "[x]"));
        assert!(is("[^&&~]", "a") && !is("[^&&~]", "&") && is("a[b", "a[b"));
    }

    #[test]
    fn without_patterns_nothing_is_named() {
        assert!(!Sources::new(&[]).unwrap().are_named());
        let named = Sources::new(&["*.h".to_owned()]).unwrap();
        assert!(named.are_named() && named.names("a.h") && !named.names("a.c"));
    }
}
