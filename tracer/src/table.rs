//! The system call table: one row a call, with its number on each architecture, what the filter does
//! with it, and what it means.
//!
//! It is data, the same on every machine: the filter's rules are made from it, and the decoder follows it.
//! It knows neither how a filter is built nor how arguments are read.
//!
//! One hole is left open on purpose: fstatat and statx with no flag but `AT_EMPTY_PATH` on a descriptor
//! are let through, since this is how the C library says fstat, as often as all other calls together; a
//! filter cannot see that the path is empty. With `AT_FDCWD` or other flags they are looked at.

mod allowed;
mod trapped;

use crate::call::Abi;
use crate::event::Scope;
use crate::filter::{Table, Treatment};

/// What follows the last component of a path when it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// The link is followed.
    Follow,
    /// The link itself is meant, unless a slash follows.
    Stay,
    /// The name is meant: it is made, removed or moved, whatever it is.
    Name,
}

/// Where a call has its file; numbers are those of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A path from the working directory.
    Path(u8, Last),
    /// A directory descriptor, then a path.
    At(u8, Last),
    /// The same, with `AT_*` flags in the second argument named.
    AtFlags(u8, u8, Last),
    /// A descriptor.
    Fd(u8),
}

/// How the flags of an open are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Flags and creation mode as arguments.
    Args(u8, u8),
    /// Creation mode only: creat.
    Creat(u8),
    /// A `struct open_how`.
    How(u8),
}

/// How time stamps are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// A pointer, null for now.
    Ptr(u8),
    /// A pointer to two `timespec` of the ABI's own size.
    Native(u8),
    /// A pointer to two 64-bit `timespec`.
    Wide(u8),
}

/// Where the bytes of a write are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Address and length.
    Buf(u8, u8),
    /// Vector and count.
    Iov(u8, u8),
    /// Nowhere in memory; its length.
    Unseen(u8),
}

/// What a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Nothing that matters.
    Nothing,
    /// Something that the record cannot say.
    Taint(Scope, &'static str),
    /// Time or random bytes.
    Chance(&'static str),
    /// execve and execveat; the argument vector's place, the environment follows.
    Exec(Target, u8),
    /// The end of a thread.
    Exit,
    /// The end of a process.
    ExitGroup,
    /// It may learn how a child has ended.
    Wait,
    /// It names files.
    Names(NameOp),
    /// It uses descriptors that may have been inherited.
    Fds(FdOp),
    /// It reaches other processes, or changes what the process is.
    Peers(PeerOp),
}

/// A call that names files; numbers are those of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameOp {
    Open(Target, Mode),
    Stat(Target),
    Access(Target, u8),
    Readlink(Target),
    List,
    Chdir(Target),
    /// Whether directories are meant.
    Unlink(Target, bool),
    Unlinkat,
    Mkdir(Target, u8),
    Mknod(Target, u8),
    /// The link's text, then its name.
    Symlink(u8, Target),
    Link(Target, Target),
    Rename(Target, Target, Option<u8>),
    Chmod(Target),
    Chown(Target),
    Utime(Target, Times),
    Truncate(Target),
    Xattr(Target),
    Getxattr(Target),
}

/// A call on descriptors; numbers are those of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FdOp {
    Write(Data),
    ReadStdin,
    Direct {
        out: u8,
        input: u8,
        len: u8,
    },
    /// The new number, if given.
    Dup(Option<u8>),
    Fcntl,
}

/// A call that reaches other processes; numbers are those of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerOp {
    Connect,
    Bind,
    Listen,
    Sendto,
    Sendmsg,
    Sendmmsg,
    Socketcall,
    /// Process and signal.
    Kill(u8, u8),
    /// Thread and signal.
    Tkill(u8, u8),
    PidfdKill,
    Prlimit,
    Setrlimit,
    Clone(u8),
    Clone3,
    Unshare,
    Chroot,
    Personality,
    /// So many user ids.
    Users(u8),
    /// Key and flags.
    Msgget(u8, u8),
    Semget(u8, u8),
    Shmget(u8, u8),
    Ipc,
}

/// One system call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Numbers on x86-64, aarch64, i386.
    nr: [i16; 3],
    treatment: Treatment,
    pub(crate) op: Op,
}

impl Row {
    fn nr(&self, column: usize) -> Option<u32> {
        u32::try_from(self.nr[column]).ok()
    }
}

const fn row(name: &'static str, x: i16, a: i16, i: i16, treatment: Treatment, op: Op) -> Row {
    Row {
        name,
        nr: [x, a, i],
        treatment,
        op,
    }
}

const fn pass(name: &'static str, x: i16, a: i16, i: i16) -> Row {
    row(name, x, a, i, Treatment::Allow, Op::Nothing)
}

/// Where an architecture lacks a call.
const NO: i16 = -1;

/// The table's column of an ABI; none for those that no table describes.
const fn column(abi: Abi) -> Option<usize> {
    match abi {
        Abi::X86_64 => Some(0),
        Abi::Aarch64 => Some(1),
        Abi::I386 => Some(2),
        Abi::X32 | Abi::Arm | Abi::Unknown(_) => None,
    }
}

/// The filter's rules for all ABIs that are described.
#[must_use]
pub fn tables() -> Vec<Table> {
    [Abi::X86_64, Abi::Aarch64, Abi::I386]
        .map(|abi| Table {
            abi,
            rows: rules(abi),
        })
        .into()
}

/// The filter's rules for an ABI by ascending number. Numbers that are not in it are to be trapped; an
/// empty list says that every call is.
fn rules(abi: Abi) -> Vec<(u32, Treatment)> {
    let Some(column) = column(abi) else {
        return Vec::new();
    };
    let rows = trapped::ROWS.iter().chain(allowed::ROWS);
    let mut rules: Vec<_> = rows
        .filter_map(|r| Some((r.nr(column)?, r.treatment)))
        .collect();
    rules.sort_unstable_by_key(|(nr, _)| *nr);
    rules
}

/// Finds rows by number.
#[derive(Debug)]
pub(crate) struct Index([Vec<Option<Place>>; 3]);

/// A row, and its own number among those that stop.
type Place = (usize, &'static Row);

/// The names of the calls that stop, by the number of their row.
pub(crate) fn stopping() -> Vec<&'static str> {
    trapped::ROWS.iter().map(|row| row.name).collect()
}

impl Index {
    pub(crate) fn new() -> Self {
        let mut index = [Vec::new(), Vec::new(), Vec::new()];
        for (column, by_nr) in index.iter_mut().enumerate() {
            for (place, row) in trapped::ROWS.iter().chain(allowed::ROWS).enumerate() {
                let Some(nr) = row.nr(column).map(|nr| nr as usize) else {
                    continue;
                };
                if by_nr.len() <= nr {
                    by_nr.resize(nr + 1, None);
                }
                by_nr[nr] = Some((place, row));
            }
        }
        Self(index)
    }

    pub(crate) fn get(&self, abi: Abi, nr: u32) -> Option<&'static Row> {
        Some(self.find(abi, nr)?.1)
    }

    /// The row of a call, and its number.
    pub(crate) fn find(&self, abi: Abi, nr: u32) -> Option<Place> {
        *self.0[column(abi)?].get(nr as usize)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const COLUMNS: [Abi; 3] = [Abi::X86_64, Abi::Aarch64, Abi::I386];

    #[test]
    fn every_number_is_given_once() {
        for abi in COLUMNS {
            let rules = rules(abi);
            let numbers: HashSet<u32> = rules.iter().map(|(nr, _)| *nr).collect();
            assert_eq!(numbers.len(), rules.len(), "{abi:?}");
        }
        let names: HashSet<_> = trapped::ROWS
            .iter()
            .chain(allowed::ROWS)
            .map(|r| r.name)
            .collect();
        assert_eq!(names.len(), trapped::ROWS.len() + allowed::ROWS.len());
    }

    #[test]
    fn meaning_and_treatment_agree() {
        for row in trapped::ROWS {
            match row.treatment {
                Treatment::Allow => panic!("{} is trapped and allowed", row.name),
                Treatment::Enosys => assert_eq!(row.op, Op::Nothing, "{}", row.name),
                Treatment::Trap | Treatment::TrapIf(_) => {
                    assert_ne!(row.op, Op::Nothing, "{}", row.name);
                }
            }
        }
    }

    #[test]
    fn tables_reach_as_far_as_the_kernel_did_when_written() {
        for abi in COLUMNS {
            let index = Index::new();
            for nr in 434..=469 {
                assert!(index.get(abi, nr).is_some(), "{abi:?} {nr}");
            }
            assert!(index.get(abi, 470).is_none());
        }
        assert!(rules(Abi::X32).is_empty());
    }

    #[test]
    fn other_architectures_have_their_own_numbers() {
        let index = Index::new();
        let name = |abi, nr| index.get(abi, nr).map(|r| r.name);
        for (nr, is) in [
            (56, "openat"),
            (79, "newfstatat"),
            (221, "execve"),
            (94, "exit_group"),
        ] {
            assert_eq!(name(Abi::Aarch64, nr), Some(is));
        }
        for (nr, is) in [
            (49, "chdir"),
            (61, "getdents64"),
            (276, "renameat2"),
            (38, "renameat"),
        ] {
            assert_eq!(name(Abi::Aarch64, nr), Some(is));
        }
        for (nr, is) in [
            (5, "open"),
            (11, "execve"),
            (195, "stat64"),
            (300, "fstatat64"),
        ] {
            assert_eq!(name(Abi::I386, nr), Some(is));
        }
        for (nr, is) in [
            (295, "openat"),
            (252, "exit_group"),
            (383, "statx"),
            (102, "socketcall"),
        ] {
            assert_eq!(name(Abi::I386, nr), Some(is));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn x86_64_numbers_are_those_of_libc() {
        macro_rules! check {
            ($($name:ident)*) => { vec![$((stringify!($name), libc::$name)),*] };
        }
        let of_libc = check! {
            SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek
            SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_rt_sigaction SYS_rt_sigprocmask
            SYS_rt_sigreturn SYS_ioctl SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev
            SYS_access SYS_pipe SYS_select SYS_sched_yield SYS_mremap SYS_msync
            SYS_mincore SYS_madvise SYS_shmget SYS_shmat SYS_shmctl SYS_dup SYS_dup2
            SYS_pause SYS_nanosleep SYS_getitimer SYS_alarm SYS_setitimer SYS_getpid
            SYS_sendfile SYS_socket SYS_connect SYS_accept SYS_sendto SYS_recvfrom
            SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_bind SYS_listen SYS_getsockname
            SYS_getpeername SYS_socketpair SYS_setsockopt SYS_getsockopt SYS_clone
            SYS_fork SYS_vfork SYS_execve SYS_exit SYS_wait4 SYS_kill SYS_uname
            SYS_semget SYS_semop SYS_semctl SYS_shmdt SYS_msgget SYS_msgsnd SYS_msgrcv
            SYS_msgctl SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_truncate
            SYS_ftruncate SYS_getdents SYS_getcwd SYS_chdir SYS_fchdir SYS_rename
            SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink SYS_readlink
            SYS_chmod SYS_fchmod SYS_chown SYS_fchown SYS_lchown SYS_umask
            SYS_gettimeofday SYS_getrlimit SYS_getrusage SYS_sysinfo SYS_times
            SYS_ptrace SYS_getuid SYS_syslog SYS_getgid SYS_setuid SYS_setgid
            SYS_geteuid SYS_getegid SYS_setpgid SYS_getppid SYS_getpgrp SYS_setsid
            SYS_setreuid SYS_setregid SYS_getgroups SYS_setgroups SYS_setresuid
            SYS_getresuid SYS_setresgid SYS_getresgid SYS_getpgid SYS_setfsuid
            SYS_setfsgid SYS_getsid SYS_capget SYS_capset SYS_rt_sigpending
            SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack
            SYS_utime SYS_mknod SYS_uselib SYS_personality SYS_ustat SYS_statfs
            SYS_fstatfs SYS_sysfs SYS_getpriority SYS_setpriority SYS_sched_setparam
            SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getscheduler
            SYS_sched_get_priority_max SYS_sched_get_priority_min
            SYS_sched_rr_get_interval SYS_mlock SYS_munlock SYS_mlockall SYS_munlockall
            SYS_vhangup SYS_modify_ldt SYS_pivot_root SYS__sysctl SYS_prctl
            SYS_arch_prctl SYS_adjtimex SYS_setrlimit SYS_chroot SYS_sync SYS_acct
            SYS_settimeofday SYS_mount SYS_umount2 SYS_swapon SYS_swapoff SYS_reboot
            SYS_sethostname SYS_setdomainname SYS_iopl SYS_ioperm SYS_init_module
            SYS_delete_module SYS_quotactl SYS_nfsservctl SYS_gettid SYS_readahead
            SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr SYS_lgetxattr
            SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr
            SYS_lremovexattr SYS_fremovexattr SYS_tkill SYS_time SYS_futex
            SYS_sched_setaffinity SYS_sched_getaffinity SYS_set_thread_area SYS_io_setup
            SYS_io_destroy SYS_io_getevents SYS_io_submit SYS_io_cancel
            SYS_get_thread_area SYS_lookup_dcookie SYS_epoll_create SYS_epoll_ctl_old
            SYS_epoll_wait_old SYS_remap_file_pages SYS_getdents64 SYS_set_tid_address
            SYS_restart_syscall SYS_semtimedop SYS_fadvise64 SYS_timer_create
            SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
            SYS_clock_settime SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep
            SYS_exit_group SYS_epoll_wait SYS_epoll_ctl SYS_tgkill SYS_utimes SYS_mbind
            SYS_set_mempolicy SYS_get_mempolicy SYS_mq_open SYS_mq_unlink
            SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
            SYS_kexec_load SYS_waitid SYS_add_key SYS_request_key SYS_keyctl
            SYS_ioprio_set SYS_ioprio_get SYS_inotify_init SYS_inotify_add_watch
            SYS_inotify_rm_watch SYS_migrate_pages SYS_openat SYS_mkdirat SYS_mknodat
            SYS_fchownat SYS_futimesat SYS_newfstatat SYS_unlinkat SYS_renameat
            SYS_linkat SYS_symlinkat SYS_readlinkat SYS_fchmodat SYS_faccessat
            SYS_pselect6 SYS_ppoll SYS_unshare SYS_set_robust_list SYS_get_robust_list
            SYS_splice SYS_tee SYS_sync_file_range SYS_vmsplice SYS_move_pages
            SYS_utimensat SYS_epoll_pwait SYS_signalfd SYS_timerfd_create SYS_eventfd
            SYS_fallocate SYS_timerfd_settime SYS_timerfd_gettime SYS_accept4
            SYS_signalfd4 SYS_eventfd2 SYS_epoll_create1 SYS_dup3 SYS_pipe2
            SYS_inotify_init1 SYS_preadv SYS_pwritev SYS_rt_tgsigqueueinfo
            SYS_perf_event_open SYS_recvmmsg SYS_fanotify_init SYS_fanotify_mark
            SYS_prlimit64 SYS_name_to_handle_at SYS_open_by_handle_at SYS_clock_adjtime
            SYS_syncfs SYS_sendmmsg SYS_setns SYS_getcpu SYS_process_vm_readv
            SYS_process_vm_writev SYS_kcmp SYS_finit_module SYS_sched_setattr
            SYS_sched_getattr SYS_renameat2 SYS_seccomp SYS_getrandom SYS_memfd_create
            SYS_kexec_file_load SYS_bpf SYS_execveat SYS_userfaultfd SYS_membarrier
            SYS_mlock2 SYS_copy_file_range SYS_preadv2 SYS_pwritev2 SYS_pkey_mprotect
            SYS_pkey_alloc SYS_pkey_free SYS_statx SYS_rseq SYS_pidfd_send_signal
            SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_open_tree
            SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_pidfd_open
            SYS_clone3 SYS_close_range SYS_openat2 SYS_pidfd_getfd SYS_faccessat2
            SYS_process_madvise SYS_epoll_pwait2 SYS_mount_setattr SYS_quotactl_fd
            SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
            SYS_memfd_secret SYS_process_mrelease SYS_futex_waitv
            SYS_set_mempolicy_home_node SYS_fchmodat2 SYS_mseal
        };
        let index = Index::new();
        for (name, nr) in of_libc {
            let row = index.get(Abi::X86_64, u32::try_from(nr).unwrap());
            assert_eq!(row.map(|r| r.name), name.strip_prefix("SYS_"), "{nr}");
        }
    }
}
