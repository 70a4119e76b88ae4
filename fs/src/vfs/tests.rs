//! The filesystem without a kernel: by node number, with changes behind its back.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests change the backing tree as others do"
)]

use super::*;
use parking_lot::Mutex;
use rustix::fs::RenameFlags;
use std::fs;

#[derive(Default)]
struct Told(Mutex<Vec<PathBuf>>);

impl Observer for Told {
    fn changed(&self, path: &Path) {
        self.0.lock().push(path.to_owned());
    }
}

struct Fixture {
    vfs: Vfs,
    root: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let ttl = Duration::from_secs(1);
    let told = Arc::new(Told::default());
    let vfs = Vfs::new(
        root.path(),
        vec![".rfs".into()],
        belief(ttl),
        false,
        None,
        told,
    )
    .unwrap();
    Fixture { vfs, root }
}

fn belief(ttl: Duration) -> Belief {
    Belief { ttl, shared: false }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn lookup(&self, parent: Ino, name: &str) -> Option<Ino> {
        self.vfs
            .lookup(parent, OsStr::new(name))
            .unwrap()
            .map(|entry| entry.ino)
    }

    fn open(&self, ino: Ino, flags: OFlags) -> Result<u64> {
        let nothing = |_: std::os::fd::BorrowedFd<'_>| Err(std::io::ErrorKind::Unsupported.into());
        self.vfs
            .open(me(), ino, flags, &nothing)
            .map(|open| open.fh)
    }

    fn read(&self, ino: Ino) -> Result<Vec<u8>> {
        let fh = self.open(ino, OFlags::RDONLY)?;
        let data = self.vfs.read(fh, 0, 100);
        self.vfs.release(fh);
        data
    }
}

fn me() -> Requester {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    Requester {
        uid,
        gid,
        umask: 0o022,
    }
}

#[test]
fn files_are_made_read_and_removed_by_number() {
    let f = fixture();
    let nothing = |_: std::os::fd::BorrowedFd<'_>| Err(std::io::ErrorKind::Unsupported.into());
    let (entry, open) = f
        .vfs
        .create(me(), (ROOT, OsStr::new("a")), 0o666, OFlags::RDWR, &nothing)
        .unwrap();
    assert_eq!(entry.stat.stx_mode & 0o7777, 0o644);
    let how = Writing {
        appends: false,
        drops_setuid: false,
    };
    assert_eq!(f.vfs.write(open.fh, 0, b"hello", how), Ok(5));
    let how = Writing {
        appends: true,
        drops_setuid: false,
    };
    assert_eq!(f.vfs.write(open.fh, 0, b"!", how), Ok(1));
    assert_eq!(f.read(entry.ino).unwrap(), b"hello!");
    assert_eq!(fs::read(f.path("a")).unwrap(), b"hello!");
    f.vfs
        .unlink(ROOT, OsStr::new("a"), AtFlags::empty())
        .unwrap();
    assert_eq!(f.lookup(ROOT, "a"), None);
    assert_eq!(f.read(entry.ino).unwrap(), b"hello!");
    f.vfs.release(open.fh);
    f.vfs.forget(entry.ino, 1);
    assert_eq!(f.read(entry.ino), Err(Errno::STALE));
}

#[test]
fn what_was_replaced_is_stale_until_looked_up() {
    let f = fixture();
    fs::write(f.path("a"), "old").unwrap();
    let old = f.lookup(ROOT, "a").unwrap();
    fs::write(f.path("new"), "new").unwrap();
    fs::rename(f.path("new"), f.path("a")).unwrap();
    assert_eq!(f.read(old), Err(Errno::STALE));
    assert_eq!(f.vfs.getattr(old, None).err(), Some(Errno::STALE));
    let new = f.lookup(ROOT, "a").unwrap();
    assert_ne!(old, new);
    assert_eq!(f.read(new).unwrap(), b"new");
}

#[test]
fn what_was_moved_is_found_by_its_open_file() {
    let f = fixture();
    fs::write(f.path("a"), "text").unwrap();
    let ino = f.lookup(ROOT, "a").unwrap();
    let fh = f.open(ino, OFlags::RDONLY).unwrap();
    fs::rename(f.path("a"), f.path("b")).unwrap();
    assert_eq!(f.vfs.getattr(ino, None).unwrap().stat.stx_size, 4);
    assert_eq!(f.read(ino).unwrap(), b"text");
    f.vfs.release(fh);
    assert_eq!(f.read(ino), Err(Errno::STALE));
    assert_eq!(f.lookup(ROOT, "b"), Some(ino));
    assert_eq!(f.read(ino).unwrap(), b"text");
}

#[test]
fn many_directories_need_few_descriptors() {
    let f = fixture();
    let n_open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = n_open();
    for i in 0..1500 {
        fs::create_dir(f.path(&format!("d{i}"))).unwrap();
        fs::write(f.path(&format!("d{i}/f")), "x").unwrap();
        let dir = f.lookup(ROOT, &format!("d{i}")).unwrap();
        f.lookup(dir, "f").unwrap();
    }
    assert!(n_open() < before + 1100);
    for i in (0..1500).step_by(53) {
        let dir = f.lookup(ROOT, &format!("d{i}")).unwrap();
        let file = f.lookup(dir, "f").unwrap();
        assert_eq!(f.read(file).unwrap(), b"x");
    }
}

#[test]
fn a_link_put_in_the_place_of_a_file_is_not_followed() {
    let f = fixture();
    fs::write(f.path("a"), "inside").unwrap();
    fs::create_dir(f.path("d")).unwrap();
    let file = f.lookup(ROOT, "a").unwrap();
    let dir = f.lookup(ROOT, "d").unwrap();
    fs::remove_file(f.path("a")).unwrap();
    fs::remove_dir(f.path("d")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", f.path("a")).unwrap();
    std::os::unix::fs::symlink("/etc", f.path("d")).unwrap();
    assert_eq!(f.read(file), Err(Errno::STALE));
    assert_eq!(
        f.vfs.lookup(dir, OsStr::new("passwd")).err(),
        Some(Errno::STALE)
    );
    let change = Change {
        size: Some(0),
        ..Change::default()
    };
    assert_eq!(
        f.vfs.setattr(me(), file, None, &change).err(),
        Some(Errno::STALE)
    );
}

#[test]
fn hidden_names_are_hidden_in_the_root_only() {
    let f = fixture();
    fs::create_dir_all(f.path("d/.rfs")).unwrap();
    fs::create_dir(f.path(".rfs")).unwrap();
    assert_eq!(f.lookup(ROOT, ".rfs"), None);
    let dir = f.lookup(ROOT, "d").unwrap();
    assert!(f.lookup(dir, ".rfs").is_some());
    let (from, to) = ((dir, OsStr::new(".rfs")), (ROOT, OsStr::new(".rfs")));
    assert_eq!(
        f.vfs.rename(from, to, RenameFlags::empty()),
        Err(Errno::PERM)
    );
    assert_eq!(
        f.vfs.rename(to, from, RenameFlags::empty()),
        Err(Errno::NOENT)
    );
    assert_eq!(
        f.vfs.link(dir, ROOT, OsStr::new(".rfs")).err(),
        Some(Errno::PERM)
    );
    let fh = f.vfs.opendir(ROOT).unwrap();
    let mut names = Vec::new();
    f.vfs
        .readdir(fh, 0, |entry| {
            names.push(entry.name.to_owned());
            true
        })
        .unwrap();
    names.sort();
    assert_eq!(names, [".", "..", "d"]);
}

#[test]
fn changes_are_told_by_every_name() {
    let f = fixture();
    let told = Arc::new(Told::default());
    let ttl = Duration::from_secs(1);
    let vfs = Vfs::new(
        f.root.path(),
        vec![],
        belief(ttl),
        false,
        None,
        told.clone(),
    )
    .unwrap();
    fs::write(f.path("a"), "").unwrap();
    let ino = vfs.lookup(ROOT, OsStr::new("a")).unwrap().unwrap().ino;
    vfs.link(ino, ROOT, OsStr::new("b")).unwrap();
    assert_eq!(std::mem::take(&mut *told.0.lock()), [f.path("b")]);
    let change = Change {
        mode: Some(0o600),
        ..Change::default()
    };
    vfs.setattr(me(), ino, None, &change).unwrap();
    assert_eq!(
        std::mem::take(&mut *told.0.lock()),
        [f.path("a"), f.path("b")]
    );
}
