//! What packages are made of: manual pages, completions, version, units and configuration agree with the
//! program. Whether a package can be built, installed and removed is for tests/package.sh.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make their own files, and fail at whatever is not as they made it"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const RFS: &str = env!("CARGO_BIN_EXE_rfs");

fn rfs(words: &[&str]) -> String {
    let run = Command::new(RFS).args(words).output().unwrap();
    assert!(run.status.success(), "{words:?} {run:?}");
    String::from_utf8(run.stdout).unwrap()
}

/// A file or directory of the repository.
fn ours(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(ours(name)).unwrap()
}

/// The commands that a help text lists, but for `help` itself.
fn commands(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = below.take_while(|line| line.starts_with(' '));
    names
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

/// Every command of the program and every one below it: `cache`, `cache gc`.
fn all_commands() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for name in commands(&rfs(&["--help"])) {
        for below in commands(&rfs(&[&name, "--help"])) {
            all.push(vec![name.clone(), below]);
        }
        all.push(vec![name]);
    }
    assert!(all.len() > 15, "{all:?}");
    all
}

#[test]
fn every_command_has_a_manual_page_and_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let _quiet = rfs(&["manual", dir.path().to_str().unwrap()]);
    let shells = ["bash", "zsh", "fish"].map(|shell| (shell, rfs(&["completions", shell])));
    for words in all_commands() {
        let name = format!("rfs-{}.1", words.join("-"));
        let page = fs::read_to_string(dir.path().join(&name)).expect(&name);
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
        for (shell, script) in &shells {
            assert!(script.contains(words.last().unwrap()), "{shell}: {words:?}");
        }
    }
    assert!(dir.path().join("rfs.1").exists());
    // Where a file is wanted, files are offered, and commands where a command is.
    let zsh = &shells[1].1;
    let place = zsh.find("'::subject").or_else(|| zsh.find("':subject"));
    let line = zsh[place.expect("a subject")..].lines().next().unwrap();
    assert!(line.contains("_files"), "{line}");
    let line = zsh
        .lines()
        .find(|line| line.contains("command -- The command and its"))
        .unwrap();
    assert!(line.contains("_cmdambivalent"), "{line}");
    let mut check = Command::new("bash");
    let checked = check.arg("-nc").arg(&shells[0].1).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// The completed words of a command line in bash, whose last word is incomplete.
fn completed(line: &str, dir: &Path) -> BTreeSet<String> {
    let script = rfs(&["completions", "bash"]);
    let words: Vec<_> = line.split(' ').collect();
    let at = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=({line}); COMP_WORDS[{at}]='{}'; COMP_CWORD={at}\n\
         _rfs_and_targets rfs '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words[at],
        words[at],
        words[at - 1]
    );
    let path = format!(
        "{}:/usr/bin:/bin",
        Path::new(RFS).parent().unwrap().display()
    );
    let mut bash = Command::new("bash");
    let run = bash.args(["-c", &ask]).env("PATH", path).current_dir(dir);
    let run = run.output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    told.lines().map(str::to_owned).collect()
}

/// A workspace with rules.
fn with_rules() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".git")).unwrap();
    fs::create_dir_all(dir.path().join("out/deep")).unwrap();
    let rules = "rule('a', targets = 'out/alpha', cmd = 'echo > {target}')\n\
                 rule('b', targets = 'out/beta', cmd = 'echo > {target}')\n\
                 rule('c', targets = 'out/{n}.c', cmd = 'echo > {target}')\n";
    fs::write(dir.path().join("Rfsfile"), rules).unwrap();
    dir
}

/// What a shell prints that is given a script, with rfs in its PATH.
fn told_by(shell: &[&str], script: &str, dir: &Path) -> String {
    let path = Path::new(RFS).parent().unwrap().display().to_string();
    let mut shell = Command::new(shell[0])
        .args(&shell[1..])
        .current_dir(dir)
        .env("PATH", path + ":/usr/bin:/bin")
        .env("HOME", dir)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut typed = shell.stdin.take().unwrap();
    typed.write_all(script.as_bytes()).unwrap();
    drop(typed);
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn fish_completes_commands_options_and_targets() {
    let dir = with_rules();
    fs::write(dir.path().join("rfs.fish"), rfs(&["completions", "fish"])).unwrap();
    let offered = |line: &str| {
        let script = format!("source rfs.fish\ncomplete -C '{line}'\n");
        let told = told_by(&["fish", "-N"], &script, dir.path());
        let names = told
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(offered("rfs wh"), ["why", "why-miss"]);
    assert_eq!(offered("rfs build --str"), ["--strict", "--strict-clock"]);
    assert_eq!(offered("rfs build out/a"), ["out/alpha"]);
    assert!(!offered("rfs log out/a").contains(&"out/alpha".to_owned()));
}

/// In a terminal, as somebody types it, who has just logged in.
#[test]
fn zsh_completes_commands_options_and_targets() {
    let dir = with_rules();
    fs::create_dir(dir.path().join("functions")).unwrap();
    fs::write(
        dir.path().join("functions/_rfs"),
        rfs(&["completions", "zsh"]),
    )
    .unwrap();
    let script = "PS1=; fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D\n\
                  rfs() { case $1 in rules) command rfs \"$@\" ;; *) print -r -- \"GOT $*.\" ;; esac }\n\
                  rfs build out/al\t\n\
                  rfs build out/be\t\n\
                  rfs build --strict-c\t\n\
                  rfs why-m\tx\n\
                  rfs log out/al\t\n\
                  exit\n";
    let told = told_by(
        &["script", "-qec", "zsh -f -i", "/dev/null"],
        script,
        dir.path(),
    );
    let got = told
        .lines()
        .filter_map(|line| line.trim().strip_prefix("GOT "));
    assert_eq!(
        got.collect::<Vec<_>>(),
        [
            "build out/alpha.",
            "build out/beta.",
            "build --strict-clock.",
            "why-miss x.",
            "log out/al."
        ],
        "{told}"
    );
}

#[test]
fn targets_are_completed() {
    let dir = with_rules();
    let offered = |line: &str, dir: &Path| completed(line, dir);
    let targets = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let found = offered("rfs build out/a", dir.path());
    assert_eq!(found, targets(&["out/alpha"]));
    let found = offered("rfs build be", &dir.path().join("out"));
    assert_eq!(found, targets(&["beta"]), "relative to where one is");
    let found = offered("rfs build --str", dir.path());
    assert!(
        found.contains("--strict") && !found.contains("out/alpha"),
        "{found:?}"
    );
    assert!(offered("rfs log out/a", dir.path()).is_disjoint(&targets(&["out/alpha"])));
    // What a pattern stands for is known once it was made.
    let cache = dir.path().join("cache");
    let mut build = Command::new(RFS);
    build
        .args(["build", "-q", "out/x.c"])
        .current_dir(dir.path());
    let built = build.env("RFS_CACHE_DIR", &cache).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    assert_eq!(
        offered("rfs build out/x", dir.path()),
        targets(&["out/x.c"])
    );
}

#[test]
fn the_packages_version_is_the_programs() {
    let first = text("debian/changelog").lines().next().unwrap().to_owned();
    let version = first.split(['(', ')']).nth(1).unwrap();
    let (upstream, _revision) = version.rsplit_once('-').unwrap();
    assert_eq!(format!("rfs {upstream}"), rfs(&["--version"]).trim());
}

/// Who changes Cargo.lock runs `python3 debian/copyright.py`.
#[test]
fn the_copyright_names_every_crate() {
    let copyright = text("debian/copyright");
    let named: BTreeSet<&str> = copyright
        .lines()
        .filter_map(|line| line.strip_prefix(" vendor/")?.strip_suffix("-*"))
        .collect();
    let lock = text("Cargo.lock");
    let packages = lock.split("[[package]]").skip(1);
    let linked: BTreeSet<&str> = packages
        .filter(|package| package.contains("\nsource = "))
        .map(|package| package.split('"').nth(1).unwrap())
        .collect();
    assert_eq!(named, linked, "run python3 debian/copyright.py");
}

/// The units as installed, with the program that was built just now in the place of the installed one.
#[test]
fn units_are_well_formed() {
    for (kind, flag) in [("system", "--system"), ("user", "--user")] {
        let dir = tempfile::tempdir().unwrap();
        let mut units = Vec::new();
        for entry in fs::read_dir(ours("debian/systemd").join(kind)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let unit = text(&format!("debian/systemd/{kind}/{name}"));
            for line in unit.lines().filter(|line| line.starts_with("ExecStart=")) {
                let words = line.split_once('=').unwrap().1.split(' ');
                assert!(line.starts_with("ExecStart=/usr/bin/rfs "), "{line}");
                let words: Vec<_> = words.skip(1).take_while(|w| !w.starts_with('-')).collect();
                let words: Vec<_> = words.into_iter().filter(|w| !w.starts_with('%')).collect();
                let known: Vec<_> = all_commands().iter().map(|words| words.join(" ")).collect();
                assert!(
                    known.contains(&words.join(" ")),
                    "{name}: no command {words:?}"
                );
            }
            fs::write(dir.path().join(&name), unit.replace("/usr/bin/rfs", RFS)).unwrap();
            // An instance of a template is its file by another name.
            let instance = name.replace('@', "@root");
            if instance != name {
                let _link = std::os::unix::fs::symlink(&name, dir.path().join(&instance));
            }
            units.push(dir.path().join(instance));
        }
        assert!(units.len() >= 3, "{units:?}");
        let mut verify = Command::new("systemd-analyze");
        verify
            .args(["verify", flag, "--man=no", "--recursive-errors=one"])
            .args(&units);
        let Output {
            status,
            stdout,
            stderr,
        } = verify
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
            .env("XDG_RUNTIME_DIR", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(
            status.success() && !said.contains(&*dir.path().to_string_lossy()),
            "{said}"
        );
    }
}

/// The package's configuration says nothing, as installed; each of its proposals is known.
#[test]
fn the_configuration_that_is_installed_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let installed = text("debian/config.toml");
    let proposed: String = installed
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(proposed.lines().filter(|line| line.contains(" = ")).count() > 4);
    for config in [installed, proposed] {
        fs::create_dir_all(dir.path().join("rfs")).unwrap();
        fs::write(dir.path().join("rfs/config.toml"), config).unwrap();
        let run = Command::new(RFS)
            .args(["cache", "stats"])
            .env("XDG_CONFIG_HOME", dir.path())
            .env("HOME", dir.path())
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");
    }
}
