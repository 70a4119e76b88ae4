//! Front, host and command as processes: who lives and who dies with whom. Builds are watched for real.
//!
//! Fifos outside of the workspace are how the shell scripts here wait: for a line, or for the end of
//! whoever holds the other side.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make their own files and environment, and fail at whatever is not as they made it"
)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs a shell script beside a workspace, in a process group of its own, in which `rfs` becomes the
/// program with what all builds here have in common. Returns its output and errors.
fn sh(script: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("w");
    fs::create_dir_all(work.join(".git")).unwrap();
    let script = format!(
        "rfs() {{ exec {} build -q --strict \"$@\"; }}\nmkfifo ../out ../go ../end\n{script}",
        env!("CARGO_BIN_EXE_rfs")
    );
    let output = Command::new("timeout")
        .args(["--foreground", "30", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", dir.path())
        .current_dir(work)
        .stdin(Stdio::null())
        .process_group(0)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn who_kills_the_front_kills_the_command_and_nothing_else() {
    let (out, err) = sh(
        r#"rfs sh -c '(read x <../go; echo alive >../out) & exec 9>../end; echo up >../out; exec sleep 1000' &
           front=$!; exec 8<../end; read line <../out
           kill -KILL $front; wait $front; echo "status $?"
           cat <&8; echo "the command is gone"
           echo x >../go; read line <../out; echo "the rest is $line""#,
    );
    assert_eq!(
        out, "status 137\nthe command is gone\nthe rest is alive\n",
        "{err}"
    );
}

#[test]
fn with_the_host_dies_the_whole_build() {
    let (out, err) = sh(
        r#"rfs sh -c '(exec 9>../end; echo up >../out; exec sleep 1000) & wait' &
           front=$!; exec 8<../end; read line <../out
           kill -KILL $(cat /proc/$front/task/$front/children); wait $front; echo "status $?"
           cat <&8; echo "all are gone""#,
    );
    assert_eq!(out, "status 125\nall are gone\n", "{err}");
    assert!(err.contains("its host was killed by SIGKILL"), "{err}");
}

#[test]
fn what_is_left_in_the_background_goes_on_and_nobody_waits_for_it() {
    let (out, err) = sh(
        r#"text=$(rfs sh -c '(read x <../go; echo late >../out) >/dev/null 2>&1 & echo early')
           echo "$text"; echo x >../go; read line <../out; echo "$line""#,
    );
    assert_eq!(out, "early\nlate\n", "{err}");
}

#[test]
fn a_signal_for_the_group_ends_command_and_front_alike() {
    let (out, err) = sh(r#"trap : TERM
           rfs sh -c 'echo up >../out; exec sleep 1000' &
           front=$!; read line <../out; kill -TERM 0; wait $front; echo "status $?""#);
    assert_eq!(out, "status 143\n", "{err}");
}
