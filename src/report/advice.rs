//! What a refusal is called, and what can be done so that the step is served after all. Knows the texts of the
//! rooms that refuse, by a part of each; one that it does not know is `other`.

/// A kind of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// Its name, for programs: lower case, with hyphens.
    pub kind: &'static str,
    /// What can be done, for people; a sentence without its stop.
    pub advice: &'static str,
}

/// A part of the text, the kind, what can be done. The first that fits counts.
const KNOWN: [(&str, &str, &str); 40] = [
    ("is never served", "never", NEVER),
    ("uses the network", "network", NETWORK),
    ("uses a socket of family", "network", NETWORK),
    ("reads its standard input", "pipe", PIPE),
    ("socket", "socket", SOCKET),
    ("opens the fifo", "socket", SOCKET),
    ("reads the terminal", "terminal", TERMINAL),
    ("nobody read any more", "broken-pipe", BROKEN),
    ("leaves process", "background", BACKGROUND),
    ("with children", "background", BACKGROUND),
    ("came from nowhere", "background", BACKGROUND),
    ("was killed", "killed", KILLED),
    ("process were killed", "killed", KILLED),
    ("sends signal", "signal", SIGNAL),
    ("while it was", "changed", CHANGED),
    ("while they were used", "changed", CHANGED),
    ("something unseen", "changed", CHANGED),
    ("removed by others", "changed", CHANGED),
    ("may have been replaced", "changed", CHANGED),
    ("by another build", "changed", CHANGED),
    ("descriptor", "descriptor", DESCRIPTOR),
    ("has no name", "descriptor", DESCRIPTOR),
    ("extended attributes", "attributes", ATTRIBUTES),
    ("as another user", "privilege", PRIVILEGE),
    ("set-user-ID", "privilege", PRIVILEGE),
    ("System V", "ipc", IPC),
    ("message queue", "ipc", IPC),
    ("kernel keys", "ipc", IPC),
    ("namespace", "machine", MACHINE),
    ("changes mounts", "machine", MACHINE),
    ("administers", "machine", MACHINE),
    ("device", "device", DEVICE),
    ("more than 64 MiB", "output", OUTPUT),
    ("output", "output", OUTPUT),
    ("disk", "disk", DISK),
    ("cannot be read", "unreadable", UNREADABLE),
    ("names", "links", LINKS),
    ("the clock", "clock", CLOCK),
    ("random", "clock", CLOCK),
    ("no cache", "cache", CACHE),
];

const NEVER: &str =
    "`never` in [tools] of rfs.toml names this program; take it out if it may be served";
const NETWORK: &str = "fetch in a command of its own before the build, and build from the files";
const SOCKET: &str =
    "start server and client from one script: the step around both of them is a step like others";
const TERMINAL: &str = "give it its answers in a file or by options (`</dev/null`)";
const PIPE: &str =
    "let it read a file: what comes through a pipe from outside is not known before it runs";
const BROKEN: &str = "read to the end (`sed -n 1p` for `head -n 1`) where the step is dear";
const BACKGROUND: &str = "end it before the step ends, or start it outside of the build";
const KILLED: &str = "see why it was killed: what a signal ended is chance and never served";
const SIGNAL: &str =
    "let both processes be of one step, such as a script that starts and ends the other";
const CHANGED: &str = "let nothing else write there meanwhile: another step of a parallel build (`rfs lint` tells races), an editor, another build";
const DESCRIPTOR: &str = "give it a file by name instead of an inherited descriptor";
const ATTRIBUTES: &str =
    "do without extended attributes in the tree (`cp` without `-a`, `tar --no-xattrs`)";
const PRIVILEGE: &str = "do what needs another user outside of the build";
const IPC: &str = "let the step that makes the object remove it, so that it is its own";
const MACHINE: &str = "set up namespaces and mounts around `rfs build`, not inside";
const DEVICE: &str = "use files in the place of devices";
const OUTPUT: &str = "write it to a file of the tree";
const DISK: &str = "make room on the disk";
const UNREADABLE: &str = "make the file readable for the one who builds";
const LINKS: &str = "make files with one name each";
const CLOCK: &str =
    "do without --strict-clock, or set SOURCE_DATE_EPOCH and leave the time out of the output";
const CACHE: &str = "`rfs doctor` tells why the cache cannot be had";
const OTHER: &str = "doc/semantics.md tells what cannot be served, and why";

/// What is to be said of a refusal with this reason.
#[must_use]
pub fn of(reason: &str) -> Advice {
    let known = KNOWN.iter().find(|(part, ..)| reason.contains(part));
    known.map_or(
        Advice {
            kind: "other",
            advice: OTHER,
        },
        |(_, kind, advice)| Advice { kind, advice },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (reason, kind) in [
            ("uses the network (127.0.0.1:80)", "network"),
            ("talks to the socket /run/x", "socket"),
            ("reads its standard input, a socket", "pipe"),
            ("reads its standard input, a pipe", "pipe"),
            ("./never is never served", "never"),
            ("leaves process 12 running", "background"),
            ("a.o changed while it was used", "changed"),
            ("exits with 137, as if a process were killed", "killed"),
            ("its output a cannot be read: x", "output"),
            ("something that nobody has thought of", "other"),
        ] {
            assert_eq!(of(reason).kind, kind, "{reason}");
        }
    }

    #[test]
    fn every_kind_has_one_advice() {
        for (part, kind, advice) in KNOWN {
            assert_eq!(of(part).kind, kind, "{part} is hidden by one before it");
            let same = KNOWN.iter().filter(|(_, other, _)| *other == kind);
            assert!(same.into_iter().all(|(.., other)| *other == advice));
            assert!(!advice.ends_with('.'));
        }
    }
}
