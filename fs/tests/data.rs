//! Bytes: reads, writes, mappings, holes, sizes and times.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use view::mapping::Mapping;
use view::{Mode, everywhere, modes, sh, with_host};

fn new_file(path: &str) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap()
}

/// Writes through a shared mapping, as a linker does.
fn write_mapped(path: &str, offset: usize, bytes: &[u8]) {
    let program = "import mmap, sys\n\
        f = open(sys.argv[1], 'r+b')\n\
        m = mmap.mmap(f.fileno(), 0)\n\
        at = int(sys.argv[2]); data = bytes.fromhex(sys.argv[3])\n\
        m[at:at + len(data)] = data\n\
        m.close(); f.close()\n";
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let status = std::process::Command::new("python3")
        .args(["-c", program, path, &offset.to_string(), &hex])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn size_and_time_are_right_after_every_write() {
    everywhere(|_| {
        let file = new_file("f");
        let mut last = fs::metadata("f").unwrap();
        for i in 0..20_u64 {
            file.write_all_at(b"0123456789", i * 10).unwrap();
            let now = fs::metadata("f").unwrap();
            assert_eq!(now.len(), (i + 1) * 10);
            assert_eq!(file.metadata().unwrap().len(), (i + 1) * 10);
            assert!((now.mtime(), now.mtime_nsec()) >= (last.mtime(), last.mtime_nsec()));
            last = now;
        }
        let old = std::time::SystemTime::UNIX_EPOCH;
        file.set_modified(old).unwrap();
        assert_eq!(fs::metadata("f").unwrap().modified().unwrap(), old);
        file.write_all_at(b"x", 0).unwrap();
        assert!(fs::metadata("f").unwrap().modified().unwrap() > old);
    });
}

#[test]
fn two_opens_see_each_other() {
    everywhere(|_| {
        let (one, two) = (
            new_file("f"),
            OpenOptions::new()
                .append(true)
                .read(true)
                .open("f")
                .unwrap(),
        );
        one.write_all_at(b"one", 0).unwrap();
        (&two).write_all(b"two").unwrap();
        let mut both = [0; 6];
        one.read_exact_at(&mut both, 0).unwrap();
        assert_eq!(&both, b"onetwo");
        one.set_len(1).unwrap();
        assert_eq!(two.metadata().unwrap().len(), 1);
        (&two).write_all(b"+").unwrap();
        assert_eq!(fs::read("f").unwrap(), b"o+");
    });
}

#[test]
fn appending_processes_lose_nothing() {
    everywhere(|_| {
        sh("for p in 1 2 3 4; do (for i in $(seq 100); do echo $p $i >> log; done) & done; wait");
        assert_eq!(sh("wc -l < log; sort -u log | wc -l"), "400\n400");
    });
}

#[test]
fn shared_mappings_reach_the_file() {
    for mode in modes() {
        with_host(
            mode,
            |_| {},
            |host| {
                host.talk.hear();
                assert_eq!(fs::read(host.root.join("f")).unwrap()[5000..5003], *b"abc");
                host.talk.say();
            },
            |inside| {
                fs::write("f", vec![0; 10_000]).unwrap();
                let file = File::open("f").unwrap();
                let old = std::time::SystemTime::UNIX_EPOCH;
                OpenOptions::new()
                    .write(true)
                    .open("f")
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
                assert_eq!(file.metadata().unwrap().modified().unwrap(), old);
                write_mapped("f", 5000, b"abc");
                let mut read = [0; 3];
                file.read_exact_at(&mut read, 5000).unwrap();
                assert_eq!(&read, b"abc");
                assert_eq!(file.metadata().unwrap().len(), 10_000);
                inside.talk.say();
                inside.talk.hear();
                // Pages of a mapping are written where they are, though the file appends.
                let mut append = OpenOptions::new()
                    .read(true)
                    .append(true)
                    .open("f")
                    .unwrap();
                write_mapped("f", 1, b"Q");
                append.write_all(b"end").unwrap();
                assert_eq!(fs::metadata("f").unwrap().len(), 10_003);
                let all = fs::read("f").unwrap();
                assert_eq!((all[1], &all[10_000..]), (b'Q', &b"end"[..]));
            },
        );
    }
}

/// The kernel writes back by write(2) to us, and the write of an unprivileged server takes the bits away.
#[test]
fn what_is_written_back_takes_setgid_away_without_privilege() {
    everywhere(|inside| {
        let file = new_file("f");
        file.write_all_at(b"0123456789", 0).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o2711))
            .unwrap();
        let mapping = Mapping::new(&file, NonZeroUsize::new(10).unwrap()).unwrap();
        mapping.write(3, b"x");
        mapping.sync().unwrap();
        file.sync_all().unwrap();
        let mode = fs::metadata("f").unwrap().mode() & 0o7777;
        let expected = match inside.mode {
            Mode::Passthrough | Mode::Cached => 0o2711,
            Mode::Unprivileged => 0o711,
        };
        assert_eq!(mode, expected);
    });
}

/// Without passthrough the file has what was written through a mapping when it is synced or unmapped.
#[test]
fn a_hole_that_is_written_to_by_mapping_is_found_when_synced() {
    everywhere(|inside| {
        let file = new_file("f");
        file.set_len(1 << 20).unwrap();
        let mapping = Mapping::new(&file, NonZeroUsize::new(1 << 20).unwrap()).unwrap();
        mapping.write(1 << 19, b"x");
        let data = || rustix::fs::seek(&file, SeekFrom::Data(0));
        match inside.mode {
            Mode::Passthrough => assert_eq!(data(), Ok(1 << 19)),
            Mode::Cached | Mode::Unprivileged => assert_eq!(data(), Err(Errno::NXIO)),
        }
        mapping.sync().unwrap();
        assert_eq!(data(), Ok(1 << 19));
        mapping.write(1 << 18, b"x");
        drop(mapping);
        assert_eq!(data(), Ok(1 << 18));
    });
}

#[test]
fn times_of_a_file_that_is_mapped_are_right() {
    // Stats between the steps fill the kernel's cache of attributes. Some filesystems (tmpfs) keep the old
    // time when a mapping is written to, so the backing one is asked first.
    let program = "
import mmap, os
open('f', 'wb').write(b'0' * 4096)
f = open('f', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m.read(1)
os.utime('f', (1, 1))
assert os.stat('f').st_mtime == 1
m[0:1] = b'x'
m.flush()
print(os.stat('f').st_mtime > 1)
os.utime('f', (1, 1))
m.close(); f.close()
f = open('f', 'r+b')
m = mmap.mmap(f.fileno(), 0)
os.stat('f')
m[1:2] = b'y'
m.flush(); m.close(); f.close()
print(os.stat('f').st_mtime > 1)
assert open('f', 'rb').read(3) == b'xy0'
os.remove('f')
";
    for mode in modes() {
        let prepare = |config: &mut rfs_fs::Config| {
            fs::write(config.root.join("p.py"), program).unwrap();
            let dir = config.root.display();
            sh(&format!("cd {dir}; python3 p.py > expected"));
        };
        with_host(
            mode,
            prepare,
            |_| {},
            |_| {
                let (seen, expected) = (sh("python3 p.py"), sh("cat expected"));
                for (seen, expected) in seen.lines().zip(expected.lines()) {
                    // Bytes that pass through the server are written, not mapped: the time is right.
                    assert!(seen == expected || seen == "True", "{seen} {expected}");
                }
            },
        );
    }
}

#[test]
fn truncation_by_open_path_and_descriptor() {
    everywhere(|_| {
        fs::write("f", vec![7; 100_000]).unwrap();
        let reader = File::open("f").unwrap();
        let mut byte = [0];
        reader.read_exact_at(&mut byte, 99_999).unwrap();
        sh("truncate -s 50000 f");
        assert_eq!(reader.metadata().unwrap().len(), 50_000);
        assert_eq!(reader.read_at(&mut byte, 50_000).unwrap(), 0);
        sh("truncate -s 60000 f");
        reader.read_exact_at(&mut byte, 55_000).unwrap();
        assert_eq!(byte, [0]);
        drop(File::create("f").unwrap());
        assert_eq!(reader.metadata().unwrap().len(), 0);
        assert_eq!(fs::read("f").unwrap(), b"");
    });
}

#[test]
fn holes_are_kept_and_found() {
    everywhere(|_| {
        let file = new_file("f");
        const FAR: u64 = 5 << 30;
        file.write_all_at(b"far", FAR).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), FAR + 3);
        assert!(meta.blocks() < 1000);
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(0)).unwrap(), FAR);
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)).unwrap(), 0);
        assert_eq!(
            rustix::fs::seek(&file, SeekFrom::Data(FAR + 3)),
            Err(Errno::NXIO)
        );
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 8192).unwrap();
        assert!(file.metadata().unwrap().blocks() >= 16);
        file.write_all_at(&[1; 8192], 0).unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 0, 4096).unwrap();
        let mut bytes = [9; 2];
        file.read_exact_at(&mut bytes, 4095).unwrap();
        assert_eq!(bytes, [0, 1]);
        let more = FAR + (1 << 20);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), more - 1, 1).unwrap();
        assert_eq!(file.metadata().unwrap().len(), more);
    });
}

#[test]
fn ranges_are_copied() {
    everywhere(|_| {
        fs::write("a", "0123456789").unwrap();
        let (from, to) = (File::open("a").unwrap(), new_file("b"));
        let (mut from_at, mut to_at) = (2, 5);
        let n = rustix::fs::copy_file_range(&from, Some(&mut from_at), &to, Some(&mut to_at), 4);
        assert_eq!((n.unwrap(), from_at, to_at), (4, 6, 9));
        assert_eq!(to.metadata().unwrap().len(), 9);
        assert_eq!(fs::read("b").unwrap(), b"\0\0\0\0\x002345");
        fs::write("big", vec![3; 3_000_000]).unwrap();
        sh("cp big copy; cmp big copy; cp --sparse=never big copy; cmp big copy");
    });
}

#[test]
fn big_transfers_arrive_whole() {
    everywhere(|_| {
        let data: Vec<u8> = (0..9_000_001_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        fs::write("f", &data).unwrap();
        assert!(fs::read("f").unwrap() == data);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open("f")
            .unwrap();
        let mut start = vec![0; 8192];
        let shift = start.as_ptr().align_offset(4096);
        let aligned = &mut start[shift..shift + 4096];
        match file.read_at(aligned, 4096) {
            Ok(n) => assert_eq!(aligned[..n], data[4096..4096 + n]),
            // The backing filesystem may want bigger units.
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EINVAL)),
        }
    });
}

#[test]
fn a_file_opened_for_writing_only_cannot_be_read() {
    everywhere(|_| {
        fs::write("f", "x").unwrap();
        let mut file = OpenOptions::new().write(true).open("f").unwrap();
        assert_eq!(
            file.read(&mut [0]).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        sh("chmod 200 f");
        let file = OpenOptions::new().write(true).open("f").unwrap();
        file.write_all_at(b"yz", 0).unwrap();
        sh("chmod 600 f");
        assert_eq!(fs::read("f").unwrap(), b"yz");
        // Made without permission to write, but open for it.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open("g")
            .unwrap();
        made.write_all_at(b"1", 0).unwrap();
        made.set_len(3).unwrap();
        assert_eq!(fs::metadata("g").unwrap().len(), 3);
    });
}

#[test]
fn unsupported_operations_say_so() {
    everywhere(|_| {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let tmp = rustix::fs::open(".", flags, rustix::fs::Mode::RUSR);
        assert_eq!(tmp.err(), Some(Errno::OPNOTSUPP));
        let (a, b) = (new_file("a"), new_file("b"));
        assert_eq!(
            rustix::fs::ioctl_ficlone(&a, &b).err(),
            Some(Errno::OPNOTSUPP)
        );
        assert_eq!(rustix::termios::tcgetattr(&a).err(), Some(Errno::NOTTY));
    });
}

#[test]
fn passthrough_is_used_where_it_can_be() {
    for mode in modes() {
        with_host(
            mode,
            |_| {},
            |host| {
                host.talk.hear();
                let stats = host.mounted.stats();
                let data = stats.of(rfs_fs::Op::Read) + stats.of(rfs_fs::Op::Write);
                assert_eq!(host.mounted.passthrough(), mode == Mode::Passthrough);
                assert_eq!(data == 0, mode == Mode::Passthrough, "{stats:?}");
            },
            |inside| {
                fs::write("f", "x").unwrap();
                assert_eq!(fs::read("f").unwrap(), b"x");
                inside.talk.say();
            },
        );
    }
}

#[test]
fn a_second_reader_finds_the_pages_of_the_first() {
    with_host(
        Mode::Unprivileged,
        |config| fs::write(config.root.join("f"), vec![1; 300_000]).unwrap(),
        |host| {
            host.talk.hear();
            let first = host.mounted.stats().of(rfs_fs::Op::Read);
            host.talk.say();
            host.talk.hear();
            assert_eq!(host.mounted.stats().of(rfs_fs::Op::Read), first);
            fs::write(host.root.join("f"), vec![2; 300_000]).unwrap();
            host.talk.say();
        },
        |inside| {
            fs::read("f").unwrap();
            inside.talk.say();
            inside.talk.hear();
            assert_eq!(fs::read("f").unwrap()[299_999], 1);
            inside.talk.say();
            inside.talk.hear();
            // Not told, but seen when opened.
            assert_eq!(fs::read("f").unwrap()[0], 2);
        },
    );
}

#[test]
fn fsync_works_on_files_and_directories() {
    everywhere(|_| {
        let file = new_file("f");
        (&file).write_all(b"x").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(".").unwrap().sync_all().unwrap();
    });
}
