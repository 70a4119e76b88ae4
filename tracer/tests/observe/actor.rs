//! What a command under observation does that no shell can do.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;

pub fn main(part: &str) -> ExitCode {
    match part {
        "directories" => directories(),
        "threads" => threads(),
        "thread-exec" => thread_exec(),
        "links" => links(),
        "stdio" => stdio(),
        "sockets" => sockets(),
        "too-long" => too_long(),
        _ => panic!("no such part: {part}"),
    }
    ExitCode::SUCCESS
}

fn touch(path: impl AsRef<Path>) {
    drop(File::create(path).unwrap());
}

/// Working directories and directory descriptors that move while they are used.
fn directories() {
    fs::create_dir_all("a/b").unwrap();
    let b = File::open("a/b").unwrap();
    let create = OFlag::O_CREAT | OFlag::O_WRONLY;
    drop(openat(&b, "one", create, Mode::S_IRUSR).unwrap());
    fs::rename("a", "c").unwrap();
    drop(openat(&b, "two", create, Mode::S_IRUSR).unwrap());
    std::env::set_current_dir("c/b").unwrap();
    touch("three");
    touch("../four");
    nix::unistd::fchdir(File::open("..").unwrap()).unwrap();
    touch("five");
    fs::rename("../c", "../d").unwrap();
    touch("six");
    std::env::set_current_dir("/").unwrap();
    assert!(fs::metadata("nowhere-to-be-found").is_err());
}

/// Threads that open files, one of which ends before the process does.
fn threads() {
    std::thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || touch(format!("thread-{n}")));
        }
    });
    touch("main");
}

/// A thread that is not the first executes a program.
fn thread_exec() {
    let exec = std::thread::spawn(|| {
        touch("before");
        let never = nix::unistd::execv(c"/bin/sh", &[c"sh", c"-c", c": > after"]);
        panic!("{never:?}");
    });
    exec.join().unwrap();
}

fn links() {
    use std::os::unix::fs::symlink;
    symlink("nowhere", "dangling").unwrap();
    touch("dangling");
    fs::hard_link("nowhere", "second").unwrap();
    fs::create_dir("dir").unwrap();
    symlink("dir", "to-dir").unwrap();
    touch("to-dir/file");
    // The link is known by now; then it leads elsewhere.
    fs::create_dir("other").unwrap();
    fs::remove_file("to-dir").unwrap();
    symlink("other", "to-dir").unwrap();
    touch("to-dir/file");
    fs::remove_file("to-dir").unwrap();
    assert!(fs::metadata("to-dir/file").is_err());
    fs::create_dir("to-dir").unwrap();
    touch("to-dir/file");
    let here = File::open(".").unwrap();
    let exchange = RenameFlags::RENAME_EXCHANGE;
    renameat2(here.as_fd(), "dir", here.as_fd(), "second", exchange).unwrap();
    touch("second/after-exchange");
    // A file that gets its first name late.
    let unnamed = OFlag::O_TMPFILE | OFlag::O_WRONLY;
    let file = openat(&here, ".", unnamed, Mode::S_IRUSR).unwrap();
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    nix::unistd::linkat(&here, own.as_str(), &here, "late", follow).unwrap();
    fs::rename("late", "later").unwrap();
}

fn stdio() {
    use std::io::Write;
    std::io::stdout().write_all(b"hello\n").unwrap();
    let copy = nix::unistd::dup(std::io::stdout()).unwrap();
    File::from(copy).write_all(b"again").unwrap();
    drop(File::open("/dev/stdin").unwrap());
    drop(std::io::read_to_string(std::io::stdin()).unwrap());
    // A descriptor that is opened once more by its name in /proc.
    touch("file");
    let file = File::open("file").unwrap();
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    drop(fs::OpenOptions::new().append(true).open(own).unwrap());
}

fn sockets() {
    drop(UnixStream::connect("nobody-listens"));
    drop(std::net::TcpStream::connect("127.0.0.1:9"));
}

/// An exec that the kernel refuses although the file is right, of the program that runs already.
fn too_long() {
    let me = std::env::current_exe().unwrap();
    let long = "x".repeat(3 << 20);
    let error = std::os::unix::process::CommandExt::exec(std::process::Command::new(me).arg(long));
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    touch("went-on");
}
