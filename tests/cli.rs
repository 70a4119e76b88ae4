//! The command line as people and scripts meet it: arguments, exit statuses, messages, what the command
//! gets. Each of these holds whether or not this machine lets builds be watched.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make their own files and environment, and fail at whatever is not as they made it"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A git working tree with a home and a cache of its own.
struct Place {
    dir: tempfile::TempDir,
}

struct Run {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("w/.git")).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("w").join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.at(name).symlink_metadata().is_ok()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .current_dir(self.at(""))
            .stdin(Stdio::null());
        command
    }

    /// Runs rfs with these words.
    fn rfs(&self, words: &[&str]) -> Run {
        let mut command = self.command(rfs());
        command.args(words);
        run(command)
    }

    /// Runs a shell script in which `$RFS` is the program.
    fn sh(&self, script: &str) -> Run {
        let mut command = self.command("sh");
        command.args(["-c", script]).env("RFS", rfs());
        run(command)
    }
}

fn rfs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rfs"))
}

fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn usage_errors_exit_125_and_say_nothing_on_stdout() {
    let place = Place::new();
    for words in [
        &[][..],
        &["build"],
        &["build", "--"],
        &["build", "--unknown", "true"],
        &["build", "--tracer", "gdb", "true"],
        &["build", "--summary"],
        &["nothing"],
    ] {
        let run = place.rfs(words);
        assert_eq!(run.status.code(), Some(125), "{words:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{words:?}");
        assert!(run.stderr.contains("--help"), "{words:?}: {}", run.stderr);
    }
}

#[test]
fn help_and_version_are_answers() {
    let place = Place::new();
    let version = place.rfs(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        version.stdout,
        concat!("rfs ", env!("CARGO_PKG_VERSION"), "\n")
    );
    for words in [&["--help"][..], &["build", "--help"], &["doctor", "-h"]] {
        let help = place.rfs(words);
        assert_eq!(help.status.code(), Some(0), "{words:?}");
        assert!(help.stdout.contains("Usage:"), "{words:?}");
        assert_eq!(help.stderr, "", "{words:?}");
    }
}

#[test]
fn exit_status_and_output_are_the_commands() {
    let place = Place::new();
    for status in [0, 1, 2, 7, 125, 255] {
        let script = format!("echo out; exit {status}");
        let run = place.rfs(&["build", "--", "sh", "-c", &script]);
        assert_eq!(run.status.code(), Some(status), "{}", run.stderr);
        assert_eq!(run.stdout, "out\n");
    }
}

#[test]
fn words_after_the_command_are_the_commands() {
    let place = Place::new();
    for words in [
        &["build", "-q", "--", "printf", "%s,", "-q", "--", "--help"][..],
        &["build", "-q", "printf", "%s,", "-q", "--", "--help"],
    ] {
        let run = place.rfs(words);
        assert_eq!(run.stdout, "-q,--,--help,", "{}", run.stderr);
    }
}

#[test]
fn what_cannot_be_executed_is_said_as_by_a_shell() {
    let place = Place::new();
    fs::write(place.at("plain"), "true\n").unwrap();
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(place.at("plain"), mode).unwrap();
    for (command, status, message) in [
        (
            "no-such-command",
            127,
            "rfs: no-such-command: command not found\n",
        ),
        (
            "./no-such-file",
            127,
            "rfs: ./no-such-file: no such file or directory\n",
        ),
        (
            "./plain",
            126,
            "rfs: ./plain: cannot execute: Permission denied\n",
        ),
        (
            "./.git",
            126,
            "rfs: ./.git: cannot execute: Permission denied\n",
        ),
    ] {
        let run = place.rfs(&["build", command]);
        assert_eq!(run.status.code(), Some(status), "{command}: {}", run.stderr);
        let (said, hint) = run.stderr.split_once("rfs: hint: ").expect("a hint");
        assert!(said.ends_with(message), "{command}: {}", run.stderr);
        assert!(hint.ends_with('\n') && hint.len() > 8, "{command}: {hint}");
        assert_eq!(run.stdout, "", "{command}");
    }
}

#[test]
fn death_by_a_signal_is_handed_on_without_a_core() {
    let place = Place::new();
    for signal in [libc::SIGTERM, libc::SIGSEGV, libc::SIGKILL, libc::SIGPIPE] {
        let script = format!("kill -{signal} $$");
        let run = place.rfs(&["build", "sh", "-c", &script]);
        assert_eq!(run.status.signal(), Some(signal), "{}", run.stderr);
    }
}

#[test]
fn a_signal_for_us_is_a_signal_for_the_command() {
    let place = Place::new();
    let run = place.sh(
        // Outside of the workspace: inside, a fifo connects processes of the build only.
        r#"mkfifo ../ready
           "$RFS" build sh -c 'trap "echo caught; exit 3" TERM; echo >../ready; while :; do sleep 0.01; done' &
           read line <../ready; kill -TERM $!; wait $!; echo "status $?""#,
    );
    assert_eq!(run.stdout, "caught\nstatus 3\n", "{}", run.stderr);
}

#[test]
fn ignored_signals_and_the_mask_are_the_callers() {
    let place = Place::new();
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let bare = place.sh(&format!("trap '' HUP USR1; {script}"));
    let wrapped = place.sh(&format!(r#"trap '' HUP USR1; "$RFS" build {script}"#));
    // The caller of the tests may ignore others, as below nohup(1).
    let ignored = bare.stdout.trim_end().rsplit('\t').next().unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored & 0x201, 0x201, "{}", bare.stdout);
    assert_eq!(wrapped.stdout, bare.stdout, "{}", wrapped.stderr);
}

#[test]
fn descriptors_are_the_callers() {
    let place = Place::new();
    // Number 0 is closed; the listing itself opens the lowest free number.
    let list =
        "sh -c 'for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$fd ] && echo $fd; done'";
    let bare = place.sh(&format!("exec 7</dev/null <&-; {list}"));
    let wrapped = place.sh(&format!(r#"exec 7</dev/null <&-; "$RFS" build {list}"#));
    assert!(bare.stdout.contains("7\n"), "{}", bare.stdout);
    assert_eq!(wrapped.stdout, bare.stdout, "{}", wrapped.stderr);
}

#[test]
fn the_environment_and_the_working_directory_are_the_callers() {
    let place = Place::new();
    let go = "mkdir -p real/deep; ln -s real link; cd link/deep; unset OLDPWD";
    let look = "sh -c 'pwd; /bin/pwd; env | grep -v ^_= | sort'";
    let bare = place.sh(&format!("{go}; {look}"));
    let wrapped = place.sh(&format!(
        r#"{}; "$RFS" build {look}"#,
        go.replace("ln -s", "ln -sfn")
    ));
    assert!(bare.stdout.contains("/link/deep\n"), "{}", bare.stdout);
    assert_eq!(wrapped.stdout, bare.stdout, "{}", wrapped.stderr);
}

#[test]
fn the_workspace_is_the_nearest_marked_directory() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b")).unwrap();
    place.sh(r#"cd a/b; "$RFS" build true"#);
    assert!(place.has(".rfs/CACHEDIR.TAG") && !place.has("a/b/.rfs"));
    assert_eq!(
        fs::read_to_string(place.at(".rfs/.gitignore")).unwrap(),
        "*\n"
    );
    assert_eq!(place.rfs(&["init", "a"]).status.code(), Some(0));
    assert!(place.has("a/.rfs"));
}

#[test]
fn init_can_be_repeated_and_names_what_is_in_the_way() {
    let place = Place::new();
    fs::create_dir(place.at("new")).unwrap();
    let first = place.rfs(&["init", "new"]);
    assert_eq!(first.status.code(), Some(0), "{}", first.stderr);
    assert!(
        first.stdout.contains("new: made a workspace"),
        "{}",
        first.stdout
    );
    let again = place.rfs(&["init", "new"]);
    assert!(
        again.stdout.contains("is a workspace already"),
        "{}",
        again.stdout
    );

    fs::create_dir(place.at("odd")).unwrap();
    fs::write(place.at("odd/.rfs"), "").unwrap();
    for (dir, word) in [
        ("odd", ".rfs"),
        ("missing", "missing"),
        ("/", "root directory"),
    ] {
        let refused = place.rfs(&["init", dir]);
        assert_eq!(refused.status.code(), Some(125), "{dir}");
        assert!(
            refused.stderr.starts_with("rfs: error: "),
            "{}",
            refused.stderr
        );
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("\nrfs: hint: "),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn a_wrong_configuration_stops_before_the_command() {
    let place = Place::new();
    fs::write(place.at("rfs.toml"), "[tools]\nfodl = ['x']\n").unwrap();
    let run = place.rfs(&["build", "touch", "made"]);
    assert_eq!(run.status.code(), Some(125));
    assert!(
        run.stderr
            .contains("rfs.toml:2: unknown key `fodl` in [tools]\nrfs: hint: did you mean `fold`?"),
        "{}",
        run.stderr
    );
    assert!(!place.has("made"));

    fs::write(place.at("rfs.toml"), "[tools]\nfold = ['x']\n").unwrap();
    let config = place.dir.path().join("home/.config/rfs");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[cache]\ndri = 'x'\n").unwrap();
    let run = place.rfs(&["build", "touch", "made"]);
    assert_eq!(run.status.code(), Some(125));
    assert!(
        run.stderr
            .contains(".config/rfs/config.toml:2: unknown key `dri`"),
        "{}",
        run.stderr
    );
    assert!(!place.has("made"));
}

#[test]
fn the_systems_root_is_no_workspace() {
    let place = Place::new();
    let run = place.sh(r#"cd /; "$RFS" build true"#);
    assert_eq!(run.status.code(), Some(125));
    assert!(
        run.stderr.contains("cannot be a workspace"),
        "{}",
        run.stderr
    );
    assert!(!Path::new("/.rfs").exists());
}

#[test]
fn a_removed_working_directory_is_named() {
    let place = Place::new();
    let run = place.sh(r#"mkdir gone; cd gone; rmdir ../gone; "$RFS" build true"#);
    assert_eq!(run.status.code(), Some(125));
    assert!(run.stderr.contains("getcwd"), "{}", run.stderr);
}

#[test]
fn a_log_level_that_is_none_is_told_and_the_build_goes_on() {
    let place = Place::new();
    let run = place.sh(r#"RFS_LOG=loud "$RFS" build echo done"#);
    assert_eq!(run.stdout, "done\n");
    assert!(
        run.stderr.contains("rfs: warning: RFS_LOG=loud"),
        "{}",
        run.stderr
    );
    let run = place.sh(r#"RFS_LOG=debug "$RFS" build -q true"#);
    assert!(run.stderr.contains("rfs: debug: "), "{}", run.stderr);
}

#[test]
fn the_doctor_answers_people_and_programs() {
    let place = Place::new();
    let text = place.rfs(&["doctor"]);
    assert!(text.stdout.contains("kernel: "), "{}", text.stdout);
    let json = place.rfs(&["doctor", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["schema"], "rfs.doctor/1");
    assert_eq!(value["usable"], json.status.code() == Some(0));
    for finding in value["findings"].as_array().unwrap() {
        let good = finding["grade"] == "good";
        assert_eq!(finding["remedy"].is_string(), !good, "{finding}");
    }
    let file = place.at("file");
    fs::write(&file, "").unwrap();
    let odd = place.rfs(&["doctor", "--cache-dir", file.to_str().unwrap()]);
    assert!(odd.stdout.contains("is not a directory"), "{}", odd.stdout);
}

#[test]
fn the_doctor_tells_what_each_lack_costs() {
    let place = Place::new();
    let json = |script: &str| {
        let run = place.sh(&format!("{script} \"$RFS\" doctor --json"));
        let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        value["findings"].as_array().unwrap().clone()
    };
    let named = |all: &[serde_json::Value], name: &str| {
        let found = all.iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {all:?}")).clone()
    };
    let all = json("");
    for name in [
        "kernel",
        "/dev/fuse",
        "mount",
        "passthrough",
        "io_uring",
        "seccomp notification",
        "attaching to children",
        "descriptors of children",
        "ptrace",
        "processors",
        "open files",
        "pressure",
        "cache",
    ] {
        let finding = named(&all, name);
        let good = finding["grade"] == "good";
        assert_eq!(finding["cost"].is_string(), !good, "{finding}");
        assert_eq!(finding["remedy"].is_string(), !good, "{finding}");
        assert!(!finding["found"].as_str().unwrap().is_empty(), "{finding}");
    }
    assert_eq!(named(&all, "preload library")["grade"], "good");
    let off = named(&json("RFS_PRELOAD=0"), "preload library");
    assert!(
        off["found"].as_str().unwrap().contains("switched off"),
        "{off}"
    );
    let few = named(&json("ulimit -n 512;"), "open files");
    assert_eq!(few["grade"], "limited", "{few}");
    fs::create_dir_all(place.at("../home/.cache/rfs")).unwrap();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(place.at("../home/.cache/rfs"), open).unwrap();
    let owner = named(&json(""), "cache's owner");
    assert_eq!(owner["grade"], "limited", "{owner}");
}

/// Configuration and our own variables; of the rest of the environment and of the tree nothing.
#[test]
fn a_bug_report_has_what_it_says() {
    let place = Place::new();
    fs::write(place.at("rfs.toml"), "[build]\npreload = false\n").unwrap();
    fs::write(place.at("source.c"), "int confidential;\n").unwrap();
    let run = place.sh("SECRET=confidential RFS_LOG=off \"$RFS\" bugreport");
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    for part in [
        "== rfs\n0.",
        "== doctor\n",
        "preload = false",
        "RFS_LOG=off",
        "home/.cache/rfs: 0 contents",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(
        run.stdout.contains("carried in the program; switched off"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("confidential"), "{}", run.stdout);
}

#[test]
fn the_cache_is_looked_at_and_not_made() {
    let place = Place::new();
    let stats = place.rfs(&["cache", "stats"]);
    assert_eq!(stats.status.code(), Some(0), "{}", stats.stderr);
    assert!(
        stats.stdout.contains("home/.cache/rfs: 0 contents"),
        "{}",
        stats.stdout
    );
    assert!(!place.dir.path().join("home/.cache").exists());

    fs::write(place.at("file"), "").unwrap();
    let odd = place.rfs(&["cache", "verify", "--cache-dir", "file"]);
    assert_eq!(odd.status.code(), Some(125));
    assert!(odd.stderr.contains("w/file"), "{}", odd.stderr);
}

#[test]
fn a_damaged_cache_is_told_once_with_its_file() {
    let place = Place::new();
    let blob = place.at("c/blobs/ab");
    fs::create_dir_all(place.at("c")).unwrap();
    let made = place.rfs(&["cache", "verify", "--cache-dir", "c", "--json"]);
    assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
    fs::create_dir_all(&blob).unwrap();
    fs::write(blob.join("0".repeat(62)), "not its digest").unwrap();
    let first = place.sh(r#"RFS_CACHE_DIR=c "$RFS" cache verify --json"#);
    assert_eq!(first.status.code(), Some(1), "{}", first.stderr);
    let value: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(value["schema"], "rfs.cache/1");
    assert!(
        value["wrong"][0]
            .as_str()
            .unwrap()
            .contains("c/blobs/ab/000"),
        "{value}"
    );
    let again = place.sh(r#"RFS_CACHE_DIR=c "$RFS" cache verify"#);
    assert_eq!(again.status.code(), Some(0), "{}", again.stderr);
    assert!(
        again.stdout.contains("0 files were wrong"),
        "{}",
        again.stdout
    );
}

#[test]
fn records_are_told_to_people_and_programs() {
    let place = Place::new();
    place.sh(r#"RFS_CACHE_DIR=c "$RFS" build -q -- sh -c 'cat none || : > made'"#);
    let told = place.sh(r#"RFS_CACHE_DIR=c "$RFS" cache records"#);
    let json = place.sh(r#"RFS_CACHE_DIR=c "$RFS" cache records --json none"#);
    let nothing = place.sh(r#"RFS_CACHE_DIR=c "$RFS" cache records no-such-command"#);
    assert_eq!(nothing.stdout, "");
    // Where builds cannot be watched there are none.
    if !told.stdout.is_empty() {
        assert!(
            told.stdout.contains("\n  < none (absent)\n"),
            "{}",
            told.stdout
        );
        assert!(told.stdout.contains("\n  > made (file)"), "{}", told.stdout);
        assert!(
            json.stdout.contains(r#""schema":"rfs.record/1""#),
            "{}",
            json.stdout
        );
    }
}
