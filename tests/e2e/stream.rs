//! Standard input, output and error: every byte, in order, to whoever reads them.

use std::io::Read;

use crate::probe::assert_same_run;
use crate::run::Cmd;
use crate::space::TestSpace;

/// Runs bare, and twice under rfs; all must look the same.
fn same_three_times(s: &TestSpace, cmd: &Cmd) {
    let bare = s.bare(cmd.clone());
    let tree = s.tree();
    for round in ["first", "second", "third"] {
        assert_same_run(&bare, &s.rfs(cmd.clone()), round);
        crate::tree::assert_same(&tree, &s.tree(), round);
    }
}

const INTERLEAVED: &str = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; \
                           [ $((i % 50)) = 0 ] && sh -c 'echo deep; echo deep >&2'; \
                           i=$((i + 1)); done";

#[test]
fn both_outputs_in_one_pipe_keep_their_order() {
    let s = TestSpace::new();
    let cmd = Cmd::sh(INTERLEAVED).merged();
    same_three_times(&s, &cmd);
    let _served = s.rfs(cmd).expect_hit();
}

#[test]
fn both_outputs_in_pipes_of_their_own() {
    let s = TestSpace::new();
    let cmd = Cmd::sh(INTERLEAVED);
    same_three_times(&s, &cmd);
    let _served = s.rfs(cmd).expect_hit();
}

/// `2>&1` inside and outside, recorded with one and served with two.
#[test]
fn outputs_are_told_apart_whatever_they_were_when_recorded() {
    let s = TestSpace::new();
    let cmd = Cmd::sh(INTERLEAVED);
    for cmd in [cmd.clone().merged(), cmd.clone(), cmd.clone().merged(), cmd] {
        assert_same_run(
            &s.bare(cmd.clone()),
            &s.rfs(cmd),
            "recorded with the other kind",
        );
    }
}

#[test]
fn large_output() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("seq 1 700000 | tee /dev/stderr");
    let bare = s.bare(cmd.clone());
    assert!(bare.stdout.len() > 4_000_000 && bare.stderr.len() > 4_000_000);
    for round in ["first", "second"] {
        let wrapped = s.rfs(cmd.clone());
        assert!(wrapped.stdout == bare.stdout, "{round}: standard output");
        assert!(wrapped.stderr == bare.stderr, "{round}: standard error");
    }
}

#[test]
fn large_output_to_a_slow_reader() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("head -c 10000000 /dev/zero | tr '\\0' x; echo end");
    for round in ["first", "second"] {
        let mut started = s.start(cmd.clone(), true);
        let guard = started.guard();
        let mut pipe = started.child.stdout.take().unwrap();
        let (mut n, mut piece, mut last) = (0, [0; 700], Vec::new());
        loop {
            let n_read = pipe.read(&mut piece).unwrap();
            if n_read == 0 {
                break;
            }
            n += n_read;
            last.extend(&piece[..n_read]);
            last.drain(..last.len().saturating_sub(5));
        }
        assert!(started.child.wait().unwrap().success());
        guard.dismiss(&started.what);
        assert_eq!(
            (n, last.ends_with(b"xend\n")),
            (10_000_004, true),
            "{round}"
        );
    }
}

/// The reader goes away; the writer dies as it would without rfs.
#[test]
fn reader_goes_away() {
    let s = TestSpace::new();
    let head = [
        "bash",
        "-c",
        "\"$@\" 2> err | head -n 1; echo ${PIPESTATUS[0]}",
        "bash",
    ];
    for script in ["yes", "seq 1000000", "sh -c 'seq 1000000'; echo $?"] {
        same_three_times(&s, &Cmd::sh(script).outer(head).plain());
    }
}

/// It is recorded with a reader that takes all, and served to one that does not.
#[test]
fn reader_of_a_served_output_goes_away() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("seq 1000000");
    let _all = s.rfs(cmd.clone()).expect_code(0);
    let _served = s.rfs(cmd.clone()).expect_hit();
    let head = [
        "bash",
        "-c",
        "\"$@\" | head -n 1; echo ${PIPESTATUS[0]}",
        "bash",
    ];
    same_three_times(&s, &cmd.outer(head).plain());
}

/// The next command of the shell goes on where ours stopped reading.
#[test]
fn shared_offset_of_the_input() {
    let s = TestSpace::new();
    s.write("in", "one\ntwo\nthree\nfour\n");
    let rest = [
        "sh",
        "-c",
        "{ read first; \"$@\"; read last; echo \"rest $last\"; } < in",
        "sh",
    ];
    for script in [
        "read x; echo \"got $x\"",
        ":",
        "read x; read y; echo \"$y\"",
        "head -c 8 > /dev/null",
    ] {
        same_three_times(&s, &Cmd::sh(script).outer(rest));
    }
}

#[test]
fn input_through_a_pipe() {
    let s = TestSpace::new();
    same_three_times(&s, &Cmd::from("sort").stdin(b"b\na\n"));
    same_three_times(
        &s,
        &Cmd::sh("grep -c x; cat").stdin(&b"x\n".repeat(100_000)),
    );
}

/// What was written to the input by one program is read by the next.
#[test]
fn rest_of_a_pipe() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("read x; echo \"got $x\"; sh -c 'read y; echo \"then $y\"'; cat");
    same_three_times(&s, &cmd.stdin(b"one\ntwo\nthree\n"));
}

#[test]
fn closed_descriptors() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    for before in [
        "exec <&-",
        "exec >&-",
        "exec 2>&-",
        "exec <&- >&-",
        "exec <&- >&- 2>&-",
    ] {
        for script in [
            "cat in > out; echo said; echo wrong >&2",
            "cat",
            "ls /proc/self/fd > out",
        ] {
            let cmd = Cmd::sh(script).after(before);
            // Standard error is closed, so nothing can be told on it.
            let bare = s.bare(cmd.clone());
            let tree = s.tree();
            for round in ["first", "second"] {
                let wrapped = s.rfs(cmd.clone());
                assert_same_run(&bare, &wrapped, &format!("{before}; {script}: {round}"));
                crate::tree::assert_same(&tree, &s.tree(), &format!("{before}; {script}: {round}"));
            }
        }
    }
}

/// `rfs build -- make > log 2>&1` in the workspace itself.
#[test]
fn output_to_a_file_of_the_workspace() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    for before in [
        "exec > log",
        "exec > log 2>&1",
        "exec >> log",
        "exec 3> log >&3 2>&3",
    ] {
        s.remove("log");
        let cmd = Cmd::sh("echo said; cat in; echo wrong >&2; sh -c 'echo deep'").after(before);
        let bare = s.bare(cmd.clone());
        let text = s.read("log");
        for round in ["first", "second"] {
            s.remove("log");
            // Their own lines of rfs would go to the log as well.
            let quiet = s.build_command(vec!["-q".into()], &cmd);
            let (started, _) = crate::run::start(quiet, false);
            let (status, stdout, stderr) = started.finish(None);
            assert_eq!(
                (status, stdout),
                (bare.status, bare.stdout.clone()),
                "{before}: {round}"
            );
            assert_eq!(stderr, bare.stderr, "{before}: {round}");
            assert_eq!(s.read("log"), text, "{before}: {round}");
        }
    }
}

#[test]
fn output_to_a_full_device() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("echo said; echo \"status $?\" >&2").after("exec > /dev/full");
    same_three_times(&s, &cmd);
    let _ok = s.rfs(Cmd::sh("seq 10")).expect_code(0);
    same_three_times(&s, &Cmd::sh("seq 10").after("exec > /dev/full"));
}

/// A record made with one kind of output is not taken for another where it matters.
#[test]
fn kind_of_the_output_is_looked_at() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let cmd = || {
        Cmd::sh(
            "[ -t 1 ] && echo tty; [ -p /dev/stdout ] && echo pipe; [ -f /dev/stdout ] && echo file; readlink /proc/self/fd/0; cat in",
        )
    };
    same_three_times(&s, &cmd());
    same_three_times(&s, &cmd().after("exec > log"));
    same_three_times(&s, &cmd().after("exec < in"));
}

/// There is one null device: what standard input is tells nothing then that the key does not.
#[test]
fn a_look_at_no_input() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let from = |input: &str| {
        let cmd = "[ -r /dev/stdin ] && readlink /proc/self/fd/0 > out; cat";
        Cmd::sh(cmd).after(&format!("exec < {input}"))
    };
    let _first = s.rfs(from("/dev/null")).expect_code(0);
    let _served = s.rfs(from("/dev/null")).expect_code(0).expect_hit();
    assert_eq!(s.read("out"), "/dev/null\n");
    let _other = s.rfs(from("in")).expect_code(0);
    assert!(s.read("out").ends_with("/in\n"));
}

/// Where nobody may take a descriptor from another process (as in a container without CAP_SYS_PTRACE) what was
/// printed cannot be printed in a step's stead: it runs.
#[test]
fn descriptors_that_cannot_be_reached() {
    let forbid = "import ctypes, os, struct, sys\n\
        code = [(0x20, 0, 0, 0), (0x15, 0, 1, 438), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]\n\
        code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in code))\n\
        program = struct.pack('HxxxxxxQ', 4, ctypes.addressof(code))\n\
        libc = ctypes.CDLL(None)\n\
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let s = TestSpace::new();
    s.write("in", "text\n");
    let prints = || Cmd::sh("echo said; cat in > out").outer(["python3", "-c", forbid]);
    let silent = || Cmd::sh("cat in > quiet").outer(["python3", "-c", forbid]);
    for round in 0..2 {
        let run = s.rfs(prints()).expect_code(0).expect_ran();
        assert_eq!(
            (run.out().as_str(), run.err().as_str()),
            ("said\n", ""),
            "round {round}"
        );
        assert_eq!(s.read("out"), "text\n");
        s.must("rm out");
    }
    let _ran = s.rfs(silent()).expect_code(0).expect_ran();
    s.must("rm quiet");
    let _served = s.rfs(silent()).expect_code(0).expect_hit();
    assert_eq!(s.read("quiet"), "text\n");
}
