//! What the documents tell users to type is typed, and what they show is what is printed.
//!
//! A block `console` has commands (`$ `, continued by `> `) and what they print: a line `...` stands for any
//! lines, `...` within a line for any text, and a time for any time.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make their own files, and fail at whatever is not as they made it"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The fenced blocks of a document: what follows the fence, and the lines in it.
fn blocks(document: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut is_open = false;
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(kind) => {
                is_open = true;
                blocks.push((kind.to_owned(), Vec::new()));
            }
            None if is_open => blocks.last_mut().unwrap().1.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!is_open, "a block has no end");
    blocks
}

/// A command, and what is to be printed.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    command: String,
    printed: Vec<String>,
}

fn typed(lines: &[String]) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            let (command, printed) = (command.to_owned(), Vec::new());
            all.push(Typed { command, printed });
            continue;
        }
        let last = all.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if last.printed.is_empty() => {
                last.command.push('\n');
                last.command.push_str(more);
            }
            _ => last.printed.push(line.clone()),
        }
    }
    all
}

/// With `T` in the place of each time: a number with a point before ` s`, as `0.04 s`.
fn without_times(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let is_time = |at: usize| {
        words[at].contains('.')
            && words[at].parse::<f64>().is_ok()
            && words
                .get(at + 1)
                .is_some_and(|unit| unit.trim_end_matches(';') == "s")
    };
    let shown = (0..words.len()).map(|at| if is_time(at) { "T" } else { words[at] });
    shown.collect::<Vec<_>>().join(" ")
}

fn line_fits(wanted: &str, found: &str) -> bool {
    let (wanted, found) = (without_times(wanted), without_times(found));
    match wanted.split_once("...") {
        Some((start, end)) => {
            found.len() >= start.len() + end.len()
                && found.starts_with(start)
                && found.ends_with(end)
        }
        None => wanted == found,
    }
}

fn fits(wanted: &[String], found: &[&str]) -> bool {
    match wanted.split_first() {
        None => found.is_empty(),
        Some((any, rest)) if any == "..." => (0..=found.len()).any(|n| fits(rest, &found[n..])),
        Some((first, rest)) => {
            found.first().is_some_and(|line| line_fits(first, line)) && fits(rest, &found[1..])
        }
    }
}

/// Types all commands into one shell in a new home. Gives what each printed.
fn run(commands: &[Typed]) -> Vec<String> {
    const MARK: &str = "\u{1}end of command\u{1}";
    let home = tempfile::tempdir().unwrap();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rfs"), bin.join("rfs")).unwrap();
    let mut script = "exec 2>&1\n".to_owned();
    for typed in commands {
        script.push_str(&format!("{}\necho '{MARK}'\n", typed.command));
    }
    let ran = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("HOME", home.path())
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(ran.stderr.is_empty(), "{ran:?}");
    let all = String::from_utf8(ran.stdout).unwrap();
    let mut printed: Vec<_> = all.split(&format!("{MARK}\n")).map(str::to_owned).collect();
    assert_eq!(
        printed.pop().as_deref(),
        Some(""),
        "the shell ended early: {all}"
    );
    printed
}

#[test]
fn the_tutorial_prints_what_it_says() {
    prints_what_it_says("doc/tutorial.md", 25);
}

#[test]
fn the_guide_prints_what_it_says() {
    prints_what_it_says("doc/guide.md", 25);
}

/// Runs a document of at least so many commands.
fn prints_what_it_says(name: &str, at_least: usize) {
    let document = text(name);
    let all = blocks(&document);
    assert!(
        all.iter().all(|(kind, _)| kind == "console"),
        "a block that is not run"
    );
    let commands: Vec<_> = all.iter().flat_map(|(_, lines)| typed(lines)).collect();
    assert!(commands.len() >= at_least, "{}", commands.len());
    let printed = run(&commands);
    assert_eq!(printed.len(), commands.len());
    for (typed, printed) in commands.iter().zip(&printed) {
        let lines: Vec<_> = printed.lines().collect();
        let wanted = typed.printed.join("\n");
        assert!(
            fits(&typed.printed, &lines),
            "$ {}\nshould print\n{wanted}\nbut printed\n{printed}",
            typed.command
        );
    }
}

/// The targets of a document's links.
fn links(document: &str) -> Vec<&str> {
    let ends = document.split("](").skip(1);
    ends.filter_map(|rest| rest.split(')').next()).collect()
}

/// The set is whole: every page is in the summary, and every link of every page leads somewhere.
#[test]
fn every_page_is_in_the_summary_and_every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let summary = text("doc/SUMMARY.md");
    let listed = links(&summary);
    let mut n_pages = 0;
    for page in fs::read_dir(root.join("doc")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".md") {
            continue;
        }
        n_pages += 1;
        assert!(
            name == "SUMMARY.md" || listed.contains(&name.as_str()),
            "{name} is not in the summary"
        );
    }
    assert!(n_pages > 15);
    let mut pages: Vec<_> = listed.iter().map(|page| format!("doc/{page}")).collect();
    pages.push("doc/SUMMARY.md".to_owned());
    for page in pages {
        let document = text(&page);
        for link in links(&document) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            let target = root.join(&page).parent().unwrap().join(path);
            assert!(target.exists(), "{page}: {link}");
        }
    }
}

#[test]
fn the_reference_is_of_these_commands() {
    let printed = Command::new(env!("CARGO_BIN_EXE_rfs"))
        .args(["manual", "--reference"])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(
        text("doc/reference.md"),
        printed,
        "make it anew: rfs manual --reference >doc/reference.md"
    );
    for word in [
        "## `rfs build`",
        "## `rfs cache gc`",
        "`--progress WHEN`",
        "`notify`",
    ] {
        assert!(printed.contains(word), "{word}");
    }
    assert!(!printed.contains("guard-jobs"));
}

/// What the program itself says that it knows is told, and nothing else.
#[test]
fn every_key_of_the_configuration_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let known = |text: &str| -> Vec<String> {
        fs::write(dir.path().join("rfs.toml"), text).unwrap();
        let rfs = Command::new(env!("CARGO_BIN_EXE_rfs"))
            .args(["build", "true"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8(rfs.stderr).unwrap();
        let (_, known) = told.split_once("known here: ").unwrap();
        known.trim().split(", ").map(str::to_owned).collect()
    };
    let page = text("doc/configuration.md");
    let mut n_keys = 0;
    for table in known("[a-table-of-no-name]\n") {
        for key in known(&format!("[{table}]\nkey-of-no-name-at-all = 1\n")) {
            let row = match table.as_str() {
                "tools" => format!("\n| `{key}` |"),
                _ => format!("\n| `[{table}]` `{key}` |"),
            };
            assert!(page.contains(&row), "{row}");
            n_keys += 1;
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(rows.count(), n_keys);
}

/// Each command of README's that is no command of the tutorial's is run by whoever is named here.
#[test]
fn the_commands_of_the_readme_are_run() {
    const ELSEWHERE: [(&str, &str); 5] = [
        ("sh doc/try.sh", ".ci/run"),
        ("sh tests/run.sh", ".ci/run"),
        ("dpkg-buildpackage -us -uc -b", "docker/validate.sh"),
        (
            "apt-get -q install -y --no-install-recommends \"$deb\"",
            "docker/validate.sh",
        ),
        ("cargo build --locked --release", "doc/try.sh"),
    ];
    for (command, script) in ELSEWHERE {
        assert!(
            text(script).contains(command),
            "{script} does not run {command}"
        );
    }
    let known = [
        "sh doc/try.sh",
        "sh tests/run.sh",
        "dpkg-buildpackage -us -uc -b",
        "apt-get install ../rfs_*.deb",
        "cargo build --locked --release",
        "rfs build -- make",
        "rfs doctor",
    ];
    let readme = text("README.md");
    let mut n_commands = 0;
    for (kind, lines) in blocks(&readme) {
        // What try.sh printed is not typed.
        if kind == "text" {
            continue;
        }
        assert_eq!(kind, "sh", "a block without its kind");
        for line in lines
            .iter()
            .map(|line| line.split('#').next().unwrap().trim())
        {
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            let is_known = known.iter().any(|known| line.starts_with(known));
            assert!(is_known || line.starts_with("cd "), "nobody runs: {line}");
            n_commands += 1;
        }
    }
    assert!(n_commands > 5);
}

#[test]
fn times_and_dots_fit() {
    let line = "rfs: 1 step: 1 hit; 0.20 s of work saved; 0.02 s";
    assert!(line_fits(
        line,
        "rfs: 1 step: 1 hit; 7.31 s of work saved; 12.00 s"
    ));
    assert!(!line_fits(
        line,
        "rfs: 1 step: 0 hit; 0.20 s of work saved; 0.02 s"
    ));
    let wanted = ["a".to_owned(), "...".to_owned(), "x...z".to_owned()];
    assert!(fits(&wanted, &["a", "b", "c", "xyz"]) && fits(&wanted, &["a", "xz"]));
    assert!(!fits(&wanted, &["a", "b", "xy"]) && !fits(&wanted, &["b", "xz"]));
}
