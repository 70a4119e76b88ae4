//! Which probe of a configure script decided what: a script of autoconf that runs, is served, and is served in
//! a checkout that knows nothing.

use super::{ask, json};
use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;

const CONFIGURE_AC: &str = "\
AC_INIT([odd],[1])\n\
AC_CONFIG_HEADERS([config.h])\n\
AC_CONFIG_FILES([Makefile])\n\
AC_PROG_CC\n\
AC_CHECK_HEADERS([sys/nowhere.h sys/epoll.h])\n\
AC_CHECK_FUNCS([posix_fadvise])\n\
AC_CHECK_SIZEOF([long])\n\
AC_SEARCH_LIBS([cos],[m])\n\
AC_DEFINE([ALWAYS],[7],[Not asked for])\n\
AC_OUTPUT\n";

fn project() -> TestSpace {
    let s = TestSpace::new();
    s.write("configure.ac", CONFIGURE_AC);
    s.write("Makefile.in", "LIBS = @LIBS@\nall:\n");
    let _made = s.bare(Cmd::new(["autoreconf", "-i"])).expect_code(0);
    s
}

fn configure(s: &TestSpace) {
    let _ran = s.rfs(Cmd::sh("./configure >/dev/null")).expect_code(0);
}

fn why(s: &TestSpace, symbol: &str) -> Value {
    let why = json(s, &["why", "--configure", symbol]);
    assert_eq!(why["schema"], "rfs.why-configure/1");
    why
}

/// What is the same however the script came to its results.
fn check(s: &TestSpace) {
    let none = why(s, "HAVE_SYS_NOWHERE_H");
    assert_eq!(none["value"], Value::Null, "{none:#}");
    assert_eq!(
        (&none["how"], &none["probe"][0]["status"]),
        (&"asks".into(), &1.into()),
        "{none:#}"
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(
        text(&none["source"]).contains("#include <sys/nowhere.h>"),
        "{none:#}"
    );
    assert!(!text(&none["source"]).contains("PACKAGE_NAME"), "{none:#}");
    assert!(
        text(&none["probe"][0]["printed"]).contains("sys/nowhere.h: No such file"),
        "{none:#}"
    );
    let arguments: Vec<String> = none["probe"][0]["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(arguments, ["gcc", "-c", "-g", "-O2", "conftest.c"]);
    assert_eq!(none["found"][0]["path"], "config.h", "{none:#}");
    assert!(
        text(&none["found"][0]["text"]).contains("#undef HAVE_SYS_NOWHERE_H"),
        "{none:#}"
    );
    assert!(
        text(&none["found"][0]["writer"]).contains("config"),
        "{none:#}"
    );
    assert_eq!(
        none["log"]["question"], "checking for sys/nowhere.h",
        "{none:#}"
    );
    assert_eq!(none["log"]["result"], "no", "{none:#}");

    let there = why(s, "HAVE_SYS_EPOLL_H");
    assert_eq!(
        (&there["value"], &there["probe"][0]["status"]),
        (&"1".into(), &0.into()),
        "{there:#}"
    );
    assert!(
        text(&there["source"]).contains("#include <sys/epoll.h>"),
        "{there:#}"
    );
    let places = there["found"].to_string();
    assert!(
        places.contains("D[\\\"HAVE_SYS_EPOLL_H"),
        "config.status: {places}"
    );

    let libs = why(s, "LIBS");
    assert_eq!(
        (&libs["value"], &libs["how"]),
        (&"-lm".into(), &"uses".into()),
        "{libs:#}"
    );
    assert!(
        libs["probe"][0]["arguments"]
            .to_string()
            .contains("\"-lm\""),
        "{libs:#}"
    );
    assert!(libs["found"].to_string().contains("Makefile"), "{libs:#}");

    // The flag itself, by the same probe.
    let flag = why(s, "-lm");
    assert_eq!(
        (&flag["value"], &flag["how"]),
        (&"-lm".into(), &"uses".into())
    );
    assert_eq!(flag["probe"], libs["probe"]);
    assert!(flag["found"].to_string().contains("LIBS = -lm"), "{flag:#}");

    // Nobody is made responsible for what was not asked for.
    let always = why(s, "ALWAYS");
    assert_eq!(
        (&always["value"], &always["how"]),
        (&"7".into(), &Value::Null),
        "{always:#}"
    );
    assert_eq!(always["probe"], serde_json::json!([]));
}

#[test]
fn what_a_configure_script_found_is_followed_to_its_probe() {
    let s = project();
    configure(&s);
    check(&s);
    let size = why(&s, "SIZEOF_LONG");
    assert_eq!(size["value"], "8", "{size:#}");
    assert_eq!(
        size["probe"][1]["arguments"],
        serde_json::json!(["./conftest"]),
        "{size:#}"
    );
    let step = &size["probe"][0]["step"];
    assert_eq!(
        (&step["run"], &step["verdict"]),
        (&1.into(), &"ran".into()),
        "{size:#}"
    );
    let text = ask(&s, &["why", "--configure", "HAVE_SYS_NOWHERE_H"]);
    assert!(text.contains("\n  | #include <sys/nowhere.h>\n"), "{text}");
    let unknown = s
        .tool(&["why", "--configure", "NOBODY_ASKED"])
        .expect_code(125);
    assert!(unknown.err().contains("NOBODY_ASKED"), "{unknown:?}");

    // Served as a whole, here and where nothing is known but by the cache.
    let made = ["config.h", "config.log", "config.status", "Makefile"];
    made.iter().for_each(|made| s.remove(made));
    let _whole = s.rfs(Cmd::sh("./configure >/dev/null")).expect_hit();
    check(&s);
    made.iter().for_each(|made| s.remove(made));
    s.remove(".rfs");
    let _whole = s.rfs(Cmd::sh("./configure >/dev/null")).expect_hit();
    check(&s);
    assert_eq!(why(&s, "LIBS")["probe"][0]["step"], Value::Null);

    // Probes that are served when the script runs.
    s.append("configure", "# changed\n");
    configure(&s);
    check(&s);
    let step = why(&s, "HAVE_SYS_NOWHERE_H")["probe"][0]["step"].clone();
    assert_eq!(step["verdict"], "hit", "{step:#}");
}

#[test]
fn the_oldest_of_many_probes_is_known_from_the_cache_alone() {
    let s = TestSpace::new();
    s.write(
        "configure",
        "for n in $(seq 100 179); do\n\
         printf '.globl probe_%s\\n.error \"no %s\"\\n' $n $n >conftest.s\n\
         as -o conftest.o conftest.s\n\
         rm conftest.s\n\
         done\n\
         echo '/* #undef HAVE_PROBE_100 */' >config.h\n",
    );
    let _ran = s.rfs(Cmd::new(["sh", "configure"])).expect_code(0);
    ["config.h", ".rfs"].iter().for_each(|made| s.remove(made));
    let _whole = s.rfs(Cmd::new(["sh", "configure"])).expect_hit();
    // The cache looks for something to serve among 64 of them.
    for n in [100, 115, 116, 179] {
        let known = why(&s, &format!("HAVE_PROBE_{n}"));
        assert_eq!(known["how"], "asks", "{known:#}");
        let probe = &known["probe"][0];
        assert_eq!(probe["status"], 1, "{known:#}");
        assert_eq!(probe["arguments"][0], "as", "{known:#}");
        let printed = probe["printed"].as_str().unwrap();
        assert!(printed.contains(&format!("no {n}")), "{known:#}");
    }
}
