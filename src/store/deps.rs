//! Vectors of deps, in pieces that executions share. doc/store.md, "Deps".
//!
//! A dep in a piece is: difference of its name's id to that of the dep before, number of its shape, and
//! what the shape says that follows: content, size, time stamp, text, device, rank. A shape is access
//! (u16), kind (u8), what follows (u8), permission bits and owners (3 u32), errno (i32).

use super::Error;
use super::codec::{Reader, push, unzigzag, zigzag};
use super::contents;
use super::layout::{put_u32, u32_at};
use super::pages::{Pages, PagesMut};
use super::schema::{HEAP, NAMES, PIECES, SHAPES, SHAPES_BY_BYTES};
use crate::base::{Access, Dep, Digest, Name, State};
use std::borrow::Cow;
use std::collections::HashMap;

/// A piece ends after every dep whose hash has these bits zero...
const CUT: u64 = 31;
/// ... or when it has so many.
const MAX_PIECE: usize = 256;

const CONTENT: u8 = 1;
const SIZE: u8 = 2;
const MTIME: u8 = 4;
const RANK: u8 = 8;

type Shape = [u8; 20];

/// Shapes that were looked up, by number: there are few, and each dep has one.
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Option<Shape>>);

impl Shapes {
    /// Greater numbers than this are looked up each time.
    const MANY: usize = 4096;

    fn get(&mut self, pages: &impl Pages, id: u32) -> Result<Shape, Error> {
        let index = id as usize;
        if let Some(Some(shape)) = self.0.get(index) {
            return Ok(*shape);
        }
        let mut shape = [0; 20];
        shape.copy_from_slice(SHAPES.get(pages, id)?);
        if index < Self::MANY {
            self.0.resize(self.0.len().max(index + 1), None);
            self.0[index] = Some(shape);
        }
        Ok(shape)
    }
}

/// A dep without what nobody looked at: time stamps and sizes that cannot invalidate it.
#[must_use]
pub fn canonical(dep: &Dep) -> Dep {
    let mut dep = dep.clone();
    match &mut dep.state {
        State::File {
            size,
            mtime,
            digest,
            ..
        } => {
            if !dep.access.any(Access::MTIME) {
                *mtime = 0;
            }
            if !dep.access.any(Access::SIZE) && digest.is_none() {
                *size = 0;
            }
        }
        State::Dir { mtime, .. } | State::Link(_, mtime) if !dep.access.any(Access::MTIME) => {
            *mtime = 0;
        }
        State::Absent
        | State::Dir { .. }
        | State::Link(..)
        | State::Other(..)
        | State::Hidden(_) => {}
    }
    dep
}

/// Stores a vector; gives the address of its list of pieces.
pub(super) fn add(pages: &mut impl PagesMut, deps: &[Dep]) -> Result<u32, Error> {
    let mut list = Vec::new();
    let mut shapes = HashMap::new();
    let mut piece = Vec::new();
    let (mut n_deps, mut last) = (0, 0);
    for dep in deps {
        let name = NAMES.intern(pages, dep.name.bytes())?;
        encode(pages, &mut piece, &mut shapes, &canonical(dep), name, last)?;
        (n_deps, last) = (n_deps + 1, name);
        let hash = u64::from(name).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        if hash & CUT == 0 || n_deps == MAX_PIECE {
            list.extend(share(pages, &piece, n_deps)?.to_le_bytes());
            piece.clear();
            (n_deps, last) = (0, 0);
        }
    }
    if n_deps > 0 {
        list.extend(share(pages, &piece, n_deps)?.to_le_bytes());
    }
    HEAP.add(pages, &list)
}

/// Reads a vector.
pub(super) fn get(pages: &impl Pages, list: u32) -> Result<Vec<Dep>, Error> {
    let mut deps = Vec::new();
    let mut shapes = Shapes::default();
    for piece in pieces(pages, list)? {
        let bytes = HEAP.read(pages, piece)?;
        let n_deps = u32_at(&bytes, 4);
        let mut reader = Reader(bytes.get(8..).unwrap_or_default());
        let mut last = 0;
        for _ in 0..n_deps {
            let (dep, name) = decode(pages, &mut shapes, &mut reader, last, piece)?;
            deps.push(dep);
            last = name;
        }
    }
    Ok(deps)
}

/// Gives back a vector, and those of its pieces that nobody else has.
pub(super) fn remove(pages: &mut impl PagesMut, list: u32) -> Result<(), Error> {
    for piece in pieces(pages, list)? {
        let bytes = HEAP.read(pages, piece)?.into_owned();
        let n_users = u32_at(&bytes, 0);
        if n_users > 1 {
            pages.put_u32(HEAP.segment, u64::from(piece) * 8 + 4, n_users - 1)?;
            continue;
        }
        let content = bytes.get(4..).unwrap_or_default();
        PIECES.remove(pages, hash(content), piece)?;
        HEAP.remove(pages, piece)?;
    }
    HEAP.remove(pages, list)
}

/// The addresses of the pieces of a vector.
pub(super) fn pieces(pages: &impl Pages, list: u32) -> Result<Vec<u32>, Error> {
    let bytes = self::list(pages, list)?;
    Ok(bytes.chunks_exact(4).map(|b| u32_at(b, 0)).collect())
}

/// The addresses of the pieces of a vector, 4 bytes each.
pub(super) fn list(pages: &impl Pages, list: u32) -> Result<Cow<'_, [u8]>, Error> {
    HEAP.read(pages, list)
}

/// Ids of the names that a piece has deps on.
pub(super) fn names(
    pages: &impl Pages,
    piece: u32,
    shapes: &mut Shapes,
) -> Result<Vec<u32>, Error> {
    let mut names = Vec::new();
    let _users = each(pages, piece, shapes, |name, _| names.push(name))?;
    Ok(names)
}

/// Gives id of the name and access of a piece's deps; of absent names no access. Tells how many have the piece.
pub(super) fn each(
    pages: &impl Pages,
    piece: u32,
    shapes: &mut Shapes,
    mut take: impl FnMut(u32, Access),
) -> Result<u32, Error> {
    let bytes = HEAP.read(pages, piece)?;
    let n_deps = u32_at(&bytes, 4);
    let mut reader = Reader(bytes.get(8..).unwrap_or_default());
    let mut last = 0;
    for _ in 0..n_deps {
        let (name, shape) = head(pages, shapes, &mut reader, last, piece)?;
        let access = match shape[2] {
            0 => Access::NONE,
            _ => Access::from_bits(u16::from_le_bytes([shape[0], shape[1]])),
        };
        skip(&mut reader, &shape).ok_or_else(|| cut_off(pages, piece))?;
        take(name, access);
        last = name;
    }
    Ok(u32_at(&bytes, 0))
}

/// The address of a piece with this content; one more has it now.
fn share(pages: &mut impl PagesMut, piece: &[u8], n_deps: usize) -> Result<u32, Error> {
    let mut block = vec![0; 8];
    put_u32(&mut block, 0, 1);
    put_u32(&mut block, 4, u32::try_from(n_deps).unwrap_or(u32::MAX));
    block.extend_from_slice(piece);
    let hash = hash(&block[4..]);
    let found = PIECES.find(pages, hash, |address| {
        let there = HEAP.read(pages, address)?;
        Ok(there.get(4..) == Some(&block[4..]))
    })?;
    if let Some(address) = found {
        let at = u64::from(address) * 8 + 4;
        let n_users = pages.u32_at(HEAP.segment, at)?;
        pages.put_u32(HEAP.segment, at, n_users.saturating_add(1))?;
        return Ok(address);
    }
    let address = HEAP.add(pages, &block)?;
    PIECES.insert(pages, hash, address)?;
    Ok(address)
}

fn hash(bytes: &[u8]) -> u32 {
    u32_at(&Digest::of(bytes).0, 0)
}

fn encode(
    pages: &mut impl PagesMut,
    bytes: &mut Vec<u8>,
    shapes: &mut HashMap<Shape, u32>,
    dep: &Dep,
    name: u32,
    last: u32,
) -> Result<(), Error> {
    let mut shape: Shape = [0; 20];
    let mut rest = Vec::new();
    shape[..2].copy_from_slice(&dep.access.bits().to_le_bytes());
    let mut follows = 0;
    let mut put_mode = |mode: &[u32; 3]| {
        for (index, number) in mode.iter().enumerate() {
            put_u32(&mut shape, 4 + index * 4, *number);
        }
    };
    let kind = match &dep.state {
        State::Absent => 0,
        State::File {
            mode,
            size,
            mtime,
            digest,
        } => {
            put_mode(mode);
            let mut known = 0;
            if let Some(digest) = digest {
                let id = contents::intern(pages, digest, *size)?;
                known = contents::get(pages, id)?.1;
                follows |= CONTENT;
                push(&mut rest, u64::from(id));
            }
            if *size != known {
                follows |= SIZE;
                push(&mut rest, *size);
            }
            if *mtime != 0 {
                follows |= MTIME;
                push(&mut rest, zigzag(*mtime));
            }
            1
        }
        State::Dir { mode, mtime, list } => {
            put_mode(mode);
            if let Some(digest) = list {
                follows |= CONTENT;
                push(&mut rest, u64::from(contents::intern(pages, digest, 0)?));
            }
            if *mtime != 0 {
                follows |= MTIME;
                push(&mut rest, zigzag(*mtime));
            }
            2
        }
        State::Link(text, mtime) => {
            if *mtime != 0 {
                follows |= MTIME;
                push(&mut rest, zigzag(*mtime));
            }
            push(&mut rest, text.len() as u64);
            rest.extend_from_slice(text);
            3
        }
        State::Other(mode, device) => {
            put_mode(mode);
            push(&mut rest, *device);
            4
        }
        State::Hidden(errno) => {
            shape[16..].copy_from_slice(&errno.to_le_bytes());
            5
        }
    };
    if dep.rank != 0 {
        follows |= RANK;
        // The one that stands for the future is the largest.
        push(&mut rest, u64::from(dep.rank.wrapping_add(1)));
    }
    shape[2] = kind;
    shape[3] = follows;
    let shape = match shapes.get(&shape) {
        Some(id) => *id,
        None => {
            let id = intern_shape(pages, &shape)?;
            shapes.insert(shape, id);
            id
        }
    };
    push(bytes, zigzag(i64::from(name) - i64::from(last)));
    push(bytes, u64::from(shape));
    bytes.extend_from_slice(&rest);
    Ok(())
}

fn intern_shape(pages: &mut impl PagesMut, shape: &Shape) -> Result<u32, Error> {
    let hash = hash(shape);
    let found = SHAPES_BY_BYTES.find(pages, hash, |id| Ok(SHAPES.get(pages, id)? == shape))?;
    if let Some(id) = found {
        return Ok(id);
    }
    let id = SHAPES.add(pages, shape)?;
    SHAPES_BY_BYTES.insert(pages, hash, id)?;
    Ok(id)
}

/// The name and the shape with which a dep begins.
fn head(
    pages: &impl Pages,
    shapes: &mut Shapes,
    reader: &mut Reader<'_>,
    last: u32,
    piece: u32,
) -> Result<(u32, Shape), Error> {
    let mut numbers = || {
        let name = i64::from(last).checked_add(unzigzag(reader.number()?))?;
        Some((u32::try_from(name).ok()?, reader.u32()?))
    };
    let (name, id) = numbers().ok_or_else(|| cut_off(pages, piece))?;
    Ok((name, shapes.get(pages, id)?))
}

fn decode(
    pages: &impl Pages,
    shapes: &mut Shapes,
    reader: &mut Reader<'_>,
    last: u32,
    piece: u32,
) -> Result<(Dep, u32), Error> {
    let (name, shape) = head(pages, shapes, reader, last, piece)?;
    let follows = |what: u8| shape[3] & what != 0;
    let damaged = || cut_off(pages, piece);
    let mode = [4, 8, 12].map(|at| u32_at(&shape, at));
    let mut content = None;
    if matches!(shape[2], 1 | 2) && follows(CONTENT) {
        let id = reader.u32().ok_or_else(damaged)?;
        content = Some(contents::get(pages, id)?);
    }
    let mut read = || {
        let mut size = content.map_or(0, |(_, size)| size);
        if follows(SIZE) {
            size = reader.number()?;
        }
        let mtime = match follows(MTIME) {
            true => unzigzag(reader.number()?),
            false => 0,
        };
        let digest = content.map(|(digest, _)| digest);
        let state = match shape[2] {
            0 => State::Absent,
            1 => State::File {
                mode,
                size,
                mtime,
                digest,
            },
            2 => State::Dir {
                mode,
                mtime,
                list: digest,
            },
            3 => {
                let len = usize::try_from(reader.number()?).ok()?;
                State::Link(reader.bytes(len)?.to_vec(), mtime)
            }
            4 => State::Other(mode, reader.number()?),
            5 => State::Hidden(u32_at(&shape, 16) as i32),
            _ => return None,
        };
        let rank = match follows(RANK) {
            true => reader.u32()?.wrapping_sub(1),
            false => 0,
        };
        Some((state, rank))
    };
    let (state, rank) = read().ok_or_else(damaged)?;
    let dep = Dep {
        name: Name::from_bytes(&NAMES.name(pages, name)?),
        access: Access::from_bits(u16::from_le_bytes([shape[0], shape[1]])),
        state,
        rank,
    };
    Ok((dep, name))
}

/// Passes over what follows the shape of a dep.
fn skip(reader: &mut Reader<'_>, shape: &Shape) -> Option<()> {
    for what in [CONTENT, SIZE, MTIME] {
        if shape[3] & what != 0 {
            reader.number()?;
        }
    }
    match shape[2] {
        3 => {
            let len = usize::try_from(reader.number()?).ok()?;
            reader.bytes(len)?;
        }
        4 => {
            reader.number()?;
        }
        _ => {}
    }
    if shape[3] & RANK != 0 {
        reader.number()?;
    }
    Some(())
}

fn cut_off(pages: &impl Pages, piece: u32) -> Error {
    let at = u64::from(piece) * 8;
    pages.damaged(HEAP.segment, at, "deps that are cut off")
}
