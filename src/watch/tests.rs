//! A watch without kernel and mount: processes are numbers, and what they do is told by hand.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

mod counted;

use super::*;
use crate::disk::{Disk, Fault, RealDisk};
use crate::report::{Step as Told, Verdict};
use crate::store::Memo;
use rfs_tracer::event::{End, Fd, Walk};
use std::sync::Mutex;

/// Numbers that no process has.
const SHELL: Pid = 1 << 28;

/// Takes what is told.
#[derive(Default)]
struct Ear(Mutex<Vec<Told>>);

impl Sink for Ear {
    fn take(&self, event: Report) {
        match event {
            Report::Step(step) => self.0.lock().unwrap().push(*step),
            Report::Warning(why) => panic!("{why}"),
        }
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// Does something before the next operation of one kind.
#[derive(Default)]
struct Meanwhile(Mutex<Option<(&'static str, Act)>>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Disk for Meanwhile {
    fn fault(&self, op: &'static str, _: usize) -> Option<Fault> {
        let mut act = self.0.lock().unwrap();
        let due = act.take_if(|(when, _)| *when == op);
        drop(act);
        if let Some((_, act)) = due {
            act();
        }
        None
    }
}

/// A process that can be ended at once.
struct Fds;

impl OwnFds for Fds {
    fn complete(&self, _: &mut Exec) -> bool {
        true
    }
    fn high(&self) -> Vec<Fd> {
        vec![]
    }
    fn ready_to_exit(&self) -> bool {
        true
    }
    fn reach(&self, _: i32) -> std::io::Result<()> {
        Ok(())
    }
    fn write_all(&self, _: i32, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn seek(&self, _: i32, _: u64) -> std::io::Result<()> {
        Ok(())
    }
}

struct Build {
    dir: tempfile::TempDir,
    watch: Arc<Watch>,
    ear: Arc<Ear>,
    meanwhile: Arc<Meanwhile>,
}

impl Build {
    /// A build whose command, a shell, has started.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir_all(root.join(".rfs")).unwrap();
        std::fs::write(root.join("tool"), "a program").unwrap();
        let meanwhile = Arc::new(Meanwhile::default());
        drop(Cache::open(&dir.path().join("cache"), Arc::new(RealDisk)).unwrap());
        let cache = Cache::open(&dir.path().join("cache"), meanwhile.clone()).unwrap();
        let ear = Arc::new(Ear::default());
        let config = Config {
            stage: root.join(".rfs/stage"),
            policy: Policy::default(),
            pins: None,
            room: None,
            tokens: None,
            jobs: None,
            shell: false,
            rerun: false,
            strict_clock: false,
            provenance: Provenance::default(),
            machine: String::new(),
            history: None,
        };
        let world = Arc::new(World::new(
            root,
            Memo::volatile(),
            Memo::volatile(),
            Arc::new(RealDisk),
        ));
        let watch = Watch::new(config, world, Some(Arc::new(cache)), ear.clone());
        let build = Self {
            dir,
            watch: Arc::new(watch),
            ear,
            meanwhile,
        };
        build.watch.born(SHELL, None);
        assert_eq!(build.exec(SHELL, "sh", vec![]), ExecAnswer::Run);
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("ws").join(name)
    }

    fn walk(&self, name: &str) -> Walk {
        let path = self.path(name);
        let end = match self.watch.look(&path) {
            Look::Absent => End::Absent,
            found @ (Look::Dir | Look::Link(_) | Look::File | Look::Unknown(_)) => {
                End::Found(found)
            }
        };
        Walk {
            path,
            links: vec![],
            end,
        }
    }

    /// A process of the shell's executes a program.
    fn exec(&self, pid: Pid, argv: &str, fds: Vec<Fd>) -> ExecAnswer {
        self.watch.born(pid, Some(SHELL));
        let exec = Exec {
            pid,
            program: self.walk("tool"),
            interpreters: vec![],
            argv: argv
                .split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect(),
            env: vec![],
            cwd: self.path(""),
            fds,
            umask: 0o022,
            ids: [0; 4],
            ignored: 0,
            children: vec![],
        };
        self.watch.exec(exec, &Fds)
    }

    /// A process opens a file to append to it, and does.
    fn append(&self, pid: Pid, name: &str, text: &str) {
        use std::io::Write;
        let walk = self.walk(name);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
        let mode = 0o644;
        self.watch.event(pid, Event::Open { walk, flags, mode });
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn exit(&self, pid: Pid) {
        self.watch.exit(pid, 0, &[]);
        self.watch.settle();
    }

    fn verdict(&self, title: &str) -> Verdict {
        let told = self.ear.0.lock().unwrap();
        let step = told.iter().rfind(|step| step.title == title);
        step.unwrap_or_else(|| panic!("{title} in {told:?}"))
            .verdict
            .clone()
    }
}

/// Between the look that says that a record holds and its outputs' being in place, a step beside it opens
/// one of them: neither has made it alone.
#[test]
fn output_opened_while_it_is_served() {
    for op in ["create", "rename", "utimensat"] {
        let build = Arc::new(Build::new());
        assert_eq!(build.exec(SHELL + 1, "make out", vec![]), ExecAnswer::Run);
        build.append(SHELL + 1, "out", "made\n");
        build.exit(SHELL + 1);
        assert!(matches!(build.verdict("make out"), Verdict::Ran(_)));
        std::fs::remove_file(build.path("out")).unwrap();

        assert_eq!(build.exec(SHELL + 2, "other", vec![]), ExecAnswer::Run);
        let other = build.clone();
        let act = move || other.append(SHELL + 2, "out", "appended\n");
        *build.meanwhile.0.lock().unwrap() = Some((op, Box::new(act)));
        let answer = build.exec(SHELL + 3, "make out", vec![]);
        assert!(build.meanwhile.0.lock().unwrap().is_none(), "no {op}");
        if answer == ExecAnswer::Run {
            build.exit(SHELL + 3);
        } else {
            assert_eq!(answer, ExecAnswer::Exit(0));
            build.exit(SHELL + 2);
            let refused = build.verdict("other");
            assert!(matches!(refused, Verdict::Refused(_)), "{op}: {refused:?}");
        }
    }
}

/// What another step changes between two looks at the names in a directory is none of the step's.
#[test]
fn directory_listed_twice() {
    for changes in [true, false] {
        let build = Build::new();
        std::fs::create_dir(build.path("d")).unwrap();
        assert_eq!(build.exec(SHELL + 1, "list", vec![]), ExecAnswer::Run);
        let list = || build.watch.event(SHELL + 1, Event::List(build.path("d")));
        list();
        build.append(SHELL + 1, "d/own", "own\n");
        assert_eq!(build.exec(SHELL + 2, "other", vec![]), ExecAnswer::Run);
        if changes {
            build.append(SHELL + 2, "d/other", "other\n");
        }
        build.exit(SHELL + 2);
        list();
        build.exit(SHELL + 1);
        let verdict = build.verdict("list");
        let refused = matches!(verdict, Verdict::Refused(_));
        assert_eq!(refused, changes, "{verdict:?}");
        build.exit(SHELL);
        let verdict = build.verdict("sh");
        assert!(matches!(verdict, Verdict::Ran(_)), "{verdict:?}");
    }
}

/// Somebody outside removes what a step has written before it ends: that is no removal of the step's own. A
/// call that failed to make something leaves nothing to be removed.
#[test]
fn output_removed_by_somebody_else() {
    for (old, made) in [(true, true), (false, true), (false, false)] {
        let build = Build::new();
        if old {
            std::fs::write(build.path("out"), "old\n").unwrap();
        }
        assert_eq!(build.exec(SHELL + 1, "make out", vec![]), ExecAnswer::Run);
        build.append(SHELL + 1, "out", "made\n");
        if made {
            build.watch.changed_in_view(&build.path("out"));
        }
        std::fs::remove_file(build.path("out")).unwrap();
        build.exit(SHELL + 1);
        let verdict = build.verdict("make out");
        let refused = matches!(verdict, Verdict::Refused(_));
        assert_eq!(refused, made, "{verdict:?}");
    }
}

/// A source gets another content under its old size and time stamp after a step has looked at it, or only
/// another name.
#[test]
fn input_edited_while_it_is_used() {
    use std::os::unix::fs::MetadataExt;
    for edited in [true, false] {
        let build = Build::new();
        let source = build.path("source");
        std::fs::write(&source, "one\n").unwrap();
        let old = std::fs::metadata(&source).unwrap();
        assert_eq!(
            build.exec(SHELL + 1, "read source", vec![]),
            ExecAnswer::Run
        );
        let walk = build.walk("source");
        let (flags, mode) = (libc::O_RDONLY, 0);
        let open = Event::Open { walk, flags, mode };
        build.watch.event(SHELL + 1, open);
        while std::fs::metadata(&source).unwrap().ctime_nsec() == old.ctime_nsec() {
            if edited {
                std::fs::write(&source, "two\n").unwrap();
                let times = std::fs::FileTimes::new().set_modified(old.modified().unwrap());
                let file = std::fs::File::options().write(true).open(&source).unwrap();
                file.set_times(times).unwrap();
            } else {
                drop(std::fs::remove_file(build.path("name")));
                std::fs::hard_link(&source, build.path("name")).unwrap();
            }
        }
        build.exit(SHELL + 1);
        let verdict = build.verdict("read source");
        let refused = matches!(verdict, Verdict::Refused(_));
        assert_eq!(refused, edited, "{verdict:?}");
    }
}

/// Who calls at a socket cannot be told what the server says but by it; so also by a call to a socket that nobody
/// has yet, which gets its name before the kernel comes to the call: nobody tells of that again.
#[test]
fn who_calls_at_a_socket_is_told_by_others() {
    for (before, after) in [(false, true), (true, false), (false, false)] {
        let build = Build::new();
        let call = || {
            let peer = Peer::Unix(build.walk("socket"));
            build.watch.event(SHELL + 1, Event::Socket(peer));
        };
        assert_eq!(build.exec(SHELL + 1, "client", vec![]), ExecAnswer::Run);
        if before {
            call();
        }
        assert_eq!(build.exec(SHELL + 2, "server", vec![]), ExecAnswer::Run);
        let named = Event::Mknod(build.walk("socket"), libc::S_IFSOCK | 0o755);
        build.watch.event(SHELL + 2, named);
        if after {
            call();
        }
        build.exit(SHELL + 1);
        let verdict = build.verdict("client");
        let refused = matches!(verdict, Verdict::Refused(_));
        assert_eq!(refused, before || after, "{verdict:?}");
    }
}
