//! Names with holes: patterns that recognise targets, and templates that make names and commands.
//!
//! `{stem}` matches within one directory, `{stem:REGEX}` what the expression says, `{stem*:REGEX}` is a
//! star stem: it varies within one job. `{{` and `}}` stand for braces. Knows nothing of rules.

use regex::Regex;
use std::collections::BTreeMap;

/// The values of the stems of one job, by name.
pub type Stems = BTreeMap<String, String>;

/// What a stem matches that says nothing itself.
const WITHIN_ONE_DIRECTORY: &str = "[^/]+";

/// One piece of a text with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole {
        name: String,
        star: bool,
        regex: Option<String>,
    },
}

/// Cuts a text at its holes.
fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    let mut n_unnamed = 0;
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                plain.push(c);
            }
            '}' => {
                return Err(format!(
                    "`}}` without `{{` in {text:?}: write `}}}}` for a brace"
                ));
            }
            '{' => {
                let mut inner = String::new();
                let mut depth = 1;
                for c in rest.by_ref() {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    if depth == 0 {
                        break;
                    }
                    inner.push(c);
                }
                if depth != 0 {
                    return Err(format!(
                        "`{{` is never closed in {text:?}: write `{{{{` for a brace"
                    ));
                }
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(hole(&inner, text, &mut n_unnamed)?);
            }
            c => plain.push(c),
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

fn hole(inner: &str, text: &str, n_unnamed: &mut u32) -> Result<Part, String> {
    let (name, regex) = match inner.split_once(':') {
        Some((name, regex)) => (name, Some(regex.to_owned())),
        None => (inner, None),
    };
    let (name, star) = match name.strip_suffix('*') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut name = name.to_owned();
    if name.is_empty() && star {
        name = format!("*{n_unnamed}");
        *n_unnamed += 1;
    } else if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "{name:?} is no name for a stem in {text:?}: letters, digits and `_` are; \
             write `{{{{` for a brace"
        ));
    }
    Ok(Part::Hole { name, star, regex })
}

/// Recognises the names of a target.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
    regex: Regex,
    /// The stem of each group of the expression.
    groups: Vec<String>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn new(text: &str) -> Result<Self, String> {
        let parts = parse(text)?;
        if text.is_empty() || text.starts_with('/') {
            return Err(format!("{text:?} must be a name relative to the workspace"));
        }
        let (regex, groups) = expression(&parts, &Stems::new());
        let regex = Regex::new(&regex).map_err(|error| format!("in {text:?}: {error}"))?;
        if regex.captures_len() != groups.len() + 1 {
            return Err(format!(
                "groups in {text:?} must not capture: write `(?:...)`"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
            regex,
            groups,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The regular expression of the names that it recognises.
    #[must_use]
    pub fn expression(&self) -> &str {
        self.regex.as_str()
    }

    /// The one name that it recognises, where it has no stems.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        self.groups.is_empty().then(|| self.name(&Stems::new()))
    }

    /// Whether it has star stems.
    #[must_use]
    pub fn is_star(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Hole { star: true, .. }))
    }

    /// The directory that all names of it lie in.
    #[must_use]
    pub fn dir(&self) -> Option<&str> {
        let Some(Part::Text(text)) = self.parts.first() else {
            return None;
        };
        text.rsplit_once('/').map(|(dir, _)| dir)
    }

    /// Names of its stems that are no star stems.
    pub fn stems(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole {
                name, star: false, ..
            } => Some(name.as_str()),
            Part::Hole { .. } | Part::Text(_) => None,
        })
    }

    /// The values of the stems, star stems left out, if `name` is recognised. A stem that occurs twice has
    /// one value.
    #[must_use]
    pub fn recognise(&self, name: &str) -> Option<Stems> {
        let captures = self.regex.captures(name)?;
        let mut all = Stems::new();
        for (index, stem) in self.groups.iter().enumerate() {
            let value = captures.get(index + 1).map_or("", |found| found.as_str());
            match all.get(stem) {
                Some(known) if known != value => return None,
                Some(_) => {}
                None => {
                    all.insert(stem.clone(), value.to_owned());
                }
            }
        }
        all.retain(|stem, _| self.stems().any(|fixed| fixed == stem));
        Some(all)
    }

    /// The name of the target, for one that has no star stems.
    #[must_use]
    pub fn name(&self, stems: &Stems) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Hole { name, .. } => stems.get(name).map_or("", String::as_str),
            })
            .collect()
    }

    /// The same pattern with the values of its stems put in; its star stems are left.
    #[must_use]
    pub fn with(&self, stems: &Stems) -> Option<Regex> {
        let (regex, _) = expression(&self.parts, stems);
        Regex::new(&regex).ok()
    }
}

/// The regular expression of a pattern, stems with a value replaced by it, and the stems of its groups.
fn expression(parts: &[Part], known: &Stems) -> (String, Vec<String>) {
    let mut regex = String::from("(?s)^");
    let mut groups: Vec<String> = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => regex.push_str(&regex::escape(text)),
            Part::Hole { name, .. } if known.contains_key(name) => {
                regex.push_str(&regex::escape(&known[name]));
            }
            Part::Hole {
                name, regex: own, ..
            } => {
                let own = own.as_deref().or_else(|| defined(parts, name));
                let own = own.unwrap_or(WITHIN_ONE_DIRECTORY);
                regex.push_str(&format!("({own})"));
                groups.push(name.clone());
            }
        }
    }
    regex.push('$');
    (regex, groups)
}

/// What another hole of the same name says.
fn defined<'a>(parts: &'a [Part], wanted: &str) -> Option<&'a str> {
    parts.iter().find_map(|part| match part {
        Part::Hole {
            name,
            regex: Some(regex),
            ..
        } if name == wanted => Some(regex.as_str()),
        Part::Hole { .. } | Part::Text(_) => None,
    })
}

/// A text with holes to be filled in.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn new(text: &str) -> Result<Self, String> {
        let parts = parse(text)?;
        let told = |part: &Part| matches!(part, Part::Hole { star, regex, .. } if *star || regex.is_some());
        if parts.iter().any(told) {
            return Err(format!("{text:?} is no pattern: a hole is `{{name}}`"));
        }
        let text = text.to_owned();
        Ok(Self { text, parts })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names of its holes.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The name of its hole, if it is nothing else.
    #[must_use]
    pub fn only_hole(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Hole { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// The text with each hole filled by what `value` says.
    pub fn fill(&self, value: impl Fn(&str) -> String) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Hole { name, .. } => value(name),
            })
            .collect()
    }
}

/// A word as a shell reads it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(pairs: &[(&str, &str)]) -> Stems {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn a_pattern_recognises_and_makes_names() {
        let pattern = Pattern::new("obj/{dir:.*}/{name}.o").unwrap();
        let found = pattern.recognise("obj/a/b/c.o").unwrap();
        assert_eq!(found, stems(&[("dir", "a/b"), ("name", "c")]));
        assert_eq!(pattern.name(&found), "obj/a/b/c.o");
        assert!(pattern.recognise("obj/c.o").is_none());
        assert!(pattern.recognise("xobj/a/c.oo").is_none());
    }

    #[test]
    fn a_stem_that_occurs_twice_has_one_value() {
        let pattern = Pattern::new("{a:[a-z]+}-{a}").unwrap();
        assert!(pattern.recognise("xy-xy").is_some());
        assert!(pattern.recognise("xy-xz").is_none());
        let count = Pattern::new("{n:[0-9]{2}}").unwrap();
        assert!(count.recognise("17").is_some() && count.recognise("7").is_none());
    }

    #[test]
    fn star_stems_vary_within_a_job() {
        let pattern = Pattern::new("{tar}.dir/{*:.*}").unwrap();
        assert!(pattern.is_star());
        let job = pattern.recognise("a.dir/x/y").unwrap();
        assert_eq!(job, stems(&[("tar", "a")]));
        let of_job = pattern.with(&job).unwrap();
        assert!(of_job.is_match("a.dir/z") && !of_job.is_match("b.dir/z"));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [
            ("{a", "never closed"),
            ("a}", "without"),
            ("{a b}", "no name"),
            ("{a:(x)}", "must not capture"),
            ("/a", "relative"),
            ("{a:[}", "unclosed"),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!(Pattern::new("a{{b}}").unwrap().name(&Stems::new()), "a{b}");
        assert!(Template::new("{a:x}").is_err());
    }

    #[test]
    fn words_are_quoted_when_they_must_be() {
        assert_eq!(quoted("src/a-b.c"), "src/a-b.c");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
