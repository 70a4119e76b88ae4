//! The project's own documents, tables and programs by the program itself.

use crate::run::Cmd;
use crate::space::TestSpace;
use std::path::Path;

fn own(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The reference, the manual pages and the table of a measurement, by the rules of the repository.
#[test]
fn documents_and_tables_by_rules() {
    let s = TestSpace::new();
    for name in ["Rfsfile", "tests/bench/report.py"] {
        s.write(name, own(name));
    }
    s.mkdir("target/debug");
    s.must(Cmd::new([
        "ln",
        "-s",
        s.program().to_str().unwrap(),
        "target/debug/rfs",
    ]));
    s.build("docs")
        .ran(&["docs docs", "manual", "reference target/doc/reference.md"]);
    assert_eq!(s.read("target/doc/reference.md"), own("doc/reference.md"));
    assert!(s.read("target/man/rfs.1").contains(".TH"));
    assert!(s.exists("target/man/rfs-build.1"));
    s.build("docs").ran(&[]).served(&[]);

    let sample = |s: f64| format!("{{\"s\": {s}, \"noise\": 0.01}}");
    let samples = |bare: f64, first: f64| {
        format!(
            "{{\"schema\": \"rfs.bench/1\", \"projects\": [{{\"name\": \"lua\", \"notes\": [\"a note\"], \
             \"samples\": {{\"bare\": [{}], \"first\": [{}]}}}}]}}",
            sample(bare),
            sample(first)
        )
    };
    s.write("target/run.json", samples(2.0, 3.0));
    s.build("target/tables/run.md")
        .ran(&["table target/tables/run.md"]);
    let table = s.read("target/tables/run.md");
    for line in [
        "| lua | bare | 2.000 [2.000-2.000] |  | 1% |",
        "| 1.500 | 1% |",
        "- lua: a note",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
    s.build("target/tables/run.md").ran(&[]);
    s.write("target/run.json", samples(2.0, 5.0));
    s.build("target/tables/run.md")
        .ran(&["table target/tables/run.md"]);
    assert!(s.read("target/tables/run.md").contains("| 2.500 |"));
    s.write("target/run.json", "{}");
    s.build("target/tables/run.md").failed(&["exit status 1"]);
}

/// The program builds itself: `cargo build` under watch makes what cargo makes, and in a fresh tree it is
/// served. The short form builds its preload library alone, for all of it takes minutes.
#[test]
fn the_program_builds_itself() {
    let s = TestSpace::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let parts = "Cargo.toml Cargo.lock src fs tracer tests doc";
    let copy = format!("tar -C {root} --exclude=target -cf - {parts} | tar -xf -");
    let copied = std::process::Command::new("sh")
        .args(["-c", &copy])
        .current_dir(s.ws())
        .status();
    assert!(copied.unwrap().success());
    let long = std::env::var_os("RFS_LONG").is_some();
    let what = match long {
        true => "--bin rfs",
        false => "-p rfs-preload",
    };
    let toolchain = Path::new(env!("CARGO")).parent().unwrap();
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap()));
    let cargo = Cmd::from(&*format!("cargo build --offline --locked --quiet {what}"))
        .env("PATH", format!("{}:/usr/bin:/bin", toolchain.display()))
        .env("CARGO_HOME", home)
        .env("CARGO_INCREMENTAL", "0");
    let _first = s.rfs(cargo.clone()).expect_code(0).expect_ran();
    let again = || {
        s.remove("target");
        s.rfs(cargo.clone()).expect_code(0)
    };
    // The first one has also written what cargo keeps beside the crates that it has read.
    let _settles = again();
    let _served = again().expect_hit();
    if long {
        let version = s.bare("target/debug/rfs --version").expect_code(0).out();
        assert!(version.starts_with("rfs "), "{version}");
    } else {
        assert!(s.exists("target/debug/librfs_preload.rlib"));
    }
}
