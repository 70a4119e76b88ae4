//! The slab of this process: getting one, and noting what was seen.
//!
//! All that changes is in one page of memory that a forked child finds empty, so a child begins anew. A
//! child of vfork(2) shares it and notes for its parent. One caller at a time may note; another, a signal
//! handler above all, is turned away and makes its call the slow way.
#![allow(unsafe_code)]

use crate::sys;
use crate::wire::{self, Entry, Hello};
use core::ptr::null_mut;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

const MADV_DONTFORK: usize = 10;
const MADV_WIPEONFORK: usize = 18;
const EAGAIN: isize = 11;
/// So many calls go the slow way before a slab is asked for: most processes make few.
const PATIENCE: u32 = 2;
const SEEN: usize = 256;
const STATE: usize = 4096;

/// What a process knows of its slab. All zero in a forked child.
#[repr(C, align(8))]
pub(crate) struct State {
    attached: AtomicU8,
    attaching: AtomicU8,
    /// Somebody is noting.
    busy: AtomicU8,
    calls: AtomicU32,
    slab: AtomicPtr<u8>,
    /// Hashes of what was noted.
    seen: [AtomicU64; SEEN],
}

const _: () = assert!(size_of::<State>() <= STATE);

/// The page; null until it is there.
static PAGE: AtomicPtr<State> = AtomicPtr::new(null_mut());
/// Calls before that.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// The secret; zero until it is known. Children of fork know it too.
static COOKIE: AtomicUsize = AtomicUsize::new(0);
/// No slab can be had.
static DEAD: AtomicU8 = AtomicU8::new(0);

/// The slab of this process, if it has one.
pub(crate) fn ready() -> Option<&'static State> {
    let page = PAGE.load(Acquire);
    if page.is_null() {
        if CALLS.fetch_add(1, Relaxed) < PATIENCE {
            return None;
        }
        return first();
    }
    // SAFETY: a page that was put there stays for good, and all its fields may be anything.
    let state = unsafe { &*page };
    if state.attached.load(Acquire) == 0 {
        if state.calls.fetch_add(1, Relaxed) < PATIENCE {
            return None;
        }
        state.attach()?;
    }
    (state.word(wire::STOP).load(Relaxed) == 0).then_some(state)
}

/// The secret, zero while it is not known: calls that carry that stop.
pub(crate) fn cookie() -> usize {
    COOKIE.load(Relaxed)
}

#[cold]
fn first() -> Option<&'static State> {
    if DEAD.load(Relaxed) != 0 {
        return None;
    }
    let page = sys::pages(STATE)?;
    if !sys::advise(page, STATE, MADV_WIPEONFORK) {
        DEAD.store(1, Relaxed);
        sys::unmap(page, STATE);
        return None;
    }
    let new: *mut State = page.cast();
    if PAGE
        .compare_exchange(null_mut(), new, Release, Relaxed)
        .is_err()
    {
        sys::unmap(page, STATE);
        return None;
    }
    // SAFETY: as above; fresh pages are zero, which every field may be.
    unsafe { &*new }.attach()
}

impl State {
    /// Asks the supervisor for a slab.
    #[cold]
    fn attach(&'static self) -> Option<&'static Self> {
        if DEAD.load(Relaxed) != 0 || self.attaching.swap(1, Acquire) != 0 {
            return None;
        }
        let got = self.ask();
        match got {
            Ok(()) => self.attached.store(1, Release),
            // The supervisor has none for us now: a child of vfork, whose page is its parent's.
            Err(EAGAIN) => self.calls.store(0, Relaxed),
            Err(_) => DEAD.store(1, Relaxed),
        }
        self.attaching.store(0, Release);
        got.ok().map(|()| self)
    }

    fn ask(&self) -> Result<(), isize> {
        let mut hello = Hello {
            name: *b"linux-rfs-hello\0",
            answer: [0; wire::ANSWER],
        };
        let at = &raw mut hello;
        let args = [
            wire::HELLO as usize,
            at as usize,
            wire::VERSION as usize,
            size_of::<Hello>(),
            0,
            0,
        ];
        // SAFETY: without a supervisor this opens a name below a descriptor that nothing has; the
        // supervisor writes no more than the structure.
        let fd = unsafe { sys::call(sys::OPENAT, args) };
        if fd < 0 {
            return Err(-fd);
        }
        // SAFETY: the supervisor may have written it meanwhile.
        let Hello { answer, .. } = unsafe { at.read_volatile() };
        let number = |at: usize| {
            let bytes = answer
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            usize::from_le_bytes(bytes.unwrap_or_default())
        };
        let (cookie, offset) = (number(0), number(8));
        // A call that maps descriptor 0 would count as one that reads standard input.
        let slab = if fd > 2 {
            sys::shared(fd, offset, wire::SLAB)
        } else {
            None
        };
        sys::close(fd);
        let slab = slab.ok_or(0_isize)?;
        if !sys::advise(slab, wire::SLAB, MADV_DONTFORK) {
            sys::unmap(slab, wire::SLAB);
            return Err(0);
        }
        COOKIE.store(cookie, Relaxed);
        self.slab.store(slab.cast(), Release);
        Ok(())
    }

    /// A control word of the slab.
    fn word(&self, at: usize) -> &AtomicU32 {
        let slab = self.slab.load(Acquire);
        // SAFETY: once attached the mapping stays for good, and the word lies in its first page.
        unsafe { &*slab.wrapping_add(at).cast::<AtomicU32>() }
    }

    /// Whether a look at a path must stop.
    pub(crate) fn is_guarded(&self, path: &[u8]) -> bool {
        let len = self.word(wire::GUARD).load(Relaxed) as usize;
        if len == 0 {
            return false;
        }
        if len > wire::MAX_GUARD || path.first() != Some(&b'/') {
            return true;
        }
        let mut name = [0; wire::MAX_GUARD];
        for (at, bytes) in name.chunks_exact_mut(4).enumerate().take(len.div_ceil(4)) {
            let word = self.word(wire::GUARDED + 4 * at).load(Relaxed);
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let name = name.get(..len).unwrap_or_default();
        path.windows(len).any(|part| part == name)
    }

    /// Notes an entry, `once` unless it was noted before. False: it could not be noted.
    #[must_use]
    pub(crate) fn note(&self, entry: &Entry<'_>, once: bool) -> bool {
        if self.busy.swap(1, Acquire) != 0 {
            return false;
        }
        let mut hash = entry.hash();
        if entry.path.first() != Some(&b'/') {
            hash ^= u64::from(self.word(wire::CWD).load(Relaxed)).rotate_right(16);
        }
        let seen = &self.seen[(hash % SEEN as u64) as usize];
        let known = once && seen.load(Relaxed) == hash;
        let noted = known || self.append(entry);
        if noted {
            seen.store(hash, Relaxed);
        }
        self.busy.store(0, Release);
        noted
    }

    fn append(&self, entry: &Entry<'_>) -> bool {
        let (tail, head) = (self.word(wire::TAIL), self.word(wire::HEAD));
        let mut at = tail.load(Relaxed);
        let used = at.wrapping_sub(head.load(Acquire)) as usize;
        let len = entry.len();
        let to_end = wire::RING - at as usize % wire::RING;
        let pad = if len > to_end { to_end } else { 0 };
        if used > wire::RING || len + pad > wire::RING - used {
            return false;
        }
        // SAFETY: the ring follows the control page, and nobody but the holder of `busy` writes there;
        // the supervisor reads no further than the tail.
        let ring = unsafe { self.slab.load(Acquire).add(wire::CONTROL) };
        if pad > 0 {
            // SAFETY: `at` modulo the ring's size lies within it, with `pad` bytes, 8 at least, behind.
            let place = unsafe { place(ring, at, 4) };
            place.copy_from_slice(&wire::pad(pad));
            at = at.wrapping_add(pad as u32);
        }
        // SAFETY: `len` bytes are free there and do not cross the ring's end.
        entry.write(unsafe { place(ring, at, len) });
        tail.store(at.wrapping_add(len as u32), Release);
        true
    }
}

/// Bytes of the ring.
///
/// # Safety
/// They lie within the ring, and nobody else uses them.
unsafe fn place<'a>(ring: *mut u8, at: u32, len: usize) -> &'a mut [u8] {
    // SAFETY: the caller says so.
    let first = unsafe { ring.add(at as usize % wire::RING) };
    // SAFETY: the caller says so.
    unsafe { core::slice::from_raw_parts_mut(first, len) }
}
