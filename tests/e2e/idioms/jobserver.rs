//! Jobservers: a pipe or a fifo of tokens that say how many jobs may run. Not one may be lost or added.

use super::twice;
use crate::probe::Hit;
use crate::run::Cmd;
use crate::space::TestSpace;

/// Takes two tokens, says so in a file, gives them back: a client of `--jobserver-auth=fifo:PATH` as
/// GNU make 4.4 has it, or of `--jobserver-auth=R,W`.
const CLIENT: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **arg)
{
    char *flags = getenv("MAKEFLAGS"), *auth = flags ? strstr(flags, "--jobserver-auth=") : 0;
    char path[4096], tokens[2];
    int in, out, got = 0;
    if (!auth)
        return 9;
    auth += strlen("--jobserver-auth=");
    if (sscanf(auth, "fifo:%4095s", path) == 1) {
        in = out = open(path, O_RDWR | O_CLOEXEC);
        if (in < 0) {
            perror(path);
            return 8;
        }
    } else if (sscanf(auth, "%d,%d", &in, &out) != 2)
        return 7;
    while (got < 2 && read(in, tokens + got, 1) == 1)
        got++;
    FILE *file = fopen(arg[1], "w");
    fprintf(file, "%d tokens\n", got);
    fclose(file);
    return write(out, tokens, got) == got ? 0 : 6;
}
"#;

fn client(s: &TestSpace) {
    s.write("client.c", CLIENT);
}

const CLIENTS: &str = "cc client.c -o client && sh -c './client a' && ./client b && cat a b";

/// The caller makes the fifo, fills in four tokens, and counts them afterwards.
#[test]
fn fifo() {
    let cmd = Cmd::sh(CLIENTS).outer([
        "sh",
        "-c",
        "rm -f ../outside/jobs; mkfifo ../outside/jobs; exec 9<>../outside/jobs; printf ++++ >&9
         MAKEFLAGS=\" -j5 --jobserver-auth=fifo:$PWD/../outside/jobs\" \"$@\" 9>&-; status=$?
         printf . >&9; head -c 5 <&9; exit $status",
        "sh",
    ]);
    twice(client, cmd, Hit);
}

#[test]
fn pipe() {
    let script = "use POSIX; pipe(R, W); syswrite W, '++++';
        my ($r, $w) = map { POSIX::dup(fileno $_) } (*R, *W);
        $ENV{MAKEFLAGS} = qq( -j5 --jobserver-auth=$r,$w);
        my $status = system @ARGV; syswrite W, '.';
        do { sysread R, $token, 1; print STDERR $token } until $token eq '.'; exit $status >> 8";
    let cmd = Cmd::sh(CLIENTS).outer(["perl", "-e", script]);
    // What follows the lines of --explain on standard error is ours.
    twice(client, cmd.plain(), Hit);
}

/// A sub-make that was recorded with tokens in its hands is served to a make that counts them.
#[test]
fn make_counts_its_tokens() {
    let lay = |s: &TestSpace| {
        let sub = "all: a b c d e\na b c d e:\n\tsleep 0.05; echo $@ > $@\n";
        for dir in ["one", "two", "three"] {
            s.write(format!("{dir}/Makefile"), sub);
        }
        s.write(
            "Makefile",
            "all: one two three\n.PHONY: one two three\none two three:\n\
             \t+@$(MAKE) --no-print-directory -s -C $@\n\trm -f stamp; touch stamp\n",
        );
    };
    let s = TestSpace::new();
    lay(&s);
    let first = s.rfs("make -s -j4").expect_code(0);
    assert_eq!(first.err(), "", "{first:#?}");
    // make runs, its sub-makes are served.
    s.write("Makefile", s.read("Makefile") + "# edited\n");
    for dir in ["one", "two", "three"] {
        for file in ["a", "b", "c", "d", "e"] {
            s.remove(format!("{dir}/{file}"));
        }
    }
    let second = s.rfs("make -s -j4").expect_code(0).expect_ran();
    assert!(second.summary().hit >= 3, "{second:#?}");
    assert_eq!((second.out(), second.err()), (first.out(), first.err()));
    assert_eq!(s.read("three/e"), "e\n");
}
