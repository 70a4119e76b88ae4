//! The calls that are looked at, by subject.
//!
//! Columns: name, numbers on x86-64, aarch64 and i386, what the filter does, what the call means.

use super::Data::{Buf, Iov};
use super::FdOp::*;
use super::Last::{Follow, Name, Stay};
use super::Mode::{Args, Creat, How};
use super::NameOp::*;
use super::Op::*;
use super::PeerOp::*;
use super::Target::{At, AtFlags, Fd, Path};
use super::Times::{Native, Ptr, Wide};
use super::{NO as __, Row, row};
use crate::event::LAST_SEEN;
use crate::event::Scope::{All, Own};
use crate::filter::Test::{self, Any, ArgAtMost, ArgHasBits, ArgIs, ArgLacksBits, ArgNonZero};
use crate::filter::Treatment::{Enosys, Trap, TrapIf};

/// Descriptors up to this number may have been inherited and are watched.
const LOW: u32 = LAST_SEEN as u32;
const LOW_FD_0: Test = ArgAtMost(0, LOW);
const STDIN_0: Test = ArgAtMost(0, 0);
const STDIO_0: Test = ArgAtMost(0, 2);
const LOW_FD_0_STDIN_1: Test = Any(&[ArgAtMost(0, LOW), ArgAtMost(1, 0)]);
const LOW_FD_1_STDIN_0: Test = Any(&[ArgAtMost(1, LOW), ArgAtMost(0, 0)]);
const LOW_FD_2_STDIN_0: Test = Any(&[ArgAtMost(2, LOW), ArgAtMost(0, 0)]);
/// `MAP_ANONYMOUS` comes with any descriptor.
const STDIN_MAPPED: Test = Test::All(&[ArgAtMost(4, 0), ArgLacksBits(3, 0x20)]);
const STDIO_DUPLICATED: Test = Test::All(&[
    ArgAtMost(0, 2),
    Any(&[
        ArgIs(1, libc::F_DUPFD as u32),
        ArgIs(1, libc::F_DUPFD_CLOEXEC as u32),
    ]),
]);
const STDIO_OR_ADDRESS: Test = Any(&[ArgAtMost(0, 2), ArgNonZero(4)]);
/// All but what the C library's fstat says: `AT_EMPTY_PATH` alone, on a descriptor.
const BY_NAME_2: Test = Any(&[
    ArgLacksBits(2, 0x1000),
    ArgHasBits(2, !0x1000),
    ArgHasBits(0, 0x8000_0000),
]);
const BY_NAME_3: Test = Any(&[
    ArgLacksBits(3, 0x1000),
    ArgHasBits(3, !0x1000),
    ArgHasBits(0, 0x8000_0000),
]);
/// All namespaces, and `CLONE_PARENT`, which hides who the parent is.
const CLONE_BITS: u32 = 0x7e02_8000;
/// A new process that shares the working directory or lives in a namespace of its own.
const CLONE_APART: Test = Any(&[
    ArgHasBits(0, CLONE_BITS),
    Test::All(&[
        ArgHasBits(0, libc::CLONE_FS as u32),
        ArgLacksBits(0, libc::CLONE_THREAD as u32),
    ]),
]);
/// All namespaces, and `CLONE_FS`: a working directory for this thread alone.
const UNSHARE_BITS: u32 = 0x7e02_0280;
const GRND_RANDOM: u32 = 2;

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    // Programs and processes.
    row("execve", 59, 221, 11, Trap, Exec(Path(0, Follow), 1)),
    row("execveat", 322, 281, 358, Trap, Exec(AtFlags(0, 4, Follow), 2)),
    row("exit", 60, 93, 1, Trap, Exit),
    row("exit_group", 231, 94, 252, Trap, ExitGroup),
    row("wait4", 61, 260, 114, Trap, Wait),
    row("waitid", 247, 95, 284, Trap, Wait),
    row("waitpid", __, __, 7, Trap, Wait),
    row("clone", 56, 220, 120, TrapIf(CLONE_APART), Peers(Clone(0))),
    row("clone3", 435, 435, 435, Trap, Peers(Clone3)),
    row("unshare", 272, 97, 310, TrapIf(ArgHasBits(0, UNSHARE_BITS)), Peers(Unshare)),
    row("setns", 308, 268, 346, Trap, Taint(All, "enters a namespace")),
    row("chroot", 161, 51, 61, Trap, Peers(Chroot)),
    row("pivot_root", 155, 41, 217, Trap, Peers(Chroot)),
    row("personality", 135, 92, 136, TrapIf(ArgHasBits(0, 0xff)), Peers(Personality)),
    row("prlimit64", 302, 261, 340, TrapIf(ArgNonZero(2)), Peers(Prlimit)),
    row("setrlimit", 160, 164, 75, Trap, Peers(Setrlimit)),
    row("kill", 62, 129, 37, Trap, Peers(Kill(0, 1))),
    row("tkill", 200, 130, 238, Trap, Peers(Tkill(0, 1))),
    row("tgkill", 234, 131, 270, Trap, Peers(Tkill(1, 2))),
    row("rt_sigqueueinfo", 129, 138, 178, Trap, Peers(Kill(0, 1))),
    row("rt_tgsigqueueinfo", 297, 240, 335, Trap, Peers(Tkill(1, 2))),
    row("pidfd_send_signal", 424, 424, 424, Trap, Peers(PidfdKill)),
    row("pidfd_getfd", 438, 438, 438, Trap, Taint(All, "takes a descriptor of another process")),
    row("process_vm_writev", 311, 271, 348, Trap, Taint(All, "writes the memory of another process")),
    row("setuid", 105, 146, 23, Trap, Peers(Users(1))),
    row("setuid32", __, __, 213, Trap, Peers(Users(1))),
    row("setreuid", 113, 145, 70, Trap, Peers(Users(2))),
    row("setreuid32", __, __, 203, Trap, Peers(Users(2))),
    row("setresuid", 117, 147, 164, Trap, Peers(Users(3))),
    row("setresuid32", __, __, 208, Trap, Peers(Users(3))),
    row("setfsuid", 122, 151, 138, Trap, Peers(Users(1))),
    row("setfsuid32", __, __, 215, Trap, Peers(Users(1))),
    row("getrandom", 318, 278, 355, TrapIf(ArgHasBits(2, GRND_RANDOM)), Chance("getrandom(GRND_RANDOM)")),
    // Looking at names.
    row("open", 2, __, 5, Trap, Names(Open(Path(0, Follow), Args(1, 2)))),
    row("openat", 257, 56, 295, Trap, Names(Open(At(0, Follow), Args(2, 3)))),
    row("creat", 85, __, 8, Trap, Names(Open(Path(0, Follow), Creat(1)))),
    row("openat2", 437, 437, 437, Trap, Names(Open(At(0, Follow), How(2)))),
    row("stat", 4, __, 106, Trap, Names(Stat(Path(0, Follow)))),
    row("lstat", 6, __, 107, Trap, Names(Stat(Path(0, Stay)))),
    row("stat64", __, __, 195, Trap, Names(Stat(Path(0, Follow)))),
    row("lstat64", __, __, 196, Trap, Names(Stat(Path(0, Stay)))),
    row("oldstat", __, __, 18, Trap, Names(Stat(Path(0, Follow)))),
    row("oldlstat", __, __, 84, Trap, Names(Stat(Path(0, Stay)))),
    row("newfstatat", 262, 79, __, TrapIf(BY_NAME_3), Names(Stat(AtFlags(0, 3, Follow)))),
    row("fstatat64", __, __, 300, TrapIf(BY_NAME_3), Names(Stat(AtFlags(0, 3, Follow)))),
    row("statx", 332, 291, 383, TrapIf(BY_NAME_2), Names(Stat(AtFlags(0, 2, Follow)))),
    row("access", 21, __, 33, Trap, Names(Access(Path(0, Follow), 1))),
    row("faccessat", 269, 48, 307, Trap, Names(Access(At(0, Follow), 2))),
    row("faccessat2", 439, 439, 439, Trap, Names(Access(AtFlags(0, 3, Follow), 2))),
    row("readlink", 89, __, 85, Trap, Names(Readlink(Path(0, Stay)))),
    row("readlinkat", 267, 78, 305, Trap, Names(Readlink(At(0, Stay)))),
    row("statfs", 137, 43, 99, Trap, Names(Stat(Path(0, Follow)))),
    row("statfs64", __, __, 268, Trap, Names(Stat(Path(0, Follow)))),
    row("getxattr", 191, 8, 229, Trap, Names(Getxattr(Path(0, Follow)))),
    row("lgetxattr", 192, 9, 230, Trap, Names(Getxattr(Path(0, Stay)))),
    row("listxattr", 194, 11, 232, Trap, Names(Getxattr(Path(0, Follow)))),
    row("llistxattr", 195, 12, 233, Trap, Names(Getxattr(Path(0, Stay)))),
    row("fgetxattr", 193, 10, 231, Trap, Names(Getxattr(Fd(0)))),
    row("flistxattr", 196, 13, 234, Trap, Names(Getxattr(Fd(0)))),
    row("getxattrat", 464, 464, 464, Trap, Names(Getxattr(AtFlags(0, 2, Follow)))),
    row("listxattrat", 465, 465, 465, Trap, Names(Getxattr(AtFlags(0, 2, Follow)))),
    row("file_getattr", 468, 468, 468, Trap, Names(Stat(AtFlags(0, 4, Follow)))),
    row("name_to_handle_at", 303, 264, 341, Trap, Names(Stat(AtFlags(0, 4, Stay)))),
    row("open_by_handle_at", 304, 265, 342, Trap, Taint(All, "opens a file by handle")),
    row("getdents", 78, __, 141, Trap, Names(List)),
    row("getdents64", 217, 61, 220, Trap, Names(List)),
    row("readdir", __, __, 89, Trap, Names(List)),
    row("chdir", 80, 49, 12, Trap, Names(Chdir(Path(0, Follow)))),
    row("fchdir", 81, 50, 133, Trap, Names(Chdir(Fd(0)))),
    row("inotify_init", 253, __, 291, Trap, Taint(Own, "watches files")),
    row("inotify_init1", 294, 26, 332, Trap, Taint(Own, "watches files")),
    row("fanotify_init", 300, 262, 338, Trap, Taint(Own, "watches files")),
    // Changing names and files.
    row("unlink", 87, __, 10, Trap, Names(Unlink(Path(0, Name), false))),
    row("rmdir", 84, __, 40, Trap, Names(Unlink(Path(0, Name), true))),
    row("unlinkat", 263, 35, 301, Trap, Names(Unlinkat)),
    row("mkdir", 83, __, 39, Trap, Names(Mkdir(Path(0, Name), 1))),
    row("mkdirat", 258, 34, 296, Trap, Names(Mkdir(At(0, Name), 2))),
    row("mknod", 133, __, 14, Trap, Names(Mknod(Path(0, Name), 1))),
    row("mknodat", 259, 33, 297, Trap, Names(Mknod(At(0, Name), 2))),
    row("symlink", 88, __, 83, Trap, Names(Symlink(0, Path(1, Name)))),
    row("symlinkat", 266, 36, 304, Trap, Names(Symlink(0, At(1, Name)))),
    row("link", 86, __, 9, Trap, Names(Link(Path(0, Stay), Path(1, Name)))),
    row("linkat", 265, 37, 303, Trap, Names(Link(AtFlags(0, 4, Stay), At(2, Name)))),
    row("rename", 82, __, 38, Trap, Names(Rename(Path(0, Name), Path(1, Name), None))),
    row("renameat", 264, 38, 302, Trap, Names(Rename(At(0, Name), At(2, Name), None))),
    row("renameat2", 316, 276, 353, Trap, Names(Rename(At(0, Name), At(2, Name), Some(4)))),
    row("chmod", 90, __, 15, Trap, Names(Chmod(Path(0, Follow)))),
    row("fchmod", 91, 52, 94, Trap, Names(Chmod(Fd(0)))),
    row("fchmodat", 268, 53, 306, Trap, Names(Chmod(At(0, Follow)))),
    row("fchmodat2", 452, 452, 452, Trap, Names(Chmod(AtFlags(0, 3, Follow)))),
    row("chown", 92, __, 182, Trap, Names(Chown(Path(0, Follow)))),
    row("lchown", 94, __, 16, Trap, Names(Chown(Path(0, Stay)))),
    row("fchown", 93, 55, 95, Trap, Names(Chown(Fd(0)))),
    row("fchownat", 260, 54, 298, Trap, Names(Chown(AtFlags(0, 4, Follow)))),
    row("chown32", __, __, 212, Trap, Names(Chown(Path(0, Follow)))),
    row("lchown32", __, __, 198, Trap, Names(Chown(Path(0, Stay)))),
    row("fchown32", __, __, 207, Trap, Names(Chown(Fd(0)))),
    row("utime", 132, __, 30, Trap, Names(Utime(Path(0, Follow), Ptr(1)))),
    row("utimes", 235, __, 271, Trap, Names(Utime(Path(0, Follow), Ptr(1)))),
    row("futimesat", 261, __, 299, Trap, Names(Utime(At(0, Follow), Ptr(2)))),
    row("utimensat", 280, 88, 320, Trap, Names(Utime(AtFlags(0, 3, Follow), Native(2)))),
    row("utimensat_time64", __, __, 412, Trap, Names(Utime(AtFlags(0, 3, Follow), Wide(2)))),
    row("truncate", 76, 45, 92, Trap, Names(Truncate(Path(0, Follow)))),
    row("ftruncate", 77, 46, 93, Trap, Names(Truncate(Fd(0)))),
    row("truncate64", __, __, 193, Trap, Names(Truncate(Path(0, Follow)))),
    row("ftruncate64", __, __, 194, Trap, Names(Truncate(Fd(0)))),
    row("fallocate", 285, 47, 324, Trap, Names(Truncate(Fd(0)))),
    row("setxattr", 188, 5, 226, Trap, Names(Xattr(Path(0, Follow)))),
    row("lsetxattr", 189, 6, 227, Trap, Names(Xattr(Path(0, Stay)))),
    row("fsetxattr", 190, 7, 228, Trap, Names(Xattr(Fd(0)))),
    row("setxattrat", 463, 463, 463, Trap, Names(Xattr(AtFlags(0, 2, Follow)))),
    row("removexattr", 197, 14, 235, Trap, Names(Xattr(Path(0, Follow)))),
    row("lremovexattr", 198, 15, 236, Trap, Names(Xattr(Path(0, Stay)))),
    row("fremovexattr", 199, 16, 237, Trap, Names(Xattr(Fd(0)))),
    row("removexattrat", 466, 466, 466, Trap, Names(Xattr(AtFlags(0, 2, Follow)))),
    row("file_setattr", 469, 469, 469, Trap, Names(Xattr(AtFlags(0, 4, Follow)))),
    // Descriptors that a process may have inherited.
    row("write", 1, 64, 4, TrapIf(LOW_FD_0), Fds(Write(Buf(1, 2)))),
    row("pwrite64", 18, 68, 181, TrapIf(LOW_FD_0), Fds(Write(Buf(1, 2)))),
    row("writev", 20, 66, 146, TrapIf(LOW_FD_0), Fds(Write(Iov(1, 2)))),
    row("pwritev", 296, 70, 334, TrapIf(LOW_FD_0), Fds(Write(Iov(1, 2)))),
    row("pwritev2", 328, 287, 379, TrapIf(LOW_FD_0), Fds(Write(Iov(1, 2)))),
    row("vmsplice", 278, 75, 316, TrapIf(LOW_FD_0), Fds(Write(Iov(1, 2)))),
    row("read", 0, 63, 3, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("pread64", 17, 67, 180, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("readv", 19, 65, 145, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("preadv", 295, 69, 333, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("preadv2", 327, 286, 378, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("recvfrom", 45, 207, 371, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("recvmsg", 47, 212, 372, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("recvmmsg", 299, 243, 337, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("recvmmsg_time64", __, __, 417, TrapIf(STDIN_0), Fds(ReadStdin)),
    row("mmap", 9, 222, 90, TrapIf(STDIN_MAPPED), Fds(ReadStdin)),
    row("mmap2", __, __, 192, TrapIf(STDIN_MAPPED), Fds(ReadStdin)),
    row("sendfile", 40, 71, 187, TrapIf(LOW_FD_0_STDIN_1), Fds(Direct { out: 0, input: 1, len: 3 })),
    row("sendfile64", __, __, 239, TrapIf(LOW_FD_0_STDIN_1), Fds(Direct { out: 0, input: 1, len: 3 })),
    row("tee", 276, 77, 315, TrapIf(LOW_FD_1_STDIN_0), Fds(Direct { out: 1, input: 0, len: 2 })),
    row("splice", 275, 76, 313, TrapIf(LOW_FD_2_STDIN_0), Fds(Direct { out: 2, input: 0, len: 4 })),
    row("copy_file_range", 326, 285, 377, TrapIf(LOW_FD_2_STDIN_0), Fds(Direct { out: 2, input: 0, len: 4 })),
    row("dup", 32, 23, 41, TrapIf(STDIO_0), Fds(Dup(None))),
    row("dup2", 33, __, 63, TrapIf(STDIO_0), Fds(Dup(Some(1)))),
    row("dup3", 292, 24, 330, TrapIf(STDIO_0), Fds(Dup(Some(1)))),
    row("fcntl", 72, 25, 55, TrapIf(STDIO_DUPLICATED), Fds(Fcntl)),
    row("fcntl64", __, __, 221, TrapIf(STDIO_DUPLICATED), Fds(Fcntl)),
    // Other processes and machines.
    row("connect", 42, 203, 362, Trap, Peers(Connect)),
    row("bind", 49, 200, 361, Trap, Peers(Bind)),
    row("listen", 50, 201, 363, Trap, Peers(Listen)),
    row("sendto", 44, 206, 369, TrapIf(STDIO_OR_ADDRESS), Peers(Sendto)),
    row("sendmsg", 46, 211, 370, Trap, Peers(Sendmsg)),
    row("sendmmsg", 307, 269, 345, Trap, Peers(Sendmmsg)),
    row("socketcall", __, __, 102, Trap, Peers(Socketcall)),
    row("shmget", 29, 194, 395, TrapIf(ArgNonZero(0)), Peers(Shmget(0, 2))),
    row("semget", 64, 190, 393, TrapIf(ArgNonZero(0)), Peers(Semget(0, 2))),
    row("msgget", 68, 186, 399, TrapIf(ArgNonZero(0)), Peers(Msgget(0, 1))),
    row("ipc", __, __, 117, Trap, Peers(Ipc)),
    row("mq_open", 240, 180, 277, Trap, Taint(All, "POSIX message queue")),
    row("mq_unlink", 241, 181, 278, Trap, Taint(All, "POSIX message queue")),
    row("userfaultfd", 323, 282, 374, Trap, Taint(Own, "userfaultfd")),
    row("perf_event_open", 298, 241, 336, Trap, Taint(Own, "performance counters")),
    row("bpf", 321, 280, 357, Trap, Taint(All, "bpf")),
    row("add_key", 248, 217, 286, Trap, Taint(All, "kernel keys")),
    row("request_key", 249, 218, 287, Trap, Taint(All, "kernel keys")),
    row("keyctl", 250, 219, 288, Trap, Taint(All, "kernel keys")),
    row("io_uring_setup", 425, 425, 425, Enosys, Nothing),
    row("io_uring_enter", 426, 426, 426, Enosys, Nothing),
    row("io_uring_register", 427, 427, 427, Enosys, Nothing),
    // The machine itself.
    row("mount", 165, 40, 21, Trap, Taint(All, "changes mounts")),
    row("umount2", 166, 39, 52, Trap, Taint(All, "changes mounts")),
    row("umount", __, __, 22, Trap, Taint(All, "changes mounts")),
    row("open_tree", 428, 428, 428, Trap, Taint(All, "changes mounts")),
    row("open_tree_attr", 467, 467, 467, Trap, Taint(All, "changes mounts")),
    row("move_mount", 429, 429, 429, Trap, Taint(All, "changes mounts")),
    row("fsopen", 430, 430, 430, Trap, Taint(All, "changes mounts")),
    row("fsconfig", 431, 431, 431, Trap, Taint(All, "changes mounts")),
    row("fsmount", 432, 432, 432, Trap, Taint(All, "changes mounts")),
    row("fspick", 433, 433, 433, Trap, Taint(All, "changes mounts")),
    row("mount_setattr", 442, 442, 442, Trap, Taint(All, "changes mounts")),
    row("swapon", 167, 224, 87, Trap, Taint(All, "administers the machine")),
    row("swapoff", 168, 225, 115, Trap, Taint(All, "administers the machine")),
    row("quotactl", 179, 60, 131, Trap, Taint(All, "administers the machine")),
    row("quotactl_fd", 443, 443, 443, Trap, Taint(All, "administers the machine")),
    row("acct", 163, 89, 51, Trap, Taint(All, "administers the machine")),
    row("reboot", 169, 142, 88, Trap, Taint(All, "administers the machine")),
    row("init_module", 175, 105, 128, Trap, Taint(All, "administers the machine")),
    row("finit_module", 313, 273, 350, Trap, Taint(All, "administers the machine")),
    row("delete_module", 176, 106, 129, Trap, Taint(All, "administers the machine")),
    row("kexec_load", 246, 104, 283, Trap, Taint(All, "administers the machine")),
    row("kexec_file_load", 320, 294, __, Trap, Taint(All, "administers the machine")),
    row("syslog", 103, 116, 103, Trap, Taint(All, "administers the machine")),
    row("iopl", 172, __, 110, Trap, Taint(All, "administers the machine")),
    row("ioperm", 173, __, 101, Trap, Taint(All, "administers the machine")),
    row("nfsservctl", 180, 42, 169, Trap, Taint(All, "administers the machine")),
    row("uselib", 134, __, 86, Trap, Taint(All, "administers the machine")),
    row("vm86", __, __, 166, Trap, Taint(All, "administers the machine")),
    row("vm86old", __, __, 113, Trap, Taint(All, "administers the machine")),
    row("_sysctl", 156, __, 149, Trap, Taint(All, "administers the machine")),
    row("create_module", 174, __, 127, Trap, Taint(All, "administers the machine")),
    row("get_kernel_syms", 177, __, 130, Trap, Taint(All, "administers the machine")),
    row("query_module", 178, __, 167, Trap, Taint(All, "administers the machine")),
    row("lookup_dcookie", 212, 18, 253, Trap, Taint(All, "administers the machine")),
    row("bdflush", __, __, 134, Trap, Taint(All, "administers the machine")),
    row("sysfs", 139, __, 135, Trap, Taint(All, "administers the machine")),
    row("sethostname", 170, 161, 74, Trap, Taint(All, "names the machine")),
    row("setdomainname", 171, 162, 121, Trap, Taint(All, "names the machine")),
    row("settimeofday", 164, 170, 79, Trap, Taint(All, "sets the clock")),
    row("clock_settime", 227, 112, 264, Trap, Taint(All, "sets the clock")),
    row("clock_settime64", __, __, 404, Trap, Taint(All, "sets the clock")),
    row("stime", __, __, 25, Trap, Taint(All, "sets the clock")),
];
