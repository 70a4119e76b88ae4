//! How often a path is looked at.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::RealDisk;
use std::fs;

/// A world whose system is one directory.
fn world(dir: &Path) -> World {
    let world = World::new(
        dir.join("ws"),
        Memo::volatile(),
        Memo::volatile(),
        Arc::new(RealDisk),
    );
    world.lock().system = vec![dir.join("system")];
    world
}

#[test]
fn a_path_of_the_system_is_looked_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ws", "system", "other"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a.h"), "a").unwrap();
    }
    let world = world(dir.path());
    let sees = |name: &str, file: &str| {
        let path = dir.path().join(name).join(file);
        let before = (world.look(&path).seen, world.look(&path).seen);
        fs::write(&path, "another size").unwrap();
        (
            before.0.id == before.1.id,
            world.look(&path).seen.id == before.0.id,
        )
    };
    assert_eq!(
        sees("system", "a.h"),
        (true, true),
        "the first look is remembered"
    );
    assert_eq!(
        sees("system", "absent.h"),
        (true, true),
        "that there is nothing, too"
    );
    assert_eq!(
        sees("ws", "a.h"),
        (true, false),
        "the workspace is looked at each time"
    );
    assert_eq!(
        sees("other", "a.h"),
        (true, false),
        "and so is what is neither"
    );
    assert_eq!(sees("other", "absent.h"), (true, false));
}

#[test]
fn what_the_build_changes_in_the_system_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("system")).unwrap();
    let world = world(dir.path());
    let path = dir.path().join("system/made");
    assert_eq!(world.look(&path).seen.kind, Kind::Absent);
    let _before = world.change(&path, false);
    fs::write(&path, "made").unwrap();
    assert_eq!(world.look(&path).seen.kind, Kind::File);
}
