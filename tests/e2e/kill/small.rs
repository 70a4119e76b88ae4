//! A project that is built in a tenth of a second, in a few versions, and what a build of it may leave
//! behind whenever it is cut short. Its steps make the same whatever an earlier build has left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::run::Cmd;
use crate::space::{Setting, TestSpace};
use crate::tree::Tree;

/// How many versions there are of the sources.
pub const VERSIONS: u64 = 4;

/// What it says at its end.
pub const SAID: &str = "built\n";

/// `out/big` and the like are made under another name and renamed: nobody may ever see a part of them.
const SCRIPTS: [(&str, &str); 7] = [
    (
        "build.sh",
        "set -e\nmkdir -p out\nsh copy.sh\nsh big.sh\nsh many.sh\n\
         case $1 in slow*) sh threads.sh slow;; *) sh threads.sh;; esac\ngcc -c m.c -o out/m.o\n\
         sh links.sh\nsh sum.sh\necho built\n",
    ),
    (
        "copy.sh",
        "set -e\ncp text out/copy\nsed s/line/LINE/ text > out/sed\n",
    ),
    (
        "big.sh",
        "set -e\nfor i in 1 2 3 4 5 6; do cat big; done > out/big.tmp\nmv out/big.tmp out/big\n",
    ),
    (
        "many.sh",
        "set -e\nmkdir -p out/many\nn=$(cat number)\nfor i in 1 2 3 4 5 6; do\n\
         echo \"$n $i\" > out/many/$i.tmp; mv out/many/$i.tmp out/many/$i\ndone\n",
    ),
    (
        "threads.sh",
        "set -e\npack() { xz -0 -T2 --block-size=128KiB; }\n\
         if test \"$1\"; then { cat big; sleep 0.3; } | pack > out/xz.tmp\n\
         else pack < big > out/xz.tmp; fi\nmv out/xz.tmp out/xz\n",
    ),
    (
        "links.sh",
        "set -e\nrm -f out/link out/hard\nln -s copy out/link\nln out/sed out/hard\n",
    ),
    (
        "sum.sh",
        "set -e\ncat out/copy out/many/1 out/big > out/all.tmp\nwc -c < out/all.tmp > out/sum.tmp\n\
         cat out/many/6 >> out/sum.tmp\nrm out/all.tmp\nmv out/sum.tmp out/sum\nchmod 750 out/sum\n",
    ),
];

/// The command. What `nonce` is makes no difference to what is built, but to what is served.
pub fn command(nonce: u64) -> Cmd {
    Cmd::new(["sh", "build.sh", &nonce.to_string()]).after("ulimit -c 0")
}

/// The same, where the program with threads has them for a while if it runs.
pub fn slow_command(nonce: u64) -> Cmd {
    Cmd::new(["sh", "build.sh", &format!("slow{nonce}")]).after("ulimit -c 0")
}

/// The sources of a version, by name.
fn sources(version: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all: BTreeMap<PathBuf, Vec<u8>> = SCRIPTS
        .iter()
        .map(|(name, text)| (name.into(), text.as_bytes().to_vec()))
        .collect();
    let text: String = (0..700)
        .map(|n| format!("line {n} of {version}\n"))
        .collect();
    all.insert("text".into(), text.into_bytes());
    let big: String = (0..15_000)
        .map(|n| format!("{version} {n} {n:x}\n"))
        .collect();
    all.insert("big".into(), big.into_bytes());
    all.insert("number".into(), format!("{version}\n").into_bytes());
    let c = format!("int m(void) {{ return {version}; }}\n");
    all.insert("m.c".into(), c.into_bytes());
    all
}

/// Makes the sources those of `version`; files that are so already are not touched.
pub fn edit(s: &TestSpace, version: u64) {
    for (name, content) in sources(version) {
        if fs::read(s.path(&name)).ok().as_ref() != Some(&content) {
            s.write(&name, content);
        }
    }
}

/// The same in another directory.
pub fn edit_at(dir: &Path, version: u64) {
    for (name, content) in sources(version) {
        fs::write(dir.join(name), content).unwrap();
    }
}

/// Fails unless `rfs cache verify` finds nothing wrong.
pub fn assert_whole_cache(s: &TestSpace, when: &str) {
    let run = s.tool(&["cache", "verify", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|error| panic!("{when}: {error}: {run:#?}"));
    assert_eq!(report["wrong"], serde_json::json!([]), "{when}: {run:#?}");
    assert_eq!(run.code(), 0, "{when}: {run:#?}");
}

/// What a whole bare build of each version makes.
#[derive(Debug)]
pub struct Bare {
    pub trees: Vec<Tree>,
    /// The outputs that are files.
    files: Vec<BTreeMap<PathBuf, Vec<u8>>>,
}

/// Done once for all tests.
pub fn bare(nobody: bool) -> &'static Bare {
    static ROOTS: OnceLock<Bare> = OnceLock::new();
    static NOBODYS: OnceLock<Bare> = OnceLock::new();
    let known = if nobody { &NOBODYS } else { &ROOTS };
    known.get_or_init(|| {
        let mut bare = Bare {
            trees: Vec::new(),
            files: Vec::new(),
        };
        for version in 0..VERSIONS {
            let s = TestSpace::with(Setting {
                nobody,
                ..Setting::default()
            });
            edit(&s, version);
            let run = s.bare(command(0)).expect_code(0);
            assert_eq!(run.out(), SAID);
            bare.trees.push(s.tree());
            let out = files(s.ws()).into_iter();
            bare.files
                .push(out.filter(|(path, _)| path.starts_with("out")).collect());
        }
        bare
    })
}

/// Every regular file under `root` but those of `.rfs`.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && entry.file_name() != ".rfs" {
                dirs.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Fails unless the workspace, with the sources of `version`, is one in which a bare build of any of the
/// versions could have been cut short.
pub fn assert_sound(s: &TestSpace, version: u64, bare: &Bare, when: &str) {
    let mut found = files(s.ws());
    for (name, content) in sources(version) {
        let now = found.remove(&name);
        assert!(
            now == Some(content),
            "{when}: the source {} has changed",
            name.display()
        );
    }
    for (path, content) in found {
        let shown = path.display();
        let whole = |files: &BTreeMap<PathBuf, Vec<u8>>| files.get(&path) == Some(&content);
        let part = |files: &BTreeMap<PathBuf, Vec<u8>>| {
            files
                .get(&path)
                .is_some_and(|all| all.starts_with(&content))
        };
        let sound = match path.to_str().unwrap() {
            "out/m.o" => true,
            "out/copy" | "out/sed" | "out/hard" => bare.files.iter().any(part),
            tmp if tmp.ends_with(".tmp") && tmp.starts_with("out/") => true,
            _ => bare.files.iter().any(whole),
        };
        assert!(
            sound,
            "{when}: {shown} is torn or nobody's: {} bytes, {:?}",
            content.len(),
            String::from_utf8_lossy(&content[..content.len().min(100)])
        );
    }
}
