//! A workspace whose build writes in all the ways there are: new files, files in place, appended ones,
//! links, directories, removals, modes, time stamps, output. Many of them cannot be done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// What the steps do.
const STEPS: [(&str, &str); 9] = [
    ("copy", "cat in > out/copy; cat in in in > out/thrice"),
    (
        "append",
        "cat in >> log; echo more >> log; cat in > out/after",
    ),
    (
        "move",
        "mv old out/moved; mkdir dir; mv in.2 dir/in; cat in > out/next",
    ),
    ("place", "cat in in > one; cat in > out/beside"),
    (
        "links",
        "ln -s copy out/link; cat in > out/own; ln out/own out/hard; mkfifo out/fifo",
    ),
    (
        "remove",
        "rm gone; rmdir empty; rm -r full; cat in > out/last",
    ),
    (
        "modes",
        "chmod 700 tool; chmod 2755 deep; touch -d @1000000000 stamp; cat in > out/done",
    ),
    (
        "turn",
        "rm was.file; mkdir was.file; cat in > was.file/x; rm -r was.dir; cat in > was.dir",
    ),
    ("say", "echo said; echo warned >&2; exit 3"),
];

/// The command, with what each step returns.
pub fn script() -> String {
    // What the command itself leaves is kept by one record only: nobody stores it anew if that went wrong.
    let mut script = "mkdir -p out; echo whole > out/whole\n".to_owned();
    for (name, _) in STEPS {
        script.push_str(&format!("sh -e {name}.sh; echo {name} $?\n"));
    }
    script
}

/// What is seen of one name: mode, number of names, a time stamp of long ago, content.
type Entry = (u32, u64, i64, String);

pub type Tree = BTreeMap<PathBuf, Entry>;

/// What differs, for people.
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let names = names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name));
    names
        .map(|name| {
            format!(
                "{}: {:?} and {:?}",
                name.display(),
                one.get(name),
                other.get(name)
            )
        })
        .collect()
}

#[derive(Debug)]
pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub fn new() -> Self {
        let project = Self {
            dir: tempfile::Builder::new()
                .prefix("rfs-faults-")
                .tempdir()
                .unwrap(),
        };
        fs::create_dir(project.ws()).unwrap();
        project
    }

    pub fn ws(&self) -> PathBuf {
        self.dir.path().join("ws")
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The state before a build.
    pub fn reset(&self) {
        let ws = self.ws();
        fs::remove_dir_all(&ws).unwrap();
        for dir in ["", "empty", "full/a", "deep", "was.dir"] {
            fs::create_dir_all(ws.join(dir)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(ws.join(name), text).unwrap();
        for (name, text) in STEPS {
            write(&format!("{name}.sh"), &format!("{text}\n"));
        }
        write("build.sh", &script());
        write("in", "input\n");
        for name in [
            "old",
            "in.2",
            "gone",
            "full/a/b",
            "tool",
            "stamp",
            "was.file",
            "was.dir/y",
            "log",
        ] {
            write(name, &format!("{name}\n"));
        }
        // Written in place when it is served.
        write("one", "before\n");
        fs::hard_link(ws.join("one"), ws.join("two")).unwrap();
        fs::set_permissions(ws.join("tool"), fs::Permissions::from_mode(0o644)).unwrap();
        // A moved file takes its time stamp with it.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        for name in ["old", "in.2", "in", "build.sh"] {
            let file = fs::File::options().write(true).open(ws.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
    }

    /// All names but `.rfs`.
    pub fn tree(&self) -> Tree {
        let mut tree = BTreeMap::new();
        look(&self.ws(), Path::new(""), &mut tree);
        tree
    }

    /// A command with nothing in its environment but what all of them have.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("RFS_CACHE_DIR", self.cache())
            .current_dir(self.ws());
        command
    }
}

fn look(root: &Path, dir: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let name = dir.join(entry.unwrap().file_name());
        if name == Path::new(".rfs") {
            continue;
        }
        let path = root.join(&name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if meta.is_dir() {
            look(root, &name, tree);
        }
        let nlink = if meta.is_dir() { 0 } else { meta.nlink() };
        let set = if meta.mtime() < 1_420_070_400 {
            meta.mtime()
        } else {
            0
        };
        let content = content.escape_ascii().to_string();
        tree.insert(name, (meta.mode(), nlink, set, content));
    }
}
