//! What lines say of a symbol that a configure script decides: lines of the sources that it tries, of what it makes,
//! and of how it was called.

use crate::base::Record;

/// Where autoconf ends what was defined before.
const END: &str = "/* end confdefs.h";
/// What a source defines a symbol as, before its own part.
pub(super) fn value(text: &str, symbol: &str) -> Option<String> {
    let mut lines = text.lines().take_while(|line| !line.starts_with(END));
    lines.find_map(|line| defined(line, symbol))
}

pub(super) fn defined(line: &str, symbol: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start();
    let rest = rest
        .strip_prefix("define ")?
        .trim_start()
        .strip_prefix(symbol)?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim().to_owned())
}

/// Arguments of a script that are about a symbol: `CC=...` of `CC`, `--with-zlib` of `HAVE_ZLIB`.
pub(super) fn given(script: &Record, symbol: &str) -> Vec<String> {
    let stem = |name: &str| {
        let name = name.to_uppercase().replace('-', "_");
        let prefixes = ["ENABLE_", "DISABLE_", "WITHOUT_", "WITH_", "HAVE_", "USE_"];
        let stem = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        stem.map_or(name.clone(), str::to_owned)
    };
    let is_about = |word: &String| match word.strip_prefix("--") {
        Some(option) => {
            let name = option.split('=').next().unwrap_or_default();
            stem(name) == stem(symbol)
        }
        None => word.split_once('=').is_some_and(|(name, _)| name == symbol),
    };
    let words = script.command.argv.iter();
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(is_about).collect()
}

/// A source without what was defined before.
pub(super) fn own(text: &str) -> &str {
    let Some(at) = text.find(END) else {
        return text;
    };
    let rest = &text[at..];
    rest.find('\n').map_or("", |end| &rest[end + 1..])
}

/// Whether a symbol is no name of anything but a flag itself, such as `-pthread`.
pub(super) fn is_flag(symbol: &str) -> bool {
    symbol.starts_with('-')
}

/// What a line of something that a script made says of a symbol.
pub(super) fn told(line: &str, symbol: &str) -> Option<String> {
    if let Some(value) = defined(line, symbol) {
        return Some(value);
    }
    for array in ["D", "S"] {
        if let Some(rest) = line.strip_prefix(&format!("{array}[\"{symbol}\"]=\"")) {
            return Some(rest.trim_end_matches('"').trim().to_owned());
        }
    }
    if is_flag(symbol) {
        let (_, value) = line.split_once('=')?;
        let mut words = value.split([' ', '\t', '"', '\'']);
        return words.any(|word| word == symbol).then(|| symbol.to_owned());
    }
    let rest = line.strip_prefix(symbol)?.trim_start();
    rest.strip_prefix('=').map(|value| value.trim().to_owned())
}

/// Whether a line is about a symbol: also that it was not defined.
pub(super) fn is_about(line: &str, symbol: &str) -> bool {
    let undefined = line.trim_start().trim_start_matches("/*").trim_start();
    let undefined = undefined.strip_prefix("#undef ").map(str::trim_start);
    told(line, symbol).is_some()
        || undefined.is_some_and(|rest| rest.split(' ').next() == Some(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/* confdefs.h */\n#define HAVE_A 1\n#define HAVE_AB\n\
                          /* end confdefs.h.  */\n#define HAVE_C 1\nint main(void) { a(); }\n";

    #[test]
    fn only_what_was_defined_before_counts() {
        assert_eq!(value(SOURCE, "HAVE_A").as_deref(), Some("1"));
        assert_eq!(value(SOURCE, "HAVE_AB").as_deref(), Some(""));
        assert_eq!(value(SOURCE, "HAVE_C"), None);
        assert!(own(SOURCE).starts_with("#define HAVE_C 1\n"));
    }

    #[test]
    fn what_a_script_was_called_with_is_told() {
        let words = [
            "./configure",
            "--disable-nls",
            "--with-zlib=/opt",
            "CC=tcc",
            "--prefix=/usr",
        ];
        let mut script = Record::default();
        script.command.argv = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(given(&script, "ENABLE_NLS"), ["--disable-nls"]);
        assert_eq!(given(&script, "HAVE_ZLIB"), ["--with-zlib=/opt"]);
        assert_eq!(given(&script, "CC"), ["CC=tcc"]);
        assert_eq!(given(&script, "CCLD"), [""; 0]);
    }

    #[test]
    fn lines_of_what_was_made_are_read() {
        assert_eq!(told("D[\"HAVE_A\"]=\" 1\"", "HAVE_A").as_deref(), Some("1"));
        assert_eq!(
            told("S[\"LIBS\"]=\"-lm -lz\"", "LIBS").as_deref(),
            Some("-lm -lz")
        );
        assert_eq!(told("CC = gcc", "CC").as_deref(), Some("gcc"));
        assert_eq!(told("CCLD = gcc", "CC"), None);
        let flags = "PTHREAD_CFLAGS = -g -pthread";
        assert_eq!(told(flags, "-pthread").as_deref(), Some("-pthread"));
        assert_eq!(told(flags, "-pth"), None);
        assert_eq!(told("# define  HAVE_A 2", "HAVE_A").as_deref(), Some("2"));
        assert!(is_about("/* #undef HAVE_A */", "HAVE_A"));
        assert!(!is_about("/* #undef HAVE_AB */", "HAVE_A"));
    }
}
