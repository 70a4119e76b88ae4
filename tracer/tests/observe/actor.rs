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
        "many" => many("many", 3000),
        "changed" => changed(),
        "places" => places(),
        "wrong-pointers" => wrong_pointers(),
        "handler" => handler(),
        "scribble-tail" => scribble(&[(0, u32::MAX)]),
        "scribble-ring" => scribble(&[(4096, 0x0108_0030), (0, 4096)]),
        "forks" => forks(),
        "cancelled" => cancelled(),
        "killed" => {
            many("many", 100);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
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

/// A thread is cancelled while it waits for a child.
fn cancelled() {
    type Start = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;
    extern "C-unwind" fn wait(_: *mut libc::c_void) -> *mut libc::c_void {
        touch("waits");
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        std::ptr::null_mut()
    }
    many("many", 9);
    // SAFETY: the child does nothing that is not allowed there.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: it waits.
            unsafe { libc::pause() };
        }
    }
    let mut thread = 0;
    let mut left = std::ptr::null_mut();
    // SAFETY: the types differ in that the stack may be unwound, as it is when a thread is cancelled.
    let start = unsafe { std::mem::transmute::<extern "C-unwind" fn(_) -> _, Start>(wait) };
    // SAFETY: the function is one for a thread.
    let started = unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), start, left) };
    assert_eq!(started, 0);
    while !Path::new("waits").exists() {}
    // SAFETY: the thread has not been joined.
    unsafe { libc::pthread_cancel(thread) };
    // SAFETY: as above.
    unsafe { libc::pthread_join(thread, &raw mut left) };
    // PTHREAD_CANCELED
    assert_eq!(left as isize, -1);
    // SAFETY: the child is ours.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let mut status = 0;
    // SAFETY: the place is ours.
    let pid = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((pid, status), (child, libc::SIGKILL));
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

/// Looks at names that are not there.
fn many(name: &str, n: usize) {
    let here = std::env::current_dir().unwrap();
    for n in 0..n {
        assert!(fs::metadata(here.join(format!("{name}-{n}"))).is_err());
    }
}

/// Looks at a file and then writes to it by a descriptor that nobody watches.
fn changed() {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let path = std::env::current_dir().unwrap().join("f");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let high = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(300)).unwrap();
    // SAFETY: the descriptor has just been made.
    let high = unsafe { OwnedFd::from_raw_fd(high) };
    assert!(high.as_raw_fd() > rfs_tracer::event::LAST_SEEN);
    for _ in 0..4 {
        fs::metadata(&path).unwrap();
    }
    nix::unistd::write(&high, b"x").unwrap();
}

/// Looks at the same relative names from one directory after the other.
fn places() {
    fs::create_dir("a").unwrap();
    fs::create_dir("b").unwrap();
    touch("b/x");
    many("many", 10);
    for (dir, there) in [("a", false), ("../b", true), ("../a", false)] {
        std::env::set_current_dir(dir).unwrap();
        for _ in 0..3 {
            assert_eq!(fs::metadata("x").is_ok(), there);
            assert!(fs::metadata("nowhere").is_err());
        }
    }
}

/// Pointers to nothing are answered with EFAULT, wherever they point.
fn wrong_pointers() {
    many("many", 10);
    let mut buf = std::mem::MaybeUninit::<libc::stat>::uninit();
    let nowhere = [
        0_usize,
        1,
        4095,
        4096,
        1 << 46,
        1 << 48,
        usize::MAX - 4095,
        usize::MAX,
    ];
    for at in nowhere {
        // SAFETY: the kernel may be given any address.
        let ret = unsafe { libc::stat(at as *const _, buf.as_mut_ptr()) };
        assert_eq!(
            (ret, nix::errno::Errno::last_raw()),
            (-1, libc::EFAULT),
            "{at:#x}"
        );
        // SAFETY: as above.
        let ret = unsafe { libc::open(at as *const _, libc::O_RDONLY) };
        assert_eq!(
            (ret, nix::errno::Errno::last_raw()),
            (-1, libc::EFAULT),
            "{at:#x}"
        );
        // SAFETY: as above.
        let ret = unsafe { libc::stat(c".".as_ptr(), at as *mut _) };
        assert_eq!(
            (ret, nix::errno::Errno::last_raw()),
            (-1, libc::EFAULT),
            "{at:#x}"
        );
    }
}

extern "C" fn look_again(_: i32) {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static N: AtomicUsize = AtomicUsize::new(0);
    static PATHS: [&std::ffi::CStr; 3] = [c"in-handler", c"/in-handler", c"/in-handler-2"];
    let path = PATHS[N.fetch_add(1, Relaxed) % 3];
    // SAFETY: the path is a string.
    unsafe { libc::access(path.as_ptr(), 0) };
}

fn handler() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(
        SigHandler::Handler(look_again),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler makes a system call and counts.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 100,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the timer is there, the old one is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    many("many", 5000);
}

/// Writes words over the memory that is shared with the tracer.
fn scribble(words: &[(usize, u32)]) {
    many("many", 10);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps
        .lines()
        .find(|line| line.contains("rfs-slabs"))
        .unwrap();
    let start = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    for (at, word) in words {
        let place = (start + at) as *mut u32;
        // SAFETY: the memory is mapped and writable.
        unsafe { place.write_volatile(*word) };
    }
}

fn forks() {
    use nix::unistd::{ForkResult, fork};
    many("parent", 9);
    // SAFETY: there is one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            many("child", 9);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
    many("after", 9);
}
