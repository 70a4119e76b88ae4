//! What is known of a path without reading it, as a record has it.

use crate::base::{Access, Dep, Digest, Kind, Name, Output, Seen, Stamp, What};

/// An input, without what it would take a read to know.
#[must_use]
pub fn dep(name: &Name, access: Access, first: &Seen) -> Option<Dep> {
    let known = match first.digest.get() {
        Some(Ok(_)) => Access::LIST,
        Some(Err(_)) | None => Access::LIST | Access::REG,
    };
    // How many names a file has says nothing of what it holds.
    let access = access.without(known).without(Access::SINGLE);
    let state = first.state(access, None).ok()?;
    (access != Access::NONE).then(|| Dep {
        name: name.clone(),
        access,
        state,
        rank: 0,
    })
}

/// An output; none for what a record cannot hold.
#[must_use]
pub fn output(name: Name, seen: &Seen) -> Option<Output> {
    let what = match seen.kind {
        Kind::Absent => What::Absent,
        Kind::File => What::File {
            digest: match seen.digest.get() {
                Some(Ok(digest)) => *digest,
                Some(Err(_)) | None => Digest([0; 32]),
            },
            size: seen.id.size,
            mode: seen.mode[0],
            in_place: false,
        },
        Kind::Dir => What::Dir(seen.mode[0]),
        Kind::Link => What::Link(seen.text.clone()),
        Kind::Fifo => What::Fifo(seen.mode[0]),
        Kind::Socket | Kind::Device | Kind::Unknown(_) => return None,
    };
    Some(Output {
        name,
        what,
        stamp: Stamp::Keep,
        owner: None,
    })
}
