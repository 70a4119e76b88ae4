//! What the kernel would do with a file that is executed: the `#!` line of a script, the interpreter of
//! an ELF file.
//!
//! It reads only the file that it is given, trusts no byte of it, and resolves no path.

use std::io;
use std::ops::Range;

/// How far the kernel reads for `#!` and magic numbers (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
const PT_INTERP: u32 = 3;
const PATH_MAX: u64 = 4096;

/// A kind of program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// A script and the interpreter that its first line names.
    Script(Vec<u8>),
    /// An ELF file for this machine and the interpreter that it asks for.
    Elf(Option<Vec<u8>>),
    /// Something that the kernel runs only if it was told how (binfmt_misc), or not at all.
    Unknown,
}

/// Reads from an offset, as pread(2) does.
pub(crate) trait ReadAt {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let n = buf.len().min(self.len() - from);
        buf[..n].copy_from_slice(&self[from..from + n]);
        Ok(n)
    }
}

/// Looks at the beginning of a file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn inspect<R: ReadAt + ?Sized>(file: &R) -> io::Result<Program> {
    let mut head = [0; HEAD];
    let n = read_full(file, &mut head, 0)?;
    if head[..n].starts_with(b"#!") {
        return Ok(script(&head[..n]).map_or(Program::Unknown, Program::Script));
    }
    let Some(elf) = Elf::parse(&head[..n]) else {
        return Ok(Program::Unknown);
    };
    match elf.interpreter(file)? {
        Some(interpreter) => Ok(Program::Elf(interpreter)),
        None => Ok(Program::Unknown),
    }
}

/// The interpreter that a `#!` line names, as `load_script` finds it.
fn script(head: &[u8]) -> Option<Vec<u8>> {
    let line = &head[2..];
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let len = line.iter().position(|b| *b == b'\n');
    let start = line[..len.unwrap_or(line.len())]
        .iter()
        .position(|b| !blank(b))?;
    let name = &line[start..len.unwrap_or(line.len())];
    let end = name.iter().position(|b| blank(b) || *b == 0);
    // A name that the buffer may have cut is no name.
    if end.is_none() && len.is_none() && head.len() == HEAD {
        return None;
    }
    let name = &name[..end.unwrap_or(name.len())];
    (!name.is_empty()).then(|| name.to_vec())
}

/// What matters of an ELF header.
struct Elf {
    wide: bool,
    headers: u64,
    n_headers: u16,
}

impl Elf {
    fn parse(head: &[u8]) -> Option<Self> {
        let wide = match head.get(..6)? {
            b"\x7fELF\x02\x01" => true,
            b"\x7fELF\x01\x01" => false,
            _ => return None,
        };
        let kind = u16_at(head, 16)?;
        let machine = u16_at(head, 18)?;
        let known: &[u16] = if cfg!(target_arch = "aarch64") {
            &[183, 40]
        } else {
            &[62, 3]
        };
        if !matches!(kind, 2 | 3) || !known.contains(&machine) {
            return None;
        }
        let (headers, size, n_headers) = if wide {
            (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?)
        } else {
            (
                u64::from(u32_at(head, 28)?),
                u16_at(head, 42)?,
                u16_at(head, 44)?,
            )
        };
        let size_is_right = usize::from(size) == header_size(wide);
        (size_is_right && n_headers > 0).then_some(Self {
            wide,
            headers,
            n_headers,
        })
    }

    /// The path in the first `PT_INTERP`; the outer none says that the kernel would refuse the file.
    #[expect(
        clippy::option_option,
        reason = "no interpreter and a broken one are not the same"
    )]
    fn interpreter<R: ReadAt + ?Sized>(&self, file: &R) -> io::Result<Option<Option<Vec<u8>>>> {
        let size = header_size(self.wide);
        // The kernel takes no more than 64 KiB of program headers.
        let mut table = vec![0; (usize::from(self.n_headers) * size).min(65536 / size * size)];
        if read_full(file, &mut table, self.headers)? != table.len() {
            return Ok(None);
        }
        for header in table.chunks_exact(size) {
            if u32_at(header, 0) != Some(PT_INTERP) {
                continue;
            }
            let (Some(offset), Some(len)) = self.place(header) else {
                return Ok(None);
            };
            if !(2..=PATH_MAX).contains(&len) {
                return Ok(None);
            }
            let mut path = vec![0; usize::try_from(len).unwrap_or_default()];
            if read_full(file, &mut path, offset)? != path.len() || path.last() != Some(&0) {
                return Ok(None);
            }
            path.truncate(path.iter().position(|b| *b == 0).unwrap_or_default());
            return Ok(Some(Some(path)));
        }
        Ok(Some(None))
    }

    /// Offset in the file and length there of a segment.
    fn place(&self, header: &[u8]) -> (Option<u64>, Option<u64>) {
        if self.wide {
            (u64_at(header, 8), u64_at(header, 32))
        } else {
            (
                u32_at(header, 4).map(u64::from),
                u32_at(header, 16).map(u64::from),
            )
        }
    }
}

const fn header_size(wide: bool) -> usize {
    if wide { 56 } else { 32 }
}

fn read_full<R: ReadAt + ?Sized>(file: &R, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        let Some(at) = offset
            .checked_add(done as u64)
            .filter(|at| *at <= i64::MAX as u64)
        else {
            break;
        };
        match file.read_at(&mut buf[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    let range: Range<usize> = at..at.checked_add(N)?;
    from.get(range)?.try_into().ok()
}

fn u16_at(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    bytes(from, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Program {
        inspect(bytes).unwrap()
    }

    #[test]
    fn scripts_name_their_interpreter() {
        for (text, name) in [
            ("#!/bin/sh\n", "/bin/sh"),
            ("#! \t/usr/bin/env python3 -u\nrest", "/usr/bin/env"),
            ("#!/bin/sh", "/bin/sh"),
            ("#!sh -e", "sh"),
            ("#!/bin/sh\0garbage\n", "/bin/sh"),
        ] {
            assert_eq!(of(text.as_bytes()), Program::Script(name.into()), "{text}");
        }
        for text in ["#!", "#!\n/bin/sh\n", "#!  \n", "", "echo hello\n"] {
            assert_eq!(of(text.as_bytes()), Program::Unknown, "{text}");
        }
        let long = [b"#!/".to_vec(), vec![b'x'; 300], b"\n".to_vec()].concat();
        assert_eq!(of(&long), Program::Unknown);
        let argument = [b"#!/bin/sh ".to_vec(), vec![b'x'; 300], b"\n".to_vec()].concat();
        assert_eq!(of(&argument), Program::Script(b"/bin/sh".to_vec()));
    }

    #[test]
    fn this_test_names_its_loader() {
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let Program::Elf(Some(interpreter)) = inspect(&file).unwrap() else {
            panic!("not dynamic")
        };
        assert!(interpreter.starts_with(b"/lib"), "{interpreter:?}");
    }

    #[test]
    fn no_damage_of_an_elf_file_breaks_the_parser() {
        let good = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let good = &good[..good.len().min(4096)];
        for at in 0..1024.min(good.len()) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.to_vec();
                bad[at] = value;
                let _program = of(&bad);
            }
            let _program = of(&good[..at]);
        }
    }

    #[test]
    fn other_machines_are_unknown() {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes[18] = 243;
        assert_eq!(of(&bytes), Program::Unknown);
    }
}
