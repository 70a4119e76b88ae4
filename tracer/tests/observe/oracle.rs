//! What `strace -f` sees of a command is a subset of what is told of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::Case;
use crate::host::{Seen, observe};

pub const ALL: &[Case] = &[
    ("strace_of_tools", |backend| {
        compare(backend, &["sh", "-c", TOOLS]);
    }),
    ("strace_of_cc", |backend| {
        compare(backend, &["sh", "-c", CC]);
    }),
    ("strace_of_python", |backend| {
        compare(backend, &["sh", "-c", PYTHON]);
    }),
    ("strace_of_make", |backend| {
        compare(backend, &["make", "-j2"]);
    }),
];

const TOOLS: &str = "cat in/*; ls -lR . >/dev/null; grep -r x in; sed -i s/x/y/ in/one; \
    find . -name two; test -e none; test -e in/one/none; cp -p in/one copy; cp -r in twice; \
    ln -s in/one l; ln -s nowhere n; cat l; test -e n; test -e no/such; ln l hard; mv copy moved; \
    touch -d yesterday moved; tar cf t.tar in; mkdir out; tar xf t.tar -C out; readlink -f l; \
    stat l >/dev/null; dd if=in/one of=dd 2>/dev/null; head -c 3 <in/two; exec /bin/true";

const CC: &str = "echo '#include <stdio.h>\nint main(void) { puts(\"hi\"); }' >m.c; \
    cc -O2 -I in -I none -c m.c && cc -static -o m m.o && ./m && cc -o m m.o && ./m";

const PYTHON: &str = "/usr/bin/python3 -c 'import json, os, subprocess, tempfile\n\
    os.makedirs(\"p/q\")\n\
    fd = os.open(\"p\", os.O_RDONLY)\n\
    os.open(\"q/made\", os.O_CREAT | os.O_WRONLY, dir_fd=fd)\n\
    os.rename(\"q/made\", \"moved\", src_dir_fd=fd, dst_dir_fd=fd)\n\
    print(os.listdir(fd), os.stat(\"moved\", dir_fd=fd).st_size)\n\
    subprocess.run([\"cat\", \"in/one\"], check=True)'";

fn furnish(dir: &Path) {
    fs::create_dir(dir.join("in")).unwrap();
    fs::write(dir.join("in/one"), "one x\n").unwrap();
    fs::write(dir.join("in/two"), "two\n").unwrap();
    let makefile = "all: a b\na: in/one\n\tcp $< $@\nb: in/two a\n\tcat $^ >$@\n-include none.mk\n";
    fs::write(dir.join("Makefile"), makefile).unwrap();
}

fn compare(backend: &str, command: &[&str]) {
    let theirs = strace(command);
    let seen = observe(backend, furnish, command);
    assert_eq!(seen.status, 0, "{}", seen.text());
    seen.expect_not("taint").expect_not("exec failed");
    let ours = told(&seen);
    let missed: Vec<_> = theirs.difference(&ours).collect();
    assert!(
        missed.is_empty(),
        "{} of {} missed: {missed:#?}",
        missed.len(),
        theirs.len()
    );
    assert!(theirs.len() > 30, "{theirs:?}");
}

/// All paths in what was told.
fn told(seen: &Seen) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (_, what) in &seen.told {
        let mut words = what.as_str();
        if let Some(exec) = what.strip_prefix("exec ") {
            paths.insert(plain(exec.split(' ').next().unwrap(), seen.dir.path()));
        }
        while let Some((_, rest)) = words.split_once('"') {
            let Some((path, rest)) = rest.split_once('"') else {
                break;
            };
            paths.insert(plain(path, seen.dir.path()));
            words = rest;
        }
    }
    paths
}

/// Paths relative to the directory, without what is different in each run.
fn plain(path: &str, dir: &Path) -> String {
    let path = Path::new(path);
    let path = path.strip_prefix(dir).unwrap_or(path);
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let random = (name.starts_with("cc") && path.starts_with("/tmp"))
        || (name.starts_with("sed") && name.len() == 9);
    if !random {
        return path.display().to_string();
    }
    format!(
        "random.{}",
        path.extension().unwrap_or_default().to_string_lossy()
    )
}

fn strace(command: &[&str]) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    furnish(dir.path());
    let log = state.path().join("log");
    let output = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-s",
            "4096",
            "-e",
            "trace=%file",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(&log)
        .args(command)
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SELF", std::env::current_exe().unwrap())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let mut cwd = dir.path().to_path_buf();
    let mut paths = BTreeSet::new();
    for line in text.lines() {
        let Some((_, call)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let Some((name, args)) = call.split_once('(') else {
            continue;
        };
        // The text of a symbolic link is no path that is looked at; getcwd has no path.
        if name == "getcwd" || call.starts_with('<') {
            continue;
        }
        let args = args.split(" = ").next().unwrap();
        let mut rest = args;
        let mut base = cwd.clone();
        let mut skip = name.starts_with("symlink");
        let mut names = 0;
        let most = if name.starts_with("rename") || name.starts_with("link") {
            2
        } else {
            1
        };
        while let Some(at) = rest.find(['<', '"']) {
            let (open, tail) = rest[at..].split_at(1);
            let Some(end) = tail.find(if open == "<" { '>' } else { '"' }) else {
                break;
            };
            let text = &tail[..end];
            rest = &tail[end + 1..];
            if open == "<" {
                base = PathBuf::from(text);
                continue;
            }
            if skip {
                skip = false;
                continue;
            }
            if text.is_empty() || text.starts_with("/proc/self") || names == most {
                continue;
            }
            names += 1;
            paths.insert(plain(&first_missing(&base.join(text)), dir.path()));
        }
        if name == "chdir" {
            cwd = PathBuf::from(args.split('"').nth(1).unwrap_or_default());
        }
    }
    paths
}

/// The path without links but in its last name, or as far as it goes.
fn first_missing(path: &Path) -> String {
    let mut at = PathBuf::from("/");
    let parts: Vec<_> = path.components().collect();
    let n_names = parts.len();
    for (n, part) in parts.into_iter().enumerate() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            Component::ParentDir => drop(at.pop()),
            Component::Normal(name) => at.push(name),
        }
        if n + 1 == n_names {
            break;
        }
        match fs::canonicalize(&at) {
            Ok(real) if real.is_dir() => at = real,
            Ok(real) => return real.display().to_string(),
            Err(_) => break,
        }
    }
    at.display().to_string()
}
