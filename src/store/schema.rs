//! Which table lies in which segment. The numbers are part of the format.

use super::heap::Heap;
use super::index::Index;
use super::names::Names;
use super::table::Table;

/// The version of everything below: tables, records and their encoding.
pub(super) const SCHEMA: u32 = 7;

pub(super) const NAMES: Names = Names {
    tree: Heap::new(0),
    nodes: Table::new(1, 4),
};
/// By id of a name: the execution that wrote it last (u32).
pub(super) const WRITERS: Table = Table::new(2, 4);
/// Digest, size (u64).
pub(super) const CONTENTS: Table = Table::new(3, 40);
pub(super) const CONTENTS_BY_DIGEST: Index = Index::new(4);
/// Stat identity (five u64), digest.
pub(super) const MEMO: Table = Table::new(5, 72);
pub(super) const MEMO_BY_FILE: Index = Index::new(6);
/// What `history` says.
pub(super) const EXECUTIONS: Table = Table::new(7, 88);
pub(super) const EXECUTIONS_BY_KEY: Index = Index::new(8);
/// Dep vectors, pieces of them, records.
pub(super) const HEAP: Heap = Heap::new(9);
pub(super) const PIECES: Index = Index::new(10);
/// What `shape` says.
pub(super) const SHAPES: Table = Table::new(11, 20);
pub(super) const SHAPES_BY_BYTES: Index = Index::new(12);
/// What `graph` says.
pub(super) const BUILDS: Table = Table::new(13, 56);
/// By id of a name: what `readers` says (u64).
pub(super) const READERS: Table = Table::new(14, 8);
