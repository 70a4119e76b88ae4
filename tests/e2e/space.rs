//! A workspace of a test, its cache, and the two ways to run a command in it: bare and under rfs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::run::{self, Cmd, Input, Run, STARTS, Started, Summary};
use crate::tree::Tree;

/// The user of the tests that are not to be root's.
const NOBODY: u32 = 65534;

/// Under which conditions the commands run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// As an ordinary user; that the tests' own user is root is needed for that.
    pub nobody: bool,
    /// The argument of `--tracer`.
    pub tracer: Option<&'static str>,
}

/// A directory of its own with a workspace, a cache and a home in it.
#[derive(Debug)]
pub struct TestSpace {
    root: Option<tempfile::TempDir>,
    ws: PathBuf,
    program: PathBuf,
    setting: Setting,
    n_runs: AtomicU32,
}

impl TestSpace {
    pub fn new() -> Self {
        Self::with(Setting::default())
    }

    pub fn with(setting: Setting) -> Self {
        Self::named("ws", setting)
    }

    /// With a name of the workspace's directory that is special to the test.
    pub fn named(ws: impl AsRef<Path>, setting: Setting) -> Self {
        let root = tempfile::Builder::new()
            .prefix("rfs-e2e-")
            .tempdir()
            .unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_rfs"));
        if setting.nobody {
            assert!(
                nix::unistd::geteuid().is_root(),
                "only root can run a test as nobody"
            );
            // The build directory may lie where an ordinary user cannot go.
            let copy = root.path().join("rfs");
            // Not by this process: a child of another test would hold the copy open for writing.
            let copied = Command::new("cp").args([&program, &copy]).status();
            assert!(copied.unwrap().success(), "cp {}", copy.display());
            program = copy;
        }
        let ws = root.path().join(ws);
        let space = Self {
            root: Some(root),
            ws,
            program,
            setting,
            n_runs: AtomicU32::new(0),
        };
        for dir in ["home", "outside", "summaries"] {
            fs::create_dir(space.root().join(dir)).unwrap();
            space.own(&space.root().join(dir));
        }
        if setting.nobody {
            space.own(space.root());
        }
        fs::create_dir(&space.ws).unwrap();
        space.own(&space.ws);
        space
    }

    /// The directory around the workspace: files here are outside of it.
    pub fn root(&self) -> &Path {
        self.root.as_ref().unwrap().path()
    }

    pub fn ws(&self) -> &Path {
        &self.ws
    }

    pub fn cache(&self) -> PathBuf {
        self.root().join("cache")
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.ws.join(path)
    }

    fn own(&self, path: &Path) {
        if self.setting.nobody {
            lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    // --- What a user does between two runs

    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        self.make_parents(&path);
        let alone = STARTS.write().unwrap_or_else(PoisonError::into_inner);
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        drop(alone);
        self.own(&path);
    }

    /// Writes an executable file.
    pub fn script(&self, path: impl AsRef<Path>, content: &str) {
        self.write(&path, content);
        self.chmod(path, 0o755);
    }

    /// A program that says `ready` and then waits for a signal. A shell would not do: between its
    /// words and its waiting it can lose one.
    pub fn sleeper(&self, handlers: &str) {
        let text =
            format!("#!/usr/bin/perl\n$| = 1;\n{handlers}\nprint \"ready\\n\";\nsleep 1000;\n");
        self.script("sleeper", &text);
    }

    pub fn append(&self, path: impl AsRef<Path>, content: &str) {
        let mut text = self.read(&path);
        text.push_str(content);
        self.write(path, text);
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.path(path);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// Removes a file, a link or a whole directory; what is not there is already removed.
    pub fn remove(&self, path: impl AsRef<Path>) {
        let path = self.path(path);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
    }

    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn mkdir(&self, path: impl AsRef<Path>) {
        let path = self.path(path);
        self.make_parents(&path);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
        self.own(&path);
    }

    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes `path` a link with this text, whatever it was before.
    pub fn symlink(&self, text: impl AsRef<Path>, path: impl AsRef<Path>) {
        self.remove(&path);
        let path = self.path(path);
        self.make_parents(&path);
        symlink(text, &path).unwrap();
        self.own(&path);
    }

    /// Sets the time of the last change, in seconds since 1970.
    pub fn set_mtime(&self, path: impl AsRef<Path>, seconds: i64) {
        let time = TimeSpec::new(seconds, 0);
        let path = self.path(path);
        utimensat(
            nix::fcntl::AT_FDCWD,
            &path,
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .unwrap();
    }

    fn make_parents(&self, path: &Path) {
        let parent = path.parent().unwrap();
        if fs::symlink_metadata(parent).is_err() {
            self.make_parents(parent);
            fs::create_dir(parent).unwrap();
            self.own(parent);
        }
    }

    /// Empties the workspace, and removes what commands have made beside it by way of `..`; the cache and
    /// what a test has put there under the name of a mark stay.
    pub fn wipe(&self) {
        fs::remove_dir_all(&self.ws).unwrap();
        fs::create_dir(&self.ws).unwrap();
        self.own(&self.ws);
        for entry in fs::read_dir(self.root().join("outside")).unwrap() {
            self.remove(entry.unwrap().path());
        }
        let ours = ["home", "outside", "summaries", "cache", "rfs"].map(OsString::from);
        for entry in fs::read_dir(self.root()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let is_mark = name.as_encoded_bytes().starts_with(b"mark.");
            if !ours.contains(&name) && !is_mark && entry.path() != self.ws {
                self.remove(entry.path());
            }
        }
    }

    pub fn tree(&self) -> Tree {
        Tree::read(&self.ws)
    }

    // --- Running

    /// Runs the command as if there were no rfs.
    pub fn bare(&self, cmd: impl Into<Cmd>) -> Run {
        let cmd = cmd.into();
        self.finish(self.command(&cmd, Vec::new()), &cmd, None)
    }

    /// Like [`Self::bare`]; it must succeed.
    pub fn must(&self, cmd: impl Into<Cmd>) {
        let _ok = self.bare(cmd).expect_code(0);
    }

    /// Runs `rfs build -- CMD`.
    pub fn rfs(&self, cmd: impl Into<Cmd>) -> Run {
        self.rfs_with::<&str>(&[], cmd)
    }

    /// Runs `rfs build OPTIONS -- CMD`.
    pub fn rfs_with<S: AsRef<str>>(&self, options: &[S], cmd: impl Into<Cmd>) -> Run {
        let cmd = cmd.into();
        let n = self.n_runs.fetch_add(1, Ordering::Relaxed);
        let summary = self.root().join(format!("summaries/{n}.json"));
        let mut front = vec!["-q".into(), "--summary".into(), summary.clone().into()];
        if !cmd.plain {
            front.push("--explain".into());
        }
        front.extend(options.iter().map(|option| option.as_ref().into()));
        self.finish(self.build_command(front, &cmd), &cmd, Some(&summary))
    }

    /// `rfs build OPTIONS -- CMD`, not yet started.
    pub fn build_command(&self, options: Vec<OsString>, cmd: &Cmd) -> Command {
        let mut front: Vec<OsString> = vec![self.program.clone().into(), "build".into()];
        if let Some(tracer) = self.setting.tracer {
            front.extend(["--tracer".into(), tracer.into()]);
        }
        front.extend(options);
        front.push("--".into());
        self.command(cmd, front)
    }

    /// `rfs ARGS`, for all that is not a build.
    pub fn tool(&self, args: &[&str]) -> Run {
        let mut argv: Vec<OsString> = vec![self.program.clone().into()];
        argv.extend(args.iter().map(Into::into));
        self.bare(Cmd::new(argv))
    }

    /// Starts `rfs build -q -- CMD` (or, not `wrapped`, the bare command) and does not wait for it.
    pub fn start(&self, cmd: impl Into<Cmd>, wrapped: bool) -> Started {
        let cmd = cmd.into();
        let command = match wrapped {
            true => self.build_command(vec!["-q".into()], &cmd),
            false => self.command(&cmd, Vec::new()),
        };
        let (mut started, _) = run::start(command, false);
        if let Input::Pipe(bytes) = cmd.stdin {
            run::feed(&mut started.child, bytes);
        }
        started
    }

    /// The environment of every command: nothing of the tests' own but what is named here.
    pub fn command(&self, cmd: &Cmd, front: Vec<OsString>) -> Command {
        // Whoever runs the tests may ignore some signals (nohup, a shell's background); we do not.
        let mut command = Command::new("/usr/bin/env");
        command
            .arg("--default-signal")
            .args([&cmd.outer, &front, &cmd.argv].into_iter().flatten());
        command.env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("HOME", self.root().join("home"));
        command.env("LC_ALL", "C.UTF-8");
        command.env("RFS_CACHE_DIR", self.cache());
        // All tests hold with the preload library and without it; this chooses.
        if let Some(preload) = std::env::var_os("RFS_PRELOAD") {
            command.env("RFS_PRELOAD", preload);
        }
        let cwd = match cmd.cwd.as_os_str().is_empty() {
            true => self.ws.clone(),
            false => self.ws.join(&cmd.cwd),
        };
        command.env("PWD", &cwd).current_dir(cwd);
        for (key, value) in &cmd.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if self.setting.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(match cmd.stdin {
            Input::Null => Stdio::null(),
            Input::Pipe(_) => Stdio::piped(),
        });
        command
    }

    fn finish(&self, command: Command, cmd: &Cmd, summary: Option<&Path>) -> Run {
        let (mut started, merged) = run::start(command, cmd.merged);
        started.patience = cmd.patience;
        if let Input::Pipe(bytes) = &cmd.stdin {
            run::feed(&mut started.child, bytes.clone());
        }
        let (status, stdout, stderr) = started.finish(merged);
        let explains = summary.is_some() && !cmd.plain;
        let (stderr, explain) = if explains {
            split_explain(stderr)
        } else {
            (stderr, vec![])
        };
        let summary = summary.and_then(|path| fs::read_to_string(path).ok());
        let summary = summary.map(|text| Summary::parse(&text));
        Run {
            status,
            stdout,
            stderr,
            explain,
            summary,
        }
    }
}

/// A failed test leaves its files.
impl Drop for TestSpace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.root.take().unwrap().keep();
            eprintln!("the files of the failed test: {}", kept.display());
        }
    }
}

/// Cuts the lines of `--explain`, which come last, off what the command said.
fn split_explain(stderr: Vec<u8>) -> (Vec<u8>, Vec<String>) {
    let mut lines: Vec<&[u8]> = stderr.split_inclusive(|byte| *byte == b'\n').collect();
    let mut explain = Vec::new();
    while let Some(line) = lines.last().filter(|line| is_explanation(line)) {
        explain.push(String::from_utf8_lossy(line).trim_end().to_owned());
        lines.pop();
    }
    explain.reverse();
    (lines.concat(), explain)
}

fn is_explanation(line: &[u8]) -> bool {
    let verdicts: [&[u8]; 4] = [b"rfs: hit ", b"rfs: ran ", b"rfs: refused ", b"rfs: note"];
    verdicts.iter().any(|verdict| line.starts_with(verdict)) || line.starts_with(b"note: ")
}
