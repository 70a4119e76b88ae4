//! How often a path is looked at. That a remembered path is not looked at is seen in that it is settled.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::RealDisk;
use std::fs;
use std::os::unix::fs::symlink;

/// A world with a directory outside of its workspace that is told of all changes.
struct Space {
    top: tempfile::TempDir,
    world: World,
}

impl Space {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        for name in ["ws", "tools/include/sys"] {
            fs::create_dir_all(top.path().join(name)).unwrap();
        }
        let (root, disk) = (top.path().join("ws"), Arc::new(RealDisk));
        let world = World::new(root, Memo::volatile(), Memo::volatile(), disk);
        let space = Self { top, world };
        space.write("tools/include/a.h", "a");
        space.write("tools/include/sys/b.h", "b");
        space
    }

    /// The command runs.
    fn told() -> Self {
        let space = Self::new();
        space.world.follow();
        space
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Looks at a path twice: whether the second look was spared.
    fn settles(&self, name: &str) -> bool {
        let path = self.path(name);
        let _first = self.world.look(&path);
        self.world.version(&path).is_some()
    }

    fn kind(&self, name: &str) -> Kind {
        self.world.hear();
        self.world.look(&self.path(name)).seen.kind
    }
}

#[test]
fn a_path_outside_is_looked_at_once() {
    let space = Space::told();
    space.write("ws/a.h", "a");
    assert!(space.settles("tools/include/a.h"));
    assert!(
        space.settles("tools/include/absent.h"),
        "that it is absent, too"
    );
    assert!(
        space.settles("tools/nowhere/include/absent.h"),
        "nor its directory"
    );
    assert!(space.settles("tools/include"), "a directory, too");
    assert!(
        !space.settles("ws/a.h"),
        "the workspace is looked at each time"
    );
    let again = || space.world.look(&space.path("tools/include/a.h")).seen;
    assert!(Arc::ptr_eq(&again(), &again()));
}

#[test]
fn to_answer_from_the_cache_nothing_has_to_be_told() {
    let space = Space::new();
    assert!(!space.settles("tools/include/a.h"));
    space.world.follow();
    assert!(space.settles("tools/include/a.h"));
    space.world.finish();
    assert!(!space.settles("tools/include/a.h"), "nobody tells any more");
}

#[test]
fn each_change_outside_is_told() {
    let space = Space::told();
    let (header, system) = ("tools/include/a.h", "tools/include/sys/b.h");
    let changes: [(&str, &str, &dyn Fn()); 9] = [
        ("written to", header, &|| space.write(header, "other")),
        ("its mode", header, &|| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(space.path(header), mode).unwrap();
        }),
        ("replaced", header, &|| {
            space.write("tools/include/new", "new");
            fs::rename(space.path("tools/include/new"), space.path(header)).unwrap();
        }),
        ("removed", header, &|| {
            fs::remove_file(space.path(header)).unwrap();
        }),
        ("made", header, &|| space.write(header, "again")),
        ("the directory moved", system, &|| {
            fs::rename(space.path("tools/include/sys"), space.path("tools/away")).unwrap();
        }),
        ("another one in its place", system, &|| {
            fs::create_dir(space.path("tools/include/sys")).unwrap();
            space.write(system, "another");
        }),
        ("one far above moved", system, &|| {
            fs::rename(space.path("tools"), space.path("old")).unwrap();
        }),
        ("and all made anew", system, &|| {
            fs::create_dir_all(space.path("tools/include/sys")).unwrap();
            space.write(system, "third");
        }),
    ];
    for (what, name, change) in changes {
        let path = space.path(name);
        assert!(space.settles(name), "before: {what}");
        let before = space.world.look(&path);
        change();
        assert!(space.world.version(&path).is_none(), "{what}");
        assert!(!space.world.still(before.id, &before.seen), "{what}");
        let after = space.world.look(&path).seen;
        assert!(!Arc::ptr_eq(&before.seen, &after), "{what}");
        assert!(same(&after, &see(&path)), "{what}");
    }
}

#[test]
fn a_write_by_another_name_is_told() {
    let space = Space::told();
    space.write("ws/inside", "one");
    fs::hard_link(space.path("ws/inside"), space.path("tools/outside")).unwrap();
    assert!(space.settles("tools/outside"));
    space.write("ws/inside", "two");
    assert!(space.world.version(&space.path("tools/outside")).is_none());
    assert!(space.settles("tools/outside"));
    fs::remove_file(space.path("ws/inside")).unwrap();
    assert!(
        space.world.version(&space.path("tools/outside")).is_none(),
        "the number of names"
    );
    assert!(space.settles("tools/include/a.h"));
}

#[test]
fn what_was_another_one_in_between_is_not_as_it_was() {
    let space = Space::told();
    let (there, absent) = ("tools/include/a.h", "tools/include/gone.h");
    for name in [there, absent] {
        assert!(space.settles(name));
    }
    let [file, nothing] = [there, absent].map(|name| space.world.look(&space.path(name)));
    assert!(space.world.still(file.id, &file.seen));
    let news = space.world.news();
    fs::rename(space.path(there), space.path("tools/aside")).unwrap();
    space.write(there, "another");
    fs::rename(space.path("tools/aside"), space.path(there)).unwrap();
    space.write(absent, "for a moment");
    fs::remove_file(space.path(absent)).unwrap();
    space.world.hear();
    assert!(space.world.news() > news, "paths may lead elsewhere");
    assert!(!space.world.still(file.id, &file.seen));
    assert!(!space.world.still(nothing.id, &nothing.seen));
    let again = space.world.look(&space.path(there));
    assert!(
        space.world.still(again.id, &again.seen),
        "who looked after that"
    );
}

#[test]
fn a_program_has_another_version_when_it_was_replaced() {
    let space = Space::told();
    let path = space.path("tools/include/a.h");
    assert!(space.settles("tools/include/a.h"));
    let version = space.world.version(&path);
    space.write("tools/include/a.h", "another");
    assert_eq!(space.world.version(&path), None);
    assert!(space.settles("tools/include/a.h"));
    assert_ne!(space.world.version(&path), version);
}

#[test]
fn names_that_come_into_a_directory_are_told() {
    let space = Space::told();
    assert!(space.settles("tools/include"));
    let stamp = space.world.look(&space.path("tools/include")).seen.id;
    space.write("tools/include/new.h", "");
    space.world.hear();
    assert_ne!(
        space.world.look(&space.path("tools/include")).seen.id,
        stamp
    );
}

#[test]
fn directories_behind_links_are_covered() {
    let space = Space::told();
    symlink("tools", space.path("link")).unwrap();
    assert!(space.settles("link/include/a.h"));
    space.write("tools/include/a.h", "by its other name");
    assert!(
        space
            .world
            .version(&space.path("link/include/a.h"))
            .is_none()
    );
    assert!(space.settles("link/include/a.h"));
    fs::rename(space.path("tools"), space.path("moved")).unwrap();
    assert_eq!(space.kind("link/include/a.h"), Kind::Absent);
    symlink("moved", space.path("tools")).unwrap();
    assert_eq!(space.kind("link/include/a.h"), Kind::File);
    assert!(
        !space.settles("link/include/a.h"),
        "a link behind a link is looked at each time"
    );
}

#[test]
fn what_is_not_told_is_looked_at_each_time() {
    let space = Space::told();
    for name in ["/proc/self/stat", "/dev/null", "/tmp/rfs-nothing-here"] {
        assert!(!space.settles(name), "{name}");
    }
    let dots = "tools/include/../include/sys/b.h";
    assert!(!space.settles(dots));
}

#[test]
fn what_the_build_changes_outside_is_looked_at_again() {
    let space = Space::told();
    let path = space.path("tools/made");
    assert!(space.settles("tools/made"));
    let _before = space.world.change(&path, false);
    space.write("tools/made", "made");
    assert!(!space.settles("tools/made"));
    assert_eq!(space.kind("tools/made"), Kind::File);
}

#[test]
fn more_news_than_fits_unsettles_all() {
    let space = Space::told();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    assert!(space.settles("tools/include/a.h"));
    for number in 0..limit / 2 + 10 {
        let name = space.path(&format!("tools/include/{number}"));
        symlink("nowhere", &name).unwrap();
        fs::remove_file(&name).unwrap();
    }
    assert!(
        space
            .world
            .version(&space.path("tools/include/a.h"))
            .is_none()
    );
    assert!(space.settles("tools/include/a.h"));
}
