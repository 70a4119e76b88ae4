//! The fast path alone: that it is taken, and what becomes of notes that cannot be relied on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Case;
use crate::host::observe;

pub const ALL: &[Case] = &[
    ("full", full),
    ("changed_since", changed_since),
    ("places", places),
    ("wrong_pointers", wrong_pointers),
    ("handler", handler),
    ("scribbled", scribbled),
    ("forked", forked),
    ("killed_after_looks", killed_after_looks),
    ("waits_pass", waits_pass),
    ("cancelled", cancelled),
    ("invisible", invisible),
    ("not_for_the_listing", not_for_the_listing),
    ("own_list_of_libraries", own_list_of_libraries),
];

fn nothing(_: &Path) {}

fn actor(part: &str) -> String {
    format!("exec \"$SELF\" actor {part}")
}

/// More notes than there is room for.
fn full(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("many")]);
    assert_eq!(seen.status, 0);
    seen.expect_not("taint");
    for n in 0..3000 {
        let walk = format!("stat Walk {{ path: \"many-{n}\", links: [], end: Absent }}");
        assert!(seen.count(&walk) >= 1, "{n}");
    }
    // Those that found no room have stopped.
    assert!((2000..3000).contains(&seen.noted), "{}", seen.noted);
}

/// A file is not what the process saw when the note is read.
fn changed_since(backend: &str) {
    let furnish = |dir: &Path| fs::write(dir.join("f"), "").unwrap();
    let seen = observe(backend, furnish, &["sh", "-c", &actor("changed")]);
    assert_eq!(seen.status, 0);
    seen.expect(&["stat Walk { path: \"f\"", "differs \"f\""]);
}

/// A relative path is one of the directory that the process was in.
fn places(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("places")]);
    assert_eq!(seen.status, 0);
    seen.expect_not("taint").expect_not("differs");
    seen.expect(&[
        "stat Walk { path: \"a/x\", links: [], end: Absent }",
        "stat Walk { path: \"a/nowhere\", links: [], end: Absent }",
        "stat Walk { path: \"b/x\", links: [], end: Found(File) }",
        "stat Walk { path: \"b/nowhere\", links: [], end: Absent }",
        "stat Walk { path: \"a/x\", links: [], end: Absent }",
        "stat Walk { path: \"a/nowhere\", links: [], end: Absent }",
    ]);
    assert!(seen.noted >= 14, "{}", seen.noted);
}

/// What the kernel answers with EFAULT the library does, too.
fn wrong_pointers(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("wrong-pointers")]);
    assert_eq!(seen.status, 0);
}

/// Signals interrupt looks by looks.
fn handler(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("handler")]);
    assert_eq!(seen.status, 0);
    seen.expect_not("taint");
    for n in 0..5000 {
        assert!(
            seen.count(&format!("stat Walk {{ path: \"many-{n}\"")) >= 1,
            "{n}"
        );
    }
    assert!(seen.count("access Walk { path: \"in-handler") > 0);
}

/// A process writes over its notes.
fn scribbled(backend: &str) {
    for part in ["scribble-tail", "scribble-ring"] {
        let seen = observe(backend, nothing, &["sh", "-c", &actor(part)]);
        assert_eq!(seen.status, 0);
        seen.expect(&["taint All damaged the memory"]);
    }
}

/// A child of fork has notes of its own.
fn forked(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("forks")]);
    assert_eq!(seen.status, 0);
    seen.expect_not("taint");
    let by = |name: &str| {
        let wanted = format!("stat Walk {{ path: \"{name}\"");
        let told = seen.told.iter().find(|(_, what)| what.starts_with(&wanted));
        told.unwrap_or_else(|| panic!("{name}\n{}", seen.text())).0
    };
    for n in 0..9 {
        assert_eq!(by(&format!("parent-{n}")), by("parent-0"));
        assert_eq!(by(&format!("child-{n}")), by("child-0"));
        assert_eq!(by(&format!("after-{n}")), by("parent-0"));
    }
    assert_ne!(by("parent-0"), by("child-0"));
}

/// What a process noted before it was killed is told before its end.
fn killed_after_looks(backend: &str) {
    let seen = observe(
        backend,
        nothing,
        &["sh", "-c", "\"$SELF\" actor killed; exit 3"],
    );
    assert_eq!(seen.status, 3);
    seen.expect(&["stat Walk { path: \"many-99\"", "died"]);
}

/// Who has the library waits without a stop, and so do its children.
fn waits_pass(backend: &str) {
    let script = "for n in 1 2 3 4 5 6 7 8; do test -e $n; done; \
                  for n in 1 2 3 4 5 6 7 8; do (/bin/true; /bin/true; :); done";
    for shell in ["dash", "bash"] {
        let seen = observe(backend, nothing, &[shell, "-c", script]);
        assert_eq!((seen.status, seen.count("exit 0")), (0, 25), "{shell}");
        assert_eq!(seen.waited, 0, "{shell}");
    }
}

/// A thread that waits for a child can be cancelled.
fn cancelled(backend: &str) {
    let seen = observe(backend, nothing, &["sh", "-c", &actor("cancelled")]);
    assert_eq!(seen.status, 0);
    assert_eq!(seen.count("died 9"), 1);
}

/// Programs see no environment, arguments or descriptors but their own.
fn invisible(backend: &str) {
    let script = "env | sort; tr '\\0' '\\n' </proc/self/environ | sort; ls /proc/self/fd; \
                  ldd /bin/ls | sed 's/0x.*//'; cat /etc/ld.so.preload; \
                  LD_PRELOAD=libm.so.6 env | grep LD_";
    let seen = observe(backend, nothing, &["bash", "-c", script]);
    let dir = tempfile::tempdir().unwrap();
    let bare = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SELF", std::env::current_exe().unwrap())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let bare = String::from_utf8(bare.stdout).unwrap();
    let here = dir.path().to_str().unwrap();
    let there = seen.dir.path().to_str().unwrap();
    assert_eq!(seen.stdout.replace(there, ""), bare.replace(here, ""));
    seen.expect_not("taint");
}

/// A loader that only tells what it would load gets nothing.
fn not_for_the_listing(backend: &str) {
    let script = "LD_TRACE_LOADED_OBJECTS=1 /bin/ls";
    let seen = observe(backend, nothing, &["sh", "-c", script]);
    assert!(seen.stdout.contains("libc.so"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("linux-rfs"), "{}", seen.stdout);
}

/// The question whether the machine has a list of libraries is told, the made-up list is not.
fn own_list_of_libraries(backend: &str) {
    let seen = observe(backend, nothing, &["/bin/true"]);
    if !Path::new("/etc/ld.so.preload").exists() {
        seen.expect(&["access Walk { path: \"/etc/ld.so.preload\", links: [], end: Absent }"]);
        seen.expect_not("open Walk { path: \"/etc/ld.so.preload\"");
    }
    seen.expect_not("linux-rfs");
}
