//! What strace(1) saw: its log as calls with their arguments. Knows no call's meaning.

use std::collections::HashMap;

/// Calls that name files, look at named files through descriptors, or make processes.
pub const TRACED: &str = "trace=%file,?getdents,?getdents64,fchdir,fstat,?newfstatat,?clone,?clone3,\
    ?fork,?vfork,fchmod,fchown,ftruncate,fallocate,fsetxattr,fremovexattr,connect,bind";

/// The options, in front of the command; the log is written to `log`.
pub fn options(log: &str) -> Vec<String> {
    let words = ["strace", "-f", "-y", "-qq", "-s", "9000", "-e", TRACED];
    let more = ["-e", "signal=none", "--seccomp-bpf", "-o", log];
    words.iter().chain(&more).map(|w| (*w).to_owned()).collect()
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub tid: i32,
    pub name: String,
    pub args: Vec<String>,
    /// What it returned, or the name of the error.
    pub result: Result<i64, String>,
    /// The line, for messages.
    pub line: String,
}

/// A call begins or ends. What nobody interrupts begins and ends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Begin(usize),
    End(usize),
}

/// All calls, and the order in which they began and ended.
#[derive(Debug, Default)]
pub struct Log {
    pub calls: Vec<Call>,
    pub moments: Vec<Moment>,
}

impl Log {
    pub fn read(text: &str) -> Self {
        let mut log = Self::default();
        // What each thread has begun: the text so far and the place in `moments`.
        let mut begun: HashMap<i32, (String, usize)> = HashMap::new();
        for line in text.lines() {
            let (tid, rest) = line
                .trim_start()
                .split_once(' ')
                .unwrap_or_else(|| panic!("strace says: {line}"));
            let tid: i32 = tid
                .parse()
                .unwrap_or_else(|_| panic!("strace says: {line}"));
            let rest = rest.trim_start();
            if rest.starts_with("+++") || rest.starts_with("---") || rest.starts_with("strace: [") {
                continue;
            }
            if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(tid, (start.to_owned(), log.moments.len()));
                log.moments.push(Moment::Begin(usize::MAX));
                continue;
            }
            let (text, at) = match rest.strip_prefix("<... ") {
                Some(end) => {
                    let (name, end) = end.split_once(" resumed>").unwrap();
                    // After an exec by another thread than the first the id is the first one's.
                    let by_thread = begun.iter().find(|(_, (text, _))| {
                        name.starts_with("execve") && text.starts_with(name)
                    });
                    let other = by_thread.map_or(tid, |(tid, _)| *tid);
                    let begun_by = if begun.contains_key(&tid) { tid } else { other };
                    let (start, at) = begun.remove(&begun_by).unwrap();
                    (start + end, Some(at))
                }
                None => (rest.to_owned(), None),
            };
            let index = log.calls.len();
            match at {
                Some(at) => log.moments[at] = Moment::Begin(index),
                None => log.moments.push(Moment::Begin(index)),
            }
            log.moments.push(Moment::End(index));
            log.calls.push(Call::parse(tid, &text));
        }
        log.moments
            .retain(|moment| *moment != Moment::Begin(usize::MAX));
        log
    }
}

impl Call {
    fn parse(tid: i32, text: &str) -> Self {
        let (name, rest) = text
            .split_once('(')
            .unwrap_or_else(|| panic!("no call: {text}"));
        let (args, end) = arguments(rest);
        let result = rest[end..]
            .split_once("= ")
            .map_or("?", |(_, result)| result);
        let word = result.split([' ', '<', '(']).next().unwrap_or_default();
        let result = match word {
            "-1" => Err(result.split(' ').nth(1).unwrap_or_default().to_owned()),
            "?" => Err("?".to_owned()),
            _ => Ok(number(word).unwrap_or_else(|| panic!("no result: {text}"))),
        };
        Self {
            tid,
            name: name.to_owned(),
            args,
            result,
            line: format!("{tid} {text}"),
        }
    }

    /// Argument `n` as a string; none for a null pointer or one that could not be read.
    pub fn text(&self, n: usize) -> Option<String> {
        let arg = self.args.get(n)?;
        arg.starts_with('"').then(|| self.unquote(arg))
    }

    /// The strings of argument `n`, an array.
    pub fn texts(&self, n: usize) -> Vec<String> {
        let Some(arg) = self.args.get(n).and_then(|arg| arg.strip_prefix('[')) else {
            return Vec::new();
        };
        let (items, _) = arguments(arg);
        items.iter().map(|item| self.unquote(item)).collect()
    }

    /// The path of the file that descriptor argument `n` refers to.
    pub fn fd_path(&self, n: usize) -> Option<String> {
        let (_, rest) = self.args.get(n)?.split_once('<')?;
        let (path, _) = rest.rsplit_once('>')?;
        path.starts_with('/').then(|| unescape(path))
    }

    /// Whether descriptor argument `n` is a standard one: what it is open on was given to the program, and
    /// is not looked at by asking for its size.
    pub fn is_standard(&self, n: usize) -> bool {
        self.args
            .get(n)
            .is_some_and(|arg| ["0<", "1<", "2<"].iter().any(|fd| arg.starts_with(fd)))
    }

    /// Whether argument `n` holds a flag.
    pub fn has(&self, n: usize, flag: &str) -> bool {
        let words = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        self.args
            .get(n)
            .is_some_and(|arg| arg.split(words).any(|word| word == flag))
    }

    fn unquote(&self, arg: &str) -> String {
        let end = arg.rfind('"').unwrap_or(0);
        let open = arg.find('"').unwrap_or(0);
        assert!(
            open < end || arg == "...",
            "no string: {arg} in {}",
            self.line
        );
        unescape(arg.get(open + 1..end).unwrap_or_default())
    }
}

fn number(word: &str) -> Option<i64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|n| n as i64),
        None => word.parse().ok(),
    }
}

/// Splits at the commas outside of strings and brackets, up to the bracket that closes. Gives where that is.
fn arguments(text: &str) -> (Vec<String>, usize) {
    let bytes = text.as_bytes();
    let (mut args, mut start, mut depth, mut at) = (Vec::new(), 0, 0_i32, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            // The name of a descriptor's file.
            b'<' if at > 0 && (bytes[at - 1].is_ascii_digit() || bytes[at - 1] == b'D') => {
                while at < bytes.len() && bytes[at] != b'>' {
                    at += 1;
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => break,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                args.push(text[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let end = at.min(bytes.len());
    if !text[start..end].trim().is_empty() {
        args.push(text[start..end].trim().to_owned());
    }
    (args, end)
}

/// Undoes the escapes of C; bytes that are no UTF-8 are escaped as a record's names are.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let digits = rest
            .iter()
            .take(3)
            .take_while(|b| (b'0'..=b'7').contains(b))
            .count();
        if digits > 0 {
            let value = rest[..digits]
                .iter()
                .fold(0_u32, |v, b| v * 8 + u32::from(b - b'0'));
            bytes.push(value as u8);
            rest = &rest[digits..];
            continue;
        }
        let [letter, tail @ ..] = rest else { break };
        rest = tail;
        bytes.push(match letter {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 11,
            b'f' => 12,
            other => *other,
        });
    }
    String::from_utf8(bytes).unwrap_or_else(|e| e.into_bytes().escape_ascii().to_string())
}

#[test]
fn calls_are_read() {
    let log = Log::read(
        "7 openat(AT_FDCWD</w>, \"a, \\\"b\\\\\", O_RDONLY|O_CLOEXEC <unfinished ...>\n\
         8 execve(\"/bin/x\", [\"x\", \"-c\", \"(\"], 0x7ff /* 3 vars */) = 0\n\
         7 <... openat resumed>)   = 3</w/a, \"b\\>\n\
         7 newfstatat(3</w/a>, \"\", {st_mode=S_IFREG|0644, ...}, AT_EMPTY_PATH) = 0\n\
         8 access(\"/no\", R_OK) = -1 ENOENT (No such file or directory)\n\
         8 +++ exited with 0 +++\n",
    );
    use Moment::{Begin, End};
    assert_eq!(
        log.moments,
        [
            Begin(1),
            Begin(0),
            End(0),
            End(1),
            Begin(2),
            End(2),
            Begin(3),
            End(3)
        ]
    );
    let open = &log.calls[1];
    assert_eq!(open.fd_path(0).as_deref(), Some("/w"));
    assert_eq!(open.text(1).as_deref(), Some("a, \"b\\"));
    assert!(open.has(2, "O_CLOEXEC") && !open.has(2, "O_CLO"));
    assert_eq!(open.result, Ok(3));
    assert_eq!(log.calls[0].texts(1), ["x", "-c", "("]);
    assert_eq!(log.calls[2].fd_path(0).as_deref(), Some("/w/a"));
    assert_eq!(log.calls[3].result, Err("ENOENT".to_owned()));
}
