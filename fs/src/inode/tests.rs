//! The table against what the kernel may do with it.

use super::*;
use rustix::fs::{AtFlags, CWD, StatxFlags};

fn identity(ino: u64, birth: i64) -> Identity {
    Identity {
        dev: (8, 1),
        ino,
        birth: (birth, 0),
    }
}

/// A table of an imaginary tree on device 8:1.
fn table() -> Table<()> {
    let stat = rustix::fs::statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap();
    let mut table = Table::new("/r".into(), &stat);
    table.root_dev = (8, 1);
    table
}

fn name(s: &str) -> &OsStr {
    OsStr::new(s)
}

fn names(table: &Table<()>, ino: Ino) -> Vec<String> {
    match table.place(ino) {
        Some((_, Place::Named(names))) => names
            .iter()
            .map(|n| format!("{}/{}", n.parent, n.name.to_string_lossy()))
            .collect(),
        Some((_, Place::Pinned(_))) => vec!["pinned".into()],
        None => vec![],
    }
}

fn some_fd() -> OwnedFd {
    rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap()
}

#[test]
fn numbers_are_those_of_the_objects_where_they_can_be() {
    let t = table();
    assert_eq!(t.enter(ROOT, name("a"), identity(10, 0)), 10);
    assert_eq!(t.enter(ROOT, name("b"), identity(10, 0)), 10);
    let elsewhere = Identity {
        dev: (8, 2),
        ..identity(10, 0)
    };
    let spare = t.enter(ROOT, name("m"), elsewhere);
    assert!(spare > FIRST_SPARE);
    assert_eq!(t.enter(ROOT, name("m"), elsewhere), spare);
    // 1 is the root's, whatever the backing filesystem thinks.
    assert!(t.enter(ROOT, name("c"), identity(1, 0)) > FIRST_SPARE);
    assert_eq!(names(&t, 10), ["1/a", "1/b"]);
}

#[test]
fn a_number_that_means_another_object_now_is_not_given_again() {
    let t = table();
    assert_eq!(t.enter(ROOT, name("a"), identity(10, 0)), 10);
    let new = t.enter(ROOT, name("b"), identity(10, 7));
    assert!(new > FIRST_SPARE);
    assert_eq!(t.find(identity(10, 0)), None);
    assert_eq!(t.find(identity(10, 7)), Some(new));
    t.forget(10, 1);
    assert_eq!(t.find(identity(10, 7)), Some(new));
    assert!(names(&t, 10).is_empty());
}

#[test]
fn a_node_lives_as_long_as_the_kernel_knows_or_has_it_open() {
    let t = table();
    t.enter(ROOT, name("a"), identity(10, 0));
    t.enter(ROOT, name("a"), identity(10, 0));
    t.open(10, true).unwrap();
    assert!(t.is_written(10));
    assert!(t.forget(10, 2).is_empty());
    assert_eq!(names(&t, 10), ["1/a"]);
    assert_eq!(t.close(10, true).len(), 1);
    assert!(t.place(10).is_none());
    assert_eq!(t.child(ROOT, name("a")), None);
}

#[test]
fn a_directory_lives_as_long_as_its_children() {
    let t = table();
    t.enter(ROOT, name("d"), identity(10, 0));
    t.enter(10, name("e"), identity(11, 0));
    t.enter(11, name("f"), identity(12, 0));
    assert!(t.forget(10, 1).is_empty());
    assert!(t.forget(11, 1).is_empty());
    assert_eq!(t.paths(12), [PathBuf::from("/r/d/e/f")]);
    let mut gone: Vec<Ino> = t.forget(12, 1).into_iter().map(|(ino, _)| ino).collect();
    gone.sort_unstable();
    assert_eq!(gone, [10, 11, 12]);
}

#[test]
fn names_come_and_go() {
    let t = table();
    t.enter(ROOT, name("d"), identity(10, 0));
    t.enter(10, name("f"), identity(11, 0));
    t.add_name(ROOT, name("l"), 11);
    assert_eq!(names(&t, 11), ["10/f", "1/l"]);
    t.enter(ROOT, name("g"), identity(12, 0));
    t.exchange((10, name("f")), (ROOT, name("g")));
    assert_eq!(
        (names(&t, 11), names(&t, 12)),
        (vec!["1/l".into(), "1/g".into()], vec!["10/f".into()])
    );
    t.pin(12, some_fd());
    t.remove_name(10, name("f"));
    t.unpin_named(12);
    assert_eq!(names(&t, 12), ["pinned"]);
    t.pin(11, some_fd());
    t.remove_name(ROOT, name("l"));
    t.unpin_named(11);
    assert_eq!(names(&t, 11), ["1/g"]);
    // A name that is found to mean something else was taken from what it meant.
    t.enter(ROOT, name("g"), identity(13, 0));
    assert!(names(&t, 11).is_empty());
    assert_eq!(t.path(10, name("x")), Some("/r/d/x".into()));
}

#[test]
fn a_circle_of_directories_is_no_path() {
    let t = table();
    t.enter(ROOT, name("d"), identity(10, 0));
    t.enter(10, name("e"), identity(11, 0));
    // Moved into its own child, from outside and in two steps of which we saw one.
    t.enter(11, name("d"), identity(10, 0));
    assert_eq!(t.path(11, name("x")), None);
}
