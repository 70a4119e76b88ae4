//! What a `config.log` of autoconf says of one question that a configure script asked itself.

use serde::Serialize;

/// Lines of a section that are told.
const MANY: usize = 60;

/// What was noted between a question and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The log.
    pub path: String,
    /// The line of the script that asked.
    pub asked_at: Option<u32>,
    /// The question, such as `checking for unistd.h`.
    pub question: String,
    /// The answer, such as `yes`.
    pub result: Option<String>,
    /// Commands, what they printed and how they ended, as the log has them.
    pub lines: Vec<String>,
}

/// The last section whose question is about one of some words.
pub(super) fn about(path: &str, text: &str, words: &[String]) -> Option<Section> {
    let mut found: Option<Section> = None;
    let mut open = false;
    for line in text.lines() {
        let told = said(line);
        let question = told.filter(|(_, rest)| rest.starts_with("checking "));
        if let Some((asked_at, question)) = question {
            open = words.iter().any(|word| mentions(question, word));
            if open {
                found = Some(Section {
                    path: path.to_owned(),
                    asked_at,
                    question: question.to_owned(),
                    result: None,
                    lines: Vec::new(),
                });
            }
            continue;
        }
        let Some(section) = found.as_mut().filter(|_| open) else {
            continue;
        };
        if let Some((_, result)) = told.filter(|(_, rest)| rest.starts_with("result: ")) {
            section.result = result.strip_prefix("result: ").map(str::to_owned);
            open = false;
        } else if section.lines.len() < MANY {
            section.lines.push(line.to_owned());
        }
    }
    found
}

/// `configure:3456: checking for gcc`: the line of the script, and what it said.
fn said(line: &str) -> Option<(Option<u32>, &str)> {
    let (script, rest) = line.split_once(':')?;
    let (at, rest) = rest.split_once(": ")?;
    let is_script = !script.is_empty() && !script.contains(' ');
    is_script.then(|| (at.parse().ok(), rest))
}

/// Whether a text has a word, not as a part of a longer one.
pub(super) fn mentions(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        // `odd` is not what `sys/odd.h` is about.
        let in_path = before == Some('/') || text[at + word.len()..].starts_with(".h");
        !before.is_some_and(is_part) && !after.is_some_and(is_part) && !in_path
    })
}

/// What a symbol stands for: itself, and the header, function or type in `HAVE_...`.
pub(super) fn words(symbol: &str) -> Vec<String> {
    let mut words = vec![symbol.to_owned()];
    let stem = symbol.strip_prefix("HAVE_");
    let stem = stem.map(|stem| stem.strip_prefix("DECL_").unwrap_or(stem));
    if let Some(stem) = stem {
        words.push(stem.to_owned());
        let small = stem.to_lowercase();
        if let Some(stem) = small.strip_suffix("_h") {
            let slashes = stem.matches('_').count();
            // `sys/time.h`, `linux/sched_x.h`: any of the lines below may once have been a slash.
            for n in 0..=slashes {
                words.push(format!("{}.h", stem.replacen('_', "/", n)));
            }
        }
        words.push(small);
    } else if let Some(stem) = symbol.strip_prefix("SIZEOF_") {
        words.push(stem.to_lowercase().replace('_', " "));
        words.push(stem.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "configure:10: checking for gcc\nconfigure:11: result: gcc\n\
        configure:20: checking for sys/odd.h\nconfigure:20: gcc -c conftest.c >&5\n\
        conftest.c:9:10: fatal error: sys/odd.h: No such file\nconfigure:20: $? = 1\n\
        configure: failed program was:\n| #include <sys/odd.h>\nconfigure:20: result: no\n\
        configure:30: checking for oddity\nconfigure:30: result: yes\n";

    #[test]
    fn the_section_of_a_symbol_is_found() {
        let of = |symbol| about("config.log", LOG, &words(symbol));
        let odd = of("HAVE_SYS_ODD_H").unwrap();
        assert_eq!(
            (odd.asked_at, odd.result.as_deref()),
            (Some(20), Some("no"))
        );
        assert_eq!(odd.question, "checking for sys/odd.h");
        assert!(
            odd.lines.iter().any(|line| line.contains("fatal error")),
            "{odd:?}"
        );
        assert!(
            odd.lines.contains(&"configure:20: $? = 1".to_owned()),
            "{odd:?}"
        );
        assert_eq!(of("HAVE_ODD"), None);
        assert_eq!(of("HAVE_ODDITY").unwrap().result.as_deref(), Some("yes"));
    }
}
