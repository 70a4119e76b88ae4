//! A build server: several users, one group, and a directory of the machine for their caches, made as the
//! package makes it and used as doc/server.md says.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::run::Summary;
use crate::space::TestSpace;

const GROUP: u32 = 61_000;
const ALICE: u32 = 61_001;
const MALLORY: u32 = 61_002;

struct Server {
    space: TestSpace,
    program: PathBuf,
}

impl Server {
    /// The directory with this mode, root's and the group's.
    fn new(mode: u32) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "only root can be two users"
        );
        let space = TestSpace::new();
        // The build directory may lie where an ordinary user cannot go.
        let program = space.root().join("rfs");
        let copied = Command::new("cp")
            .arg(space.program())
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        let caches = space.root().join("caches");
        fs::create_dir(&caches).unwrap();
        chown(&caches, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&caches, fs::Permissions::from_mode(mode)).unwrap();
        for user in [ALICE, MALLORY] {
            let home = space.root().join(user.to_string());
            fs::create_dir_all(home.join(".config/rfs")).unwrap();
            fs::create_dir_all(home.join("w/.rfs")).unwrap();
            let config = format!("[cache]\ndir = '{}/%U'\n", caches.display());
            fs::write(home.join(".config/rfs/config.toml"), config).unwrap();
            fs::write(home.join("w/in"), "b\na\n").unwrap();
            for path in ["w", "w/in", "w/.rfs"] {
                chown(home.join(path), Some(user), Some(user)).unwrap();
            }
        }
        Self { space, program }
    }

    fn cache(&self, user: u32) -> PathBuf {
        self.space.root().join(format!("caches/{user}"))
    }

    /// A shell script of a user, who is in the group, in his workspace.
    fn run(&self, user: u32, script: &str) -> Output {
        let id = user.to_string();
        let home = self.space.root().join(&id);
        Command::new("setpriv")
            .args([
                "--reuid",
                &id,
                "--regid",
                &id,
                "--groups",
                &GROUP.to_string(),
            ])
            .args(["sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("RFS", &self.program)
            .env("CACHES", self.space.root().join("caches"))
            .current_dir(home.join("w"))
            .output()
            .unwrap()
    }

    /// Builds from a clean tree. What was warned of, and whether everything was served.
    fn build(&self, user: u32) -> (String, bool) {
        let script = "umask 0; rm -f out; \
                      exec \"$RFS\" build -q --strict --summary sum -- sh -c 'sort in >out'";
        let run = self.run(user, script);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        let w = self.space.root().join(format!("{user}/w"));
        assert_eq!(
            fs::read_to_string(w.join("out")).unwrap(),
            "a\nb\n",
            "{said}"
        );
        let sum = fs::read_to_string(w.join("sum")).unwrap();
        (said, Summary::parse(&sum).whole_hit)
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[test]
fn each_user_has_a_cache_of_his_own() {
    let server = Server::new(0o3770);
    for user in [ALICE, MALLORY] {
        assert_eq!(server.build(user), (String::new(), false));
        assert_eq!(server.build(user), (String::new(), true));
        assert_eq!(mode(&server.cache(user)), 0o700, "whatever the umask");
        assert_eq!(fs::metadata(server.cache(user)).unwrap().uid(), user);
    }
    let script = format!(
        "cd \"$CACHES\" || exit 9\n\
         ls {ALICE} && echo listed\n cat {ALICE}/index && echo read\n touch {ALICE}/x && echo made\n\
         mv {ALICE} other && echo moved\n rmdir {ALICE} && echo removed\n echo tried"
    );
    let tried = server.run(MALLORY, &script);
    assert_eq!(
        String::from_utf8_lossy(&tried.stdout),
        "tried\n",
        "{tried:?}"
    );
    assert_eq!(server.build(ALICE), (String::new(), true));
}

/// Whoever comes first takes a name in the group's directory. That costs the other his cache, with a
/// warning, and never changes what he builds.
#[test]
fn what_another_user_has_prepared_is_not_believed() {
    let prepared = [
        ("mkdir -m 777 \"$CACHES/$A\"", "belongs to user 61002"),
        // A link may lead elsewhere a moment after it was looked at, be it to what is root's now.
        ("ln -s / \"$CACHES/$A\"", "belongs to user 61002"),
        (
            "mkdir \"$HOME/w/c\"; ln -s \"$HOME/w/c\" \"$CACHES/$A\"",
            "belongs to user 61002",
        ),
        ("echo >\"$CACHES/$A\"", "is not a directory"),
        // A whole cache, with whatever records she likes.
        (
            "\"$RFS\" build -q -- true; mv \"$CACHES/61002\" \"$CACHES/$A\"; \
             chmod -R go+rwX \"$CACHES/$A\"",
            "belongs to user 61002",
        ),
    ];
    for (script, warning) in prepared {
        let server = Server::new(0o3770);
        let done = server.run(MALLORY, &format!("A={ALICE}; {script}"));
        assert!(done.status.success(), "{script}: {done:?}");
        for _ in 0..2 {
            let (said, is_hit) = server.build(ALICE);
            assert!(said.contains(warning) && !is_hit, "{script}: {said}");
        }
    }
}

/// One cache for all members of a group would let each of them write what the others' builds write.
#[test]
fn a_cache_that_a_group_can_write_to_is_not_used() {
    let server = Server::new(0o2770);
    let script = "rm -f out; exec \"$RFS\" build -q --strict --cache-dir \"$CACHES\" -- sh -c 'sort in >out'";
    let run = server.run(ALICE, script);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("can be written by group 61000"), "{said}");
    assert!(said.contains("chmod go-w"), "{said}");
}
