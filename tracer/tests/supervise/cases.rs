//! What must hold of a supervised command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

type Case = fn(&str);

pub const ALL: &[(&str, Case)] = &[
    ("runs_and_returns_the_status", runs_and_returns_the_status),
    ("ends_the_command_itself", ends_the_command_itself),
    ("ends_forked_children", ends_forked_children),
    ("ends_make_recipes", ends_make_recipes),
    ("ends_python_children", ends_python_children),
    ("kills_in_place_of_the_call", kills_in_place_of_the_call),
    ("fails_the_call", fails_the_call),
    ("every_call_can_trap", every_call_can_trap),
];

struct Host<'a> {
    backend: &'a str,
    tables: &'a str,
}

fn host(backend: &str) -> Host<'_> {
    Host {
        backend,
        tables: "few",
    }
}

impl Host<'_> {
    fn command(&self, command: &[&str]) -> Command {
        let mut host = Command::new(std::env::current_exe().unwrap());
        host.args(["host", self.backend, self.tables, ""])
            .args(command);
        host.stdin(Stdio::null());
        host
    }

    fn run(&self, command: &[&str]) -> (i32, String) {
        said(self.command(command).output().unwrap())
    }

    fn sh(&self, script: &str) -> (i32, String) {
        self.run(&["sh", "-c", script])
    }
}

/// Exit status and output; a diagnostic is shown if the case fails.
fn said(output: Output) -> (i32, String) {
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn is(status: i32, output: &str) -> (i32, String) {
    (status, output.to_owned())
}

fn runs_and_returns_the_status(backend: &str) {
    assert_eq!(host(backend).sh("echo hello"), is(0, "hello\n"));
    assert_eq!(host(backend).sh("exit 9"), is(9, ""));
    assert_eq!(host(backend).sh("kill -SEGV $$"), is(139, "signal 11\n"));
    assert_eq!(
        host(backend).sh("/bin/echo a; (/bin/echo b); /bin/sh -c 'exit 4'"),
        is(4, "a\nb\n")
    );
}

fn ends_the_command_itself(backend: &str) {
    for status in [0, 7, 9, 255] {
        assert_eq!(
            host(backend).run(&[&format!("/exit/{status}")]),
            is(status, "")
        );
        assert_eq!(
            host(backend).run(&[&format!("/late/{status}")]),
            is(status, "")
        );
    }
}

fn ends_forked_children(backend: &str) {
    let script = "for n in 0 7 9; do /exit/$n; echo $?; /late/$n; echo $?; done; exec /late/3";
    assert_eq!(host(backend).sh(script), is(3, "0\n0\n7\n7\n9\n9\n"));
}

fn ends_make_recipes(backend: &str) {
    let dir = tempfile::tempdir().unwrap();
    // make(1) looks whether there is something to execute.
    for program in ["late/0", "exit/0", "late/7"] {
        let path = dir.path().join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\necho it was run").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = "all: a b c\na:\n\t@./late/0\nb:\n\t@./exit/0\nc:\n\t-@./late/7\n\t@echo $@\n";
    fs::write(dir.path().join("Makefile"), text).unwrap();
    let run = host(backend).run(&["make", "--no-print-directory", "-j2", "-C", path(&dir)]);
    assert_eq!(run, is(0, "c\n"));
}

fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

fn ends_python_children(backend: &str) {
    let script = "
import os, subprocess, threading
for n in (0, 7, 9):
    for verb in ('exit', 'late'):
        path = f'/{verb}/{n}'
        assert subprocess.call([path]) == n
        assert subprocess.call([path], close_fds=False) == n
        pid = os.posix_spawn(path, [path], os.environ)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == n
def run():
    for n in range(20):
        assert subprocess.call([f'/late/{n}']) == n
threads = [threading.Thread(target=run) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
stop = threading.Event()
others = [threading.Thread(target=stop.wait) for _ in range(4)]
[t.start() for t in others]
os.execv('/late/5', ['x'])
";
    assert_eq!(host(backend).run(&["python3", "-c", script]), is(5, ""));
}

fn kills_in_place_of_the_call(backend: &str) {
    assert_eq!(host(backend).run(&["/kill/15"]), is(143, "signal 15\n"));
    assert_eq!(host(backend).sh("/kill/13; echo $?"), is(0, "141\n"));
    // Where the process has made itself deaf to it, the status says the same.
    assert_eq!(
        host(backend).sh("trap '' PIPE; (exec /kill/13); echo $?"),
        is(0, "141\n")
    );
}

fn fails_the_call(backend: &str) {
    assert_eq!(host(backend).sh("/fail/13 2>&-; echo $?"), is(0, "126\n"));
    assert_eq!(
        host(backend).sh("/backfail/13 2>&-; echo $?"),
        is(0, "126\n")
    );
    assert_eq!(host(backend).sh("/panic/0 2>&-; echo $?"), is(0, "126\n"));
    // Attached to and let go: the call is made as if nothing had been.
    assert_eq!(host(backend).sh("/back/7 2>&-; echo $?"), is(0, "127\n"));
}

fn every_call_can_trap(backend: &str) {
    let host = Host {
        backend,
        tables: "all",
    };
    assert_eq!(
        host.sh("echo hello | cat; /late/7; exit $?"),
        is(7, "hello\n")
    );
}
