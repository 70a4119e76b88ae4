//! Names that are different in each run, made equal: those of mkstemp(3) and the like.

/// Patterns of what begins and ends with a word: `?` stands for a letter, a digit or `_`, `#` for a number.
pub struct Temporary(pub &'static [&'static str]);

impl Temporary {
    /// The text with the pattern in place of everything that fits one.
    pub fn same(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        let mut inside = false;
        while let Some(next) = rest.chars().next() {
            let found = self
                .0
                .iter()
                .find_map(|pattern| Some((pattern, fits(rest, pattern)?)));
            if let (Some((pattern, len)), false) = (found, inside) {
                out.push_str(pattern);
                rest = &rest[len..];
                inside = true;
                continue;
            }
            inside = is_word(next);
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
        out
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The length of what fits the pattern and is followed by no word.
fn fits(text: &str, pattern: &str) -> Option<usize> {
    let mut rest = text;
    for want in pattern.chars() {
        let len = match want {
            '#' => rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
            '?' => usize::from(rest.starts_with(is_word)),
            _ => usize::from(rest.starts_with(want)),
        };
        if len == 0 {
            return None;
        }
        rest = &rest[len..];
    }
    (!rest.starts_with(is_word)).then_some(text.len() - rest.len())
}

/// Whether a name looks as if nobody had chosen it: six or more characters with capitals and digits in
/// odd places.
pub fn is_random(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().as_bytes();
    let odd = |w: &[u8]| {
        let after_digit = w[0].is_ascii_digit() && w[1].is_ascii_alphabetic();
        after_digit || (w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
    };
    let mut runs = name.split(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    runs.any(|run| run.len() >= 6 && run.windows(2).any(odd))
}

#[test]
fn only_whole_words_are_made_equal() {
    let names = Temporary(&["cc??????", "conf#", "a-???"]);
    assert_eq!(
        names.same("/tmp/ccA1b2C3.s conf77.exe"),
        "/tmp/cc??????.s conf#.exe"
    );
    assert_eq!(names.same("/a-123/a-1 conf7a"), "/a-???/a-1 conf7a");
    assert_eq!(names.same("xccA1b2C3 conf conf7a"), "xccA1b2C3 conf conf7a");
}
