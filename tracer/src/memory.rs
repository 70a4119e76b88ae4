//! Reading the memory of a stopped thread: bytes, strings, vectors of strings and of buffers.
//!
//! Everything is bounded, and nothing that is read is trusted. What a thread shows can be changed by its
//! other threads at any time; whether it still waits in the call must be asked after reading.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

/// The unit in which memory can be unreadable.
const PAGE: usize = 4096;

/// Size of a pointer in the caller's ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtrSize {
    /// 32-bit ABIs, x32 included.
    Four,
    /// 64-bit ABIs.
    Eight,
}

impl PtrSize {
    /// That of an ABI.
    pub fn of(abi: crate::call::Abi) -> Self {
        use crate::call::Abi;
        match abi {
            Abi::X86_64 | Abi::Aarch64 | Abi::Unknown(_) => Self::Eight,
            Abi::I386 | Abi::X32 | Abi::Arm => Self::Four,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    fn decode(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Self::Four => Some(u64::from(u32::from_le_bytes(
                bytes.get(..4)?.try_into().ok()?,
            ))),
            Self::Eight => Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)),
        }
    }
}

/// Whether two threads live in the same memory. See kcmp(2).
///
/// # Errors
/// `ESRCH` when one is gone, `EPERM` when they may not be looked into, `ENOSYS` where nobody can tell.
pub fn is_shared(one: i32, other: i32) -> io::Result<bool> {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: the call takes numbers and only compares.
    let ret = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    match ret {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}

/// Reads up to `buf.len()` bytes at `addr`; fewer where an unreadable page follows.
///
/// # Errors
/// `EFAULT` when not even the first byte can be read, `ESRCH` when the thread is gone, `EPERM` when it may
/// not be looked into. See process_vm_readv(2).
pub fn read(tid: i32, addr: u64, buf: &mut [u8]) -> io::Result<usize> {
    if buf.is_empty() {
        return Ok(0);
    }
    // Only whole pieces are promised in a partial read: the pieces end where pages end.
    let start = usize::try_from(addr).map_err(io::Error::other)?;
    let end = start.checked_add(buf.len()).ok_or(Errno::EFAULT)?;
    let mut done = 0;
    while done < buf.len() {
        let mut remote = [RemoteIoVec { base: 0, len: 0 }; 16];
        let (mut at, mut n) = (start + done, 0);
        while at < end && n < remote.len() {
            let len = (PAGE - at % PAGE).min(end - at);
            remote[n] = RemoteIoVec { base: at, len };
            at += len;
            n += 1;
        }
        let wanted = at - start - done;
        let mut local = [IoSliceMut::new(&mut buf[done..done + wanted])];
        match process_vm_readv(Pid::from_raw(tid), &mut local, &remote[..n]) {
            Ok(got) if got == wanted => done += got,
            Ok(got) => return Ok(done + got),
            Err(Errno::EFAULT) if done > 0 => return Ok(done),
            // A container may forbid the call, but not the file.
            Err(Errno::ENOSYS | Errno::EPERM) if done == 0 => return read_file(tid, addr, buf),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

fn read_file(tid: i32, addr: u64, buf: &mut [u8]) -> io::Result<usize> {
    let file = File::open(format!("/proc/{tid}/mem"))?;
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], addr + done as u64) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            // The file says EIO where the call says EFAULT.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => return Err(Errno::EFAULT.into()),
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads all of `buf`.
///
/// # Errors
/// As [`read`], and `EFAULT` when only a part can be read.
pub fn read_exact(tid: i32, addr: u64, buf: &mut [u8]) -> io::Result<()> {
    if read(tid, addr, buf)? == buf.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT.into())
    }
}

/// Reads a string up to its NUL byte, which is left out.
///
/// # Errors
/// As [`read`]; `ENAMETOOLONG` when there is no NUL within `max` bytes.
pub fn c_str(tid: i32, addr: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    // Most strings are short paths: one call, which may cross into the next page.
    let mut step = 256;
    while out.len() < max {
        let old = out.len();
        out.resize((old + step).min(max), 0);
        let from = addr.checked_add(old as u64).ok_or(Errno::EFAULT)?;
        let got = read(tid, from, &mut out[old..])?;
        if got == 0 {
            return Err(Errno::EFAULT.into());
        }
        out.truncate(old + got);
        if let Some(nul) = out[old..].iter().position(|&b| b == 0) {
            out.truncate(old + nul);
            return Ok(out);
        }
        step = PAGE;
    }
    Err(Errno::ENAMETOOLONG.into())
}

/// Reads a vector of strings that ends with a null pointer, as execve(2) takes it. A null vector is empty.
///
/// # Errors
/// As [`read`]; `E2BIG` when pointers and strings take more than `max` bytes together.
pub fn str_vec(tid: i32, addr: u64, size: PtrSize, max: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    if addr == 0 {
        return Ok(out);
    }
    let mut left = max;
    let mut take = |bytes: usize| {
        left = left.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        Ok::<usize, Errno>(left)
    };
    let (mut at, mut block) = (addr, [0; 1024]);
    loop {
        let got = read(tid, at, &mut block)?;
        let whole = got - got % size.bytes();
        if whole == 0 {
            return Err(Errno::EFAULT.into());
        }
        let pointers: Vec<u64> = block[..whole]
            .chunks_exact(size.bytes())
            .map_while(|pointer| size.decode(pointer).filter(|pointer| *pointer != 0))
            .collect();
        let ends = pointers.len() < whole / size.bytes();
        let pages = Pages::read(tid, &pointers);
        for pointer in pointers {
            let room = take(size.bytes())?;
            let string = pages.c_str(pointer, room)?;
            take(string.len() + 1)?;
            out.push(string);
        }
        if ends {
            return Ok(out);
        }
        at = at.checked_add(whole as u64).ok_or(Errno::EFAULT)?;
    }
}

/// The pages in which some strings begin, read in one go: a page that is read may have to be copied for it (one
/// that parent and child share), so none is read twice, and none for nothing.
struct Pages {
    tid: i32,
    /// Ascending.
    starts: Vec<usize>,
    bytes: Vec<u8>,
}

impl Pages {
    fn read(tid: i32, pointers: &[u64]) -> Self {
        let page = |pointer: &u64| usize::try_from(pointer - pointer % PAGE as u64).ok();
        let mut starts: Vec<usize> = pointers.iter().filter_map(page).collect();
        starts.sort_unstable();
        starts.dedup();
        let remote: Vec<_> = starts
            .iter()
            .map(|base| RemoteIoVec {
                base: *base,
                len: PAGE,
            })
            .collect();
        let mut bytes = vec![0; starts.len() * PAGE];
        let mut local = [IoSliceMut::new(&mut bytes)];
        // What is missing here is asked for string by string.
        let got = process_vm_readv(Pid::from_raw(tid), &mut local, &remote).unwrap_or(0);
        starts.truncate(got / PAGE);
        Self { tid, starts, bytes }
    }

    /// The string at `addr`, of at most `max` bytes with its NUL.
    fn c_str(&self, addr: u64, max: usize) -> io::Result<Vec<u8>> {
        match self.find(addr) {
            Some(found) if found.len() < max => Ok(found.to_vec()),
            Some(_) => Err(Errno::E2BIG.into()),
            None => c_str(self.tid, addr, max).map_err(|e| match e.raw_os_error() {
                Some(libc::ENAMETOOLONG) => Errno::E2BIG.into(),
                _ => e,
            }),
        }
    }

    fn find(&self, addr: u64) -> Option<&[u8]> {
        let offset = usize::try_from(addr).ok()? % PAGE;
        let start = usize::try_from(addr).ok()? - offset;
        let first = self.starts.binary_search(&start).ok()?;
        // Pages that follow each other in the process do so here as well.
        let follow = |n: &usize| self.starts.get(first + n) == Some(&(start + n * PAGE));
        let pages = (0..).take_while(follow).count();
        let tail = &self.bytes[first * PAGE + offset..(first + pages) * PAGE];
        tail.iter().position(|b| *b == 0).map(|len| &tail[..len])
    }
}

/// Reads a vector of `count` buffers (`struct iovec`): address and length of each.
///
/// # Errors
/// As [`read_exact`]; `EINVAL` for more than `IOV_MAX` buffers, as the kernel says.
pub fn iovecs(tid: i32, addr: u64, count: u64, size: PtrSize) -> io::Result<Vec<(u64, u64)>> {
    const IOV_MAX: u64 = 1024;
    if count > IOV_MAX {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = vec![0; count as usize * 2 * size.bytes()];
    read_exact(tid, addr, &mut bytes)?;
    let pairs = bytes.chunks_exact(2 * size.bytes());
    Ok(pairs
        .filter_map(|pair| {
            let (base, len) = pair.split_at(size.bytes());
            Some((size.decode(base)?, size.decode(len)?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn vector(strings: &[CString]) -> io::Result<Vec<Vec<u8>>> {
        let pointers = strings.iter().map(|s| s.as_ptr() as u64);
        let pointers: Vec<u64> = pointers.chain([0]).collect();
        let me = std::process::id() as i32;
        str_vec(me, pointers.as_ptr() as u64, PtrSize::Eight, 1 << 20)
    }

    #[test]
    fn vectors_of_strings_come_back() {
        let mut strings: Vec<CString> = (0..500)
            .map(|n| CString::new(format!("{n}={}", "x".repeat(n % 97))).unwrap())
            .collect();
        strings.push(CString::new("").unwrap());
        strings.push(CString::new(vec![b'y'; 100_000]).unwrap());
        strings.reverse();
        let read = vector(&strings).unwrap();
        assert!(read.iter().eq(strings.iter().map(|s| s.as_bytes())));
    }

    #[test]
    fn vectors_that_are_too_long_are_refused() {
        let long = vec![CString::new(vec![b'y'; 600_000]).unwrap(); 2];
        let error = vector(&long).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    }

    #[test]
    fn bad_pointers_are_told() {
        let me = std::process::id() as i32;
        let pointers = [8_u64, 0];
        for addr in [1, u64::MAX - 3, pointers.as_ptr() as u64] {
            let error = str_vec(me, addr, PtrSize::Eight, 1 << 20).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{addr:#x}");
        }
    }
}
