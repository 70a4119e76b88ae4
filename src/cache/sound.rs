//! What a record must be like before it is stored or believed, whoever wrote it. Pure.
//!
//! A sound record may still be wrong about the world; but serving it makes only what its own lines say.

use crate::base::{Access, Dep, Name, Output, Record, State, Stdin, What};
use std::collections::HashSet;

/// Longest path name: PATH_MAX.
const NAME_MAX: usize = 4096;
/// Largest file: off_t.
const SIZE_MAX: u64 = i64::MAX as u64;
/// All permission bits.
const PERMISSIONS: u32 = 0o7777;

/// Says what is wrong with a record, if anything.
pub(super) fn sound(record: &Record) -> Result<(), String> {
    for dep in &record.deps {
        dep_is_sound(dep, record.deps.len()).map_err(|why| format!("input {}: {why}", dep.name))?;
    }
    for output in &record.outputs {
        output_is_sound(output).map_err(|why| format!("output {}: {why}", output.name))?;
    }
    for dir in &record.dirs {
        dir_is_sound(&dir.name).map_err(|why| format!("directory {}: {why}", dir.name))?;
    }
    require((0..=255).contains(&record.status), "exit status")?;
    let fds = record.chunks.iter().all(|chunk| chunk.fd >= 0);
    require(fds, "descriptor number")?;
    let sane = match &record.stdin {
        Stdin::Unread | Stdin::Null => true,
        Stdin::File { name, pos, left } => name.is_clean() && *pos <= SIZE_MAX && *left <= SIZE_MAX,
    };
    require(sane, "offset").map_err(str::to_owned)
}

fn dep_is_sound(dep: &Dep, n_deps: usize) -> Result<(), &'static str> {
    name_is_sound(&dep.name)?;
    match &dep.state {
        State::Absent => {}
        State::File {
            mode, size, digest, ..
        } => {
            require(mode[0] <= PERMISSIONS, "permission bits")?;
            require(*size <= SIZE_MAX, "size")?;
            let known = digest.is_some() || !dep.access.any(Access::REG);
            require(known, "content without a digest")?;
        }
        State::Dir { mode, list, .. } => {
            require(mode[0] <= PERMISSIONS, "permission bits")?;
            let known = list.is_some() || !dep.access.any(Access::LIST);
            require(known, "names without a digest")?;
        }
        State::Link(text, _) => link_is_sound(text)?,
        State::Hidden(_) | State::Other(..) => {}
    }
    let place = dep.rank & !Dep::FUTURE;
    require(place as usize <= n_deps, "rank")
}

/// Says what is wrong with an output, if anything.
pub(super) fn output_is_sound(output: &Output) -> Result<(), &'static str> {
    name_is_sound(&output.name)?;
    is_not_ours(&output.name)?;
    let is_root = matches!(output.name.bytes(), b"" | b"/");
    match &output.what {
        What::Dir(mode) | What::Attributes(mode) => {
            return require(*mode <= PERMISSIONS, "permission bits");
        }
        What::Absent => {}
        What::File { size, mode, .. } => {
            require(*mode <= PERMISSIONS, "permission bits")?;
            require(*size <= SIZE_MAX, "size")?;
        }
        What::Fifo(mode) => require(*mode <= PERMISSIONS, "permission bits")?,
        What::Link(text) => link_is_sound(text)?,
        What::HardLink(other) => {
            name_is_sound(other)?;
            let apart = *other != output.name && !other.bytes().is_empty();
            require(apart, "a link to itself or to the root")?;
        }
    }
    require(!is_root, "the root can only change its attributes")
}

/// Says what is wrong with the name of a directory that gets another time stamp, if anything.
pub(super) fn dir_is_sound(name: &Name) -> Result<(), &'static str> {
    name_is_sound(name)?;
    is_not_ours(name)?;
    require(name.inside(), "outside the workspace")
}

fn is_not_ours(name: &Name) -> Result<(), &'static str> {
    let own = name.bytes() == b".rfs" || name.bytes().starts_with(b".rfs/");
    require(!own, "lies in the state of rfs itself")
}

/// Says whether an output lies below one that is made a link: it would be made, dated or permitted somewhere
/// else. An absence may, it comes first.
pub(super) fn outputs_are_apart(record: &Record) -> Result<(), String> {
    let leads_on = |output: &&Output| matches!(output.what, What::Link(_) | What::HardLink(_));
    let links: HashSet<&[u8]> = record
        .outputs
        .iter()
        .filter(leads_on)
        .map(|output| output.name.bytes())
        .collect();
    let is_below = |output: &&Output| {
        let bytes = output.name.bytes();
        let mut ends = (1..bytes.len()).filter(|at| bytes[*at] == b'/');
        output.what != What::Absent && ends.any(|at| links.contains(&bytes[..at]))
    };
    if links.is_empty() {
        return Ok(());
    }
    match record.outputs.iter().find(is_below) {
        Some(output) => Err(format!("output {}: below a link", output.name)),
        None => Ok(()),
    }
}

fn name_is_sound(name: &Name) -> Result<(), &'static str> {
    require(name.is_clean(), "name with empty, `.` or `..` parts or NUL")?;
    require(name.bytes().len() < NAME_MAX, "name too long")
}

fn link_is_sound(text: &[u8]) -> Result<(), &'static str> {
    let fits = !text.is_empty() && text.len() < NAME_MAX && !text.contains(&0);
    require(fits, "text of a symbolic link")
}

fn require(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{Chunk, Digest, Stamp, Touched};
    use std::path::Path;

    /// A name below a workspace at `/w`.
    pub(crate) fn name(path: &str) -> Name {
        Name::of(Path::new(path), Path::new("/w"))
    }

    /// A file as an output.
    pub(crate) fn file(path: &str, content: &[u8]) -> Output {
        Output {
            name: name(path),
            what: What::File {
                digest: Digest::of(content),
                size: content.len() as u64,
                mode: 0o644,
                in_place: false,
            },
            stamp: Stamp::Now(0),
            owner: None,
        }
    }

    /// A file as an input.
    pub(crate) fn dep(path: &str, content: &[u8]) -> Dep {
        Dep {
            name: name(path),
            access: Access::REG,
            state: State::File {
                mode: [0o644, 0, 0],
                size: content.len() as u64,
                mtime: 0,
                digest: Some(Digest::of(content)),
            },
            rank: 0,
        }
    }

    /// A record with one input and one output.
    pub(crate) fn record() -> Record {
        Record {
            title: "cc -c a.c".into(),
            deps: vec![dep("a.c", b"int a;")],
            outputs: vec![file("a.o", b"object")],
            dirs: vec![Touched {
                name: name("dir"),
                rank: 0,
                always: true,
            }],
            chunks: vec![Chunk {
                fd: 2,
                bytes: b"warning".to_vec(),
            }],
            stdin: Stdin::Unread,
            status: 0,
            notes: vec![],
            cost: Default::default(),
            ..Record::default()
        }
    }

    #[test]
    fn a_usual_record_is_sound() {
        assert_eq!(sound(&record()), Ok(()));
    }

    #[test]
    fn hostile_records_are_not() {
        type Mutation = (&'static str, fn(&mut Record));
        let mutations: &[Mutation] = &[
            ("dep name", |r| r.deps[0].name = name("a/../b")),
            ("dep digest", |r| {
                r.deps[0].state = State::File {
                    mode: [0; 3],
                    size: 0,
                    mtime: 0,
                    digest: None,
                };
            }),
            ("dep rank", |r| r.deps[0].rank = 7),
            ("dep link", |r| {
                r.deps[0].state = State::Link(b"a\0b".to_vec(), 0);
            }),
            ("output name", |r| r.outputs[0].name = name("../etc/passwd")),
            ("long name", |r| {
                r.outputs[0].name = name(&"x/".repeat(4000));
            }),
            ("own state", |r| r.outputs[0].name = name(".rfs/stage/x")),
            ("root", |r| r.outputs[0].name = name("/w")),
            ("real root", |r| {
                r.outputs[0].name = name("/");
                r.outputs[0].what = What::Absent;
            }),
            ("size", |r| {
                r.outputs[0].what = What::File {
                    digest: Digest::of(b""),
                    size: u64::MAX,
                    mode: 0o644,
                    in_place: false,
                };
            }),
            ("mode", |r| r.outputs[0].what = What::Dir(0o40755)),
            ("link", |r| r.outputs[0].what = What::Link(vec![])),
            ("self", |r| r.outputs[0].what = What::HardLink(name("a.o"))),
            ("hard link", |r| {
                r.outputs[0].what = What::HardLink(name("a/./b"));
            }),
            ("directory", |r| r.dirs[0].name = name("../etc")),
            ("directory of ours", |r| r.dirs[0].name = name(".rfs/stage")),
            ("directory outside", |r| r.dirs[0].name = name("/etc")),
            ("status", |r| r.status = 256),
            ("fd", |r| r.chunks[0].fd = -1),
            ("offset", |r| {
                let name = r.deps[0].name.clone();
                r.stdin = Stdin::File {
                    name,
                    pos: 0,
                    left: u64::MAX,
                };
            }),
        ];
        for (what, mutate) in mutations {
            let mut record = record();
            mutate(&mut record);
            assert!(sound(&record).is_err(), "{what}");
        }
    }
}
