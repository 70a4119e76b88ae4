//! Walks compared with the kernel's own, in random trees full of links.

use super::*;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};

struct Nobody;

impl Asker for Nobody {
    fn is_own(&self, _: &[u8]) -> bool {
        false
    }
    fn own_link(&self, _: &[u8]) -> Option<PathBuf> {
        None
    }
}

pub(crate) fn look(path: &Path) -> Look {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => Look::Dir,
        Ok(m) if m.is_symlink() => fs::read_link(path)
            .map_or_else(|e| Look::Unknown(e.raw_os_error().unwrap()), Look::Link),
        Ok(_) => Look::File,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Look::Absent,
        Err(e) => Look::Unknown(e.raw_os_error().unwrap()),
    }
}

/// What the kernel says of a path: the object's own name, or an errno.
fn ask_kernel(path: &Path, last: Last) -> Result<PathBuf, i32> {
    let nofollow = if last == Last::Follow {
        0
    } else {
        libc::O_NOFOLLOW
    };
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | nofollow)
        .open(path)
        .map_err(|e| e.raw_os_error().unwrap())?;
    Ok(fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ))
    .unwrap())
}

fn errno(end: &End) -> Option<i32> {
    match end {
        End::Found(_) => None,
        End::Absent | End::MissingDir => Some(libc::ENOENT),
        End::NotDir => Some(libc::ENOTDIR),
        End::Failed(errno) => Some(*errno),
        End::Own => panic!("no path of a test leads there"),
    }
}

/// xorshift: the same trees in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn path(&mut self, root: &Path) -> PathBuf {
        const NAMES: &[&str] = &["a", "b", "c", "d", "..", ".", "a/", "b//", "./c"];
        let mut path = if self.below(4) == 0 {
            root.to_path_buf()
        } else {
            PathBuf::new()
        };
        let mut text = path.into_os_string().into_vec();
        for _ in 0..1 + self.below(4) {
            if !text.is_empty() {
                text.push(b'/');
            }
            text.extend_from_slice(NAMES[self.below(NAMES.len())].as_bytes());
        }
        path = PathBuf::from(OsString::from_vec(text));
        path
    }
}

#[test]
fn walks_end_where_the_kernel_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut found, mut failed) = (0, 0);
    for tree in 0..40 {
        let root = dir.path().join(tree.to_string());
        fs::create_dir(&root).unwrap();
        let mut dirs = vec![root.clone()];
        for _ in 0..25 {
            let at = dirs[random.below(dirs.len())].join(["a", "b", "c", "d"][random.below(4)]);
            match random.below(5) {
                0 | 1 => {
                    if fs::create_dir(&at).is_ok() {
                        dirs.push(at);
                    }
                }
                2 => drop(fs::File::create_new(&at)),
                _ => drop(symlink(random.path(&root), &at)),
            }
        }
        for _ in 0..200 {
            let base = &dirs[random.below(dirs.len())];
            let text = random.path(&root);
            for last in [Last::Follow, Last::Stay] {
                let text = text.as_os_str().as_bytes();
                let ours = walk(&mut look, &Nobody, base, text, last).walk;
                let theirs = ask_kernel(&base.join(as_path(text)), last);
                let what = format!("{} {:?} {last:?}", base.display(), as_path(text));
                match theirs {
                    Ok(path) => {
                        assert_eq!(errno(&ours.end), None, "{what} {ours:?}");
                        assert_eq!(ours.path, path, "{what}");
                        found += 1;
                    }
                    Err(theirs) => {
                        assert_eq!(errno(&ours.end), Some(theirs), "{what} {ours:?}");
                        failed += 1;
                    }
                }
                for link in &ours.links {
                    assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "{what}");
                    assert_eq!(
                        ask_kernel(link.parent().unwrap(), Last::Stay).as_deref(),
                        Ok(link.parent().unwrap())
                    );
                }
            }
        }
    }
    assert!(
        found > 1000 && failed > 1000,
        "the trees are no test: {found} {failed}"
    );
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    drop(fs::File::create(dir.path().join("0")).unwrap());
    for n in 1..=41 {
        symlink((n - 1).to_string(), dir.path().join(n.to_string())).unwrap();
    }
    for (name, end) in [
        ("40", End::Found(Look::File)),
        ("41", End::Failed(libc::ELOOP)),
    ] {
        let ours = walk(
            &mut look,
            &Nobody,
            dir.path(),
            name.as_bytes(),
            Last::Follow,
        )
        .walk;
        assert_eq!(ours.end, end);
        assert_eq!(
            errno(&ours.end),
            ask_kernel(&dir.path().join(name), Last::Follow).err()
        );
    }
}

#[test]
fn a_dangling_link_leads_to_what_would_be_created() {
    let dir = tempfile::tempdir().unwrap();
    symlink("new", dir.path().join("link")).unwrap();
    let ours = walk(&mut look, &Nobody, dir.path(), b"link", Last::Follow).walk;
    assert_eq!(ours.path, dir.path().join("new"));
    assert_eq!(ours.links, [dir.path().join("link")]);
    assert_eq!(ours.end, End::Absent);
    let ours = walk(&mut look, &Nobody, dir.path(), b"link/", Last::Name).walk;
    assert_eq!(ours.path, dir.path().join("link"));
    assert_eq!(ours.end, End::Found(Look::Link("new".into())));
}

#[test]
fn long_and_empty_paths_fail_as_they_should() {
    for text in [vec![], vec![b'a'; 256], vec![b'/'; 4096]] {
        let ours = walk(&mut look, &Nobody, Path::new("/"), &text, Last::Follow).walk;
        let theirs = ask_kernel(as_path(&text), Last::Follow);
        assert_eq!(errno(&ours.end), theirs.err());
    }
}

struct Somebody;

impl Asker for Somebody {
    fn is_own(&self, name: &[u8]) -> bool {
        name == b"77"
    }
    fn own_link(&self, name: &[u8]) -> Option<PathBuf> {
        match name {
            b"cwd" | b"fd/5" => Some("/etc".into()),
            b"root" => Some("/".into()),
            _ => None,
        }
    }
}

#[test]
fn links_of_the_process_itself_are_followed() {
    let to = |text: &str, last| walk(&mut look, &Somebody, Path::new("/"), text.as_bytes(), last);
    for text in [
        "/proc/self/cwd",
        "proc/77/fd/5/.",
        "/dev/fd/5",
        "/proc/thread-self/root/etc",
    ] {
        let out = to(text, Last::Follow);
        assert_eq!(
            (out.walk.path.as_path(), &out.walk.end),
            (Path::new("/etc"), &End::Found(Look::Dir))
        );
        assert!(!out.foreign);
    }
    assert_eq!(to("/dev/fd/5", Last::Follow).own_fd, Some(5));
    for text in [
        "/proc/self",
        "/proc/77/maps",
        "/proc/self/fd/3",
        "/proc/self/task/9/fd/3",
    ] {
        let out = to(text, Last::Follow);
        assert_eq!(out.walk.path, Path::new(text));
        assert_eq!(out.walk.end, End::Own);
    }
    assert_eq!(to("/proc/self/fd/3", Last::Follow).own_fd, Some(3));
    assert_eq!(to("/proc/self/fd/3", Last::Stay).own_fd, None);
    assert_eq!(to("/proc/self/exe", Last::Stay).walk.end, End::Own);
    assert_eq!(
        to("/proc/self/../../etc", Last::Follow).walk.path,
        Path::new("/etc")
    );
    assert!(to(&format!("/proc/{}/cwd", std::process::id()), Last::Follow).foreign);
    assert!(!to("/proc/uptime", Last::Follow).foreign);
}
