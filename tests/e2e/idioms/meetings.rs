//! Processes that meet at a name, a socket or a fifo: what they tell each other is seen by nobody, so only
//! the step around both can be known, whoever comes first.

use super::twice;
use crate::probe::{Hit, Refused};
use crate::run::Cmd;
use crate::space::TestSpace;

/// Takes one client's words, in the order that the first argument says: `first` binds at once, `second` when
/// a client has asked in vain.
const SERVER: &str = r#"
    use Socket;
    if ($ARGV[0] eq "second") { select undef, undef, undef, .001 until -e "asked" }
    socket(S, AF_UNIX, SOCK_STREAM, 0);
    bind(S, pack_sockaddr_un("sock")) or die $!;
    listen(S, 1);
    accept(C, S);
    print "got ", <C>;
    unlink "sock", "asked";
"#;

/// Tells the server what is in `in`. As the `first` it says when it has asked in vain.
const CLIENT: &str = r#"
    use Socket;
    if ($ARGV[0] eq "second") { select undef, undef, undef, .001 until -S "sock" }
    socket(S, AF_UNIX, SOCK_STREAM, 0);
    until (connect(S, pack_sockaddr_un("sock"))) {
        if (!-e "asked" && !-e "sock") { open F, ">", "asked"; close F }
        select undef, undef, undef, .001;
    }
    open F, "in";
    print S <F>;
"#;

/// Served as a whole, and right for one word after the other: what was told before is told to nobody again.
fn tells(lay: impl Fn(&TestSpace) + Clone + 'static, text: &str) {
    let lay = move |s: &TestSpace| {
        s.write("in", "hello\n");
        lay(s);
    };
    let cmd = Cmd::sh(text);
    twice(lay.clone(), cmd.clone(), Hit);
    let s = TestSpace::new();
    lay(&s);
    // Of each round the whole is new, its parts are not.
    let cmd = Cmd::sh(&format!("{text}; cat round"));
    for (round, word) in (1..).zip(["hello", "other", "hello", "third"]) {
        s.write("in", format!("{word}\n"));
        s.write("round", format!("{round}\n"));
        let run = s.rfs(cmd.clone()).expect_code(0);
        assert_eq!(run.out(), format!("got {word}\n{round}\n"), "{run:#?}");
    }
}

fn socket(server: &str, between: &str, client: &str) {
    let lay = |s: &TestSpace| {
        s.write("server", SERVER);
        s.write("client", CLIENT);
    };
    let text = format!(
        "perl server {server} > out & {between} perl client {client}; wait; rm -f asked; cat out"
    );
    tells(lay, &text);
}

#[test]
fn server_and_then_client() {
    // The client finds the socket at its first look.
    socket("first", "until [ -S sock ]; do sleep .001; done;", "second");
}

#[test]
fn client_and_then_server() {
    socket("second", "", "first");
}

/// Whoever gets there first.
#[test]
fn server_and_client() {
    socket("first", "", "first");
}

/// What a server does to which nobody came is not known: somebody may come the next time.
#[test]
fn server_that_waits_in_vain() {
    let lay = |s: &TestSpace| {
        s.write(
            "server",
            "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un('sock')) or die;\n\
             listen(S, 1); select undef, undef, undef, .01; unlink 'sock'; print qq(nobody\n);\n",
        );
    };
    twice(lay, Cmd::sh("perl server > out; cat out"), Refused);
}

/// Both ends of a fifo, which either of them or neither may have made.
#[test]
fn two_ends_of_a_fifo() {
    let reader = r#"perl -e 'system q(mkfifo), q(p) if $ARGV[0]; select undef, undef, undef, .001 until -p q(p);
                     open F, q(p); print q(got ), <F>'"#;
    let writer = r#"perl -e 'use POSIX; POSIX::mkfifo(q(p), 0600) if $ARGV[0]; select undef, undef, undef, .001 until -p q(p);
                     open I, q(in); open F, q(>), q(p); print F <I>'"#;
    for (before, reader_makes, writer_makes) in [("mkfifo p; ", 0, 0), ("", 1, 0), ("", 0, 1)] {
        let text = format!(
            "rm -f p; {before}{reader} {reader_makes} > out & {writer} {writer_makes}; wait; rm p; cat out"
        );
        tells(|_| {}, &text);
    }
}

/// A server that was given its socket, as inetd does: its client comes by a name that it never saw.
#[test]
fn server_with_an_inherited_socket() {
    let lay = |s: &TestSpace| {
        s.write("client", CLIENT);
        s.write(
            "inetd",
            "use Socket; $^F = 9; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un('sock')) or die;\n\
             listen(S, 1); unless (fork) { exec 'perl', 'server', fileno(S) } wait; unlink 'sock';\n",
        );
        s.write(
            "server",
            "open S, '+<&=', $ARGV[0]; accept(C, S); print 'got ', <C>;\n",
        );
    };
    tells(
        lay,
        "perl inetd > out & perl client second; wait; rm -f asked; cat out",
    );
}
