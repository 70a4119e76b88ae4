//! What lies outside of a workspace: the packages that own it, as dpkg-query(1) tells them.

use super::{ask, each, json};
use crate::run::Cmd;
use crate::space::TestSpace;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// By path: packages that dpkg-query names, for the path or the one that it has without a merged `/usr`.
fn owners(paths: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut query = Command::new("dpkg-query");
    query.arg("-S").args(paths);
    query.args(paths.iter().filter_map(|path| path.strip_prefix("/usr")));
    let told = String::from_utf8(query.output().unwrap().stdout).unwrap();
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in told.lines().filter(|line| !line.starts_with("diversion")) {
        let (packages, path) = line.split_once(": ").unwrap();
        for package in packages.split(", ") {
            let package = package.split(':').next().unwrap().to_owned();
            for path in [path.to_owned(), format!("/usr{path}")] {
                owners.entry(path).or_default().insert(package.clone());
            }
        }
    }
    owners
}

fn version(package: &str) -> String {
    let mut query = Command::new("dpkg-query");
    let told = query.args(["-W", "-f", "${Version}", package]).output();
    String::from_utf8(told.unwrap().stdout).unwrap()
}

#[test]
fn what_lies_outside_is_told_with_its_package() {
    let s = TestSpace::new();
    s.write(
        "a.c",
        "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n",
    );
    let local = s.root().join("outside/local.h");
    std::fs::write(&local, "").unwrap();
    let local = local.to_str().unwrap();
    let _built = s
        .rfs(Cmd::new(["gcc", "-include", local, "-o", "a", "a.c"]))
        .expect_code(0);

    let deps = json(&s, &["deps", "a", "--outside"]);
    let inputs = deps["inputs"].as_array().unwrap();
    let is_file = |input: &&serde_json::Value| {
        let is = input["state"]["is"].as_str().unwrap();
        let path = input["path"].as_str().unwrap();
        // Links of a merged /usr are named by hundreds of packages.
        let is_merged = ["/bin", "/lib", "/lib64", "/sbin"].contains(&path);
        path.starts_with('/') && matches!(is, "file" | "link") && !is_merged
    };
    let files: BTreeMap<String, String> = inputs
        .iter()
        .filter(is_file)
        .map(|input| {
            let text = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
            (text("path"), text("package"))
        })
        .collect();
    assert!(files.len() > 20, "{deps:#}");
    let known = owners(&files.keys().cloned().collect());
    for (path, told) in &files {
        let owners = known.get(path).cloned().unwrap_or_default();
        let name = told.split(' ').next().unwrap_or_default();
        assert_eq!(
            owners.is_empty(),
            told.is_empty(),
            "{path}: {told:?}, dpkg: {owners:?}"
        );
        assert!(
            told.is_empty() || owners.contains(name),
            "{path}: {told:?}, dpkg: {owners:?}"
        );
    }
    assert_eq!(files[local], "");
    let header = &files["/usr/include/stdio.h"];
    assert_eq!(*header, format!("libc6-dev {}", version("libc6-dev")));
    // Only what was asked for is looked up.
    assert!(!json(&s, &["deps", "a"]).to_string().contains("\"package\""));

    let used = json(&s, &["deps", "a", "--packages"]);
    assert_eq!(used["schema"], "rfs.packages/1");
    let names: BTreeSet<String> = each(&used["packages"], "name").into_iter().collect();
    let owned = files.values().filter(|told| !told.is_empty());
    let expected: BTreeSet<String> = owned
        .map(|told| told.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, expected);
    let unowned: Vec<_> = used["unowned"].as_array().unwrap().iter().collect();
    assert!(unowned.iter().any(|path| *path == local), "{used:#}");
    let text = ask(&s, &["deps", "a", "-p"]);
    let line = format!("\n  libc6-dev {}: ", version("libc6-dev"));
    assert!(text.contains(&line), "{text}");
}
