//! Who writes: the disk room alone, so that a test can make every write fail.
//!
//! Looks for the calls by which something is opened for writing, made, changed or removed; goes by their names.

use crate::source::{Offence, Source, words};

/// Functions that no room but the disk calls. What has the same name as a verb of the disk is called as a method
/// there, and here by its path.
const FUNCTIONS: [&str; 32] = [
    "DirBuilder",
    "File::create",
    "File::create_new",
    "chown",
    "copy_file_range",
    "create_dir",
    "create_dir_all",
    "fallocate",
    "fchmodat",
    "fchown",
    "fchownat",
    "fs::copy",
    "fs::rename",
    "fs::write",
    "ftruncate",
    "hard_link",
    "ioctl_ficlone",
    "lchown",
    "linkat",
    "mkdirat",
    "mkdtemp",
    "mkfifo",
    "mkfifoat",
    "mknodat",
    "mkstemp",
    "remove_dir",
    "remove_dir_all",
    "remove_file",
    "renameat",
    "renameat_with",
    "symlinkat",
    "unlinkat",
];

/// What makes a file that is opened one to be written, or changes one that is open.
const METHODS: [&str; 9] = [
    ".append(true)",
    ".create(true)",
    ".create_new(true)",
    ".set_modified(",
    ".set_permissions(",
    ".set_times(",
    ".truncate(true)",
    ".write(true)",
    ".write_all_at(",
];

/// Files that write past the disk, and why they may.
const EXCEPTIONS: [(&str, &str); 7] = [
    (
        "src/cli/machine.rs",
        "opens /dev/fuse to see whether it may",
    ),
    (
        "src/cli/doctor.rs",
        "the directory of its own in which a trial is made has no name before",
    ),
    (
        "src/cli/reproduce.rs",
        "opens /dev/null for who inherits it",
    ),
    (
        "src/cli/summary_file.rs",
        "writes to a fifo or a device that the user named; files go through the disk",
    ),
    (
        "src/mount/talk.rs",
        "the name of a socket, which bind(2) makes, and what lies beside it: nothing outlives its daemon",
    ),
    (
        "src/runner/jobserver.rs",
        "a fifo in a directory of its own, which no build outlives",
    ),
    (
        "src/runner/replica.rs",
        "a tree in memory, in a namespace of its own, that is gone with its process",
    ),
];

const REMEDY: &str = "let the trait Disk do it (src/disk), so that the sweeps of faults reach it; what nobody \
                      would miss is listed in EXCEPTIONS of tests/tidy/writes.rs, with the reason";

/// Whatever in the tree writes past the disk, and exceptions that nobody needs.
pub(crate) fn check_writes(tree: &[Source]) -> Vec<Offence> {
    let tests: Vec<String> = tree.iter().flat_map(test_modules).collect();
    let mut offences = Vec::new();
    for source in tree {
        let ours = source.path.starts_with("src/") && source.is_rust() && !source.is_test();
        let is_test = tests.iter().any(|stem| {
            let rest = source.path.strip_prefix(stem.as_str());
            rest.is_some_and(|rest| rest.starts_with(['.', '/']))
        });
        if !ours || is_test || source.room() == Some("disk") {
            continue;
        }
        let found = found(source);
        if EXCEPTIONS.iter().any(|(path, _)| *path == source.path) {
            if found.is_empty() {
                let remedy = "take it from EXCEPTIONS of tests/tidy/writes.rs";
                offences.push(source.offence(0, "writes nothing past the disk".into(), remedy));
            }
            continue;
        }
        let found = found.into_iter();
        offences.extend(found.map(|(at, call)| {
            let call = call.trim_matches(['.', '(']);
            source.offence(at, format!("{call} writes past the disk"), REMEDY)
        }));
    }
    offences
}

fn found(source: &Source) -> Vec<(usize, &'static str)> {
    // The tests of a file are its end.
    let end = source.code.find("\nmod tests {");
    let code = &source.code[..end.unwrap_or(source.code.len())];
    let mut all: Vec<_> = METHODS
        .iter()
        .flat_map(|call| code.match_indices(call).map(|(at, _)| (at, *call)))
        .collect();
    for call in FUNCTIONS {
        let is_function = |at: &usize| {
            let before = code[..*at].trim_end();
            !before.ends_with('.') && !before.ends_with("fn")
        };
        all.extend(words(code, call).filter(is_function).map(|at| (at, call)));
    }
    // A verb of the disk, and a method of a file.
    let of_a_file = |at: &usize| !code[..*at].to_lowercase().ends_with("disk.");
    all.extend(
        words(code, "set_len")
            .filter(of_a_file)
            .map(|at| (at, "set_len")),
    );
    all
}

/// Files, without their ends, that a file declares to be there for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let dir = match source.path.strip_suffix("/mod.rs") {
        Some(dir) => dir,
        None => source.path.trim_end_matches(".rs"),
    };
    let declared = source.code.split("#[cfg(test)]").skip(1);
    let names = declared.filter_map(|rest| {
        let (head, _) = rest.split_once([';', '{'])?;
        let is_file = rest[head.len()..].starts_with(';');
        let name = head.trim().strip_prefix("mod ").filter(|_| is_file)?;
        Some(format!("{dir}/{name}"))
    });
    names.collect()
}

#[test]
fn whoever_writes_past_the_disk_is_found() {
    let found = |path: &str, text: &str| {
        let tree = [
            Source::new("src/base/mod.rs", "#[cfg(test)]\nmod forged;\n"),
            Source::new(path, text),
        ];
        let lines = check_writes(&tree).into_iter();
        lines.map(|o| o.what).collect::<Vec<_>>()
    };
    for text in [
        "std::fs::write(path, text)?;",
        "fs::create_dir_all(dir)?;",
        "File::options().create(true).open(path)",
        "OpenOptions::new().read(true).write(true)",
        "std::os::unix::fs::fchown(&file, None, None)",
        "file.set_len(0)?;",
        "use nix::unistd::mkfifo;",
        "self.file.write_all_at(&bytes, 0)",
    ] {
        assert_eq!(found("src/base/a.rs", text).len(), 1, "{text}");
        for path in [
            "src/disk/mod.rs",
            "src/base/forged.rs",
            "src/base/forged/a.rs",
        ] {
            assert_eq!(found(path, text), [""; 0], "{text} in {path}");
        }
        let tests = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}\n");
        assert_eq!(found("src/base/a.rs", &tests), [""; 0], "{text} in tests");
    }
    for text in [
        "disk.fchown(&file, path, 0, 0)?; disk.mkfifo(path, 0o600)?;",
        "self.disk.set_len(&file, path, 0)?; RealDisk.set_len(&file, path, 0)?;",
        "let rename = |to| disk.rename(from, to);",
    ] {
        assert_eq!(found("src/base/a.rs", text), [""; 0], "{text}");
    }
    let idle = found("src/mount/talk.rs", "fn f() {}");
    assert_eq!(idle, ["writes nothing past the disk"]);
}
