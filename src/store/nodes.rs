//! Nodes: the names that a store knows, by number. A number is never given to another name.

use super::Error;
use super::pages::{Pages, PagesMut};
use super::schema::NAMES;
use crate::base::Name;

/// The number of a name in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u32);

/// The node of a name.
///
/// # Errors
/// Damage.
pub fn find(pages: &impl Pages, name: &[u8]) -> Result<Option<Node>, Error> {
    Ok(NAMES.find(pages, name)?.map(Node))
}

/// The node of a name, which is added if it is new.
///
/// # Errors
/// Damage, or no more room.
pub fn add(pages: &mut impl PagesMut, name: &Name) -> Result<Node, Error> {
    NAMES.intern(pages, name.bytes()).map(Node)
}

/// The name of a node.
///
/// # Errors
/// Damage; also for a number that no name has.
pub fn name(pages: &impl Pages, node: Node) -> Result<Name, Error> {
    Ok(Name::from_bytes(&NAMES.name(pages, node.0)?))
}

/// The directory of names in one state of a store: theirs is the same if these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Directory(u32, u8);

/// The directory of a node's name: found faster than the name.
///
/// # Errors
/// As [`name`].
pub fn directory(pages: &impl Pages, node: Node) -> Result<Directory, Error> {
    let (address, at) = NAMES.directory(pages, node.0)?;
    Ok(Directory(address, at))
}

/// The nodes of the names that begin with some bytes, with their names, in no order.
///
/// # Errors
/// Damage.
pub fn beginning(pages: &impl Pages, start: &[u8]) -> Result<Vec<(Node, Name)>, Error> {
    let found = NAMES.beginning(pages, start)?.into_iter();
    let found = found.map(|(id, name)| (Node(id), Name::from_bytes(&name)));
    Ok(found.collect())
}

/// How many there are.
///
/// # Errors
/// Damage.
pub fn count(pages: &impl Pages) -> Result<u32, Error> {
    NAMES.nodes.count(pages)
}
