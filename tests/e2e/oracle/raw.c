/* Every call that names a file, made directly, without a C library: by `syscall`, and some by `int $0x80`.
   Built with -nostdlib -static. The workspace holds in/one and in/two. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/syscall.h>

static long call(long nr, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* By the door of 32-bit programs; addresses must lie below 4 GiB, as those of a static program do. */
static long old(long nr, long a, long b, long c, long d, long e) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

#define C(...) C_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define C_(nr, a, b, c, d, e, f, ...) call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define OLD(...) OLD_(__VA_ARGS__, 0, 0, 0, 0, 0)
#define OLD_(nr, a, b, c, d, e, ...) old(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static char buffer[65536];
static struct open_how how = {.flags = O_RDONLY};
static struct { unsigned bytes; int type; char data[128]; } handle = {.bytes = 128};
static struct { long s, ns; } times[2] = {{1, 0}, {2, 0}};
static char *argv[] = {"raw", "child", 0};
static struct { unsigned long flags, pidfd, tid, parent, signal, stack, size, tls; } child = {.signal = 17};
static int mount_id;

/* The program started again does one look of its own. */
static int again(void) {
    C(SYS_access, "in/none-of-the-child", F_OK);
    return 0;
}

static void wait_for(long pid) { C(SYS_wait4, pid, 0, 0, 0); }

int run(long argc) {
    if (argc > 1)
        return again();
    long dir = C(SYS_open, "in", O_RDONLY | O_DIRECTORY);
    /* Looking. */
    C(SYS_open, "in/a1", O_RDONLY);
    C(SYS_openat, dir, "a2", O_RDONLY);
    C(SYS_openat, dir, "../in/./one", O_RDONLY);
    C(SYS_openat2, dir, "two", &how, sizeof how);
    C(SYS_openat2, dir, "a3", &how, sizeof how);
    C(SYS_creat, "no/creat", 0644);
    C(SYS_stat, "in/a4", buffer);
    C(SYS_stat, "link/one", buffer);
    C(SYS_lstat, "link", buffer);
    C(SYS_lstat, "in/a5/b", buffer);
    C(SYS_newfstatat, dir, "a6", buffer, 0);
    C(SYS_newfstatat, dir, "", buffer, AT_EMPTY_PATH);
    C(SYS_newfstatat, AT_FDCWD, "link", buffer, AT_SYMLINK_NOFOLLOW);
    C(SYS_statx, dir, "a7", 0, STATX_BASIC_STATS, buffer);
    C(SYS_statx, dir, "two", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer);
    C(SYS_access, "in/a8", F_OK);
    C(SYS_access, "in/two", X_OK);
    C(SYS_faccessat, dir, "a9", F_OK);
    C(SYS_faccessat2, dir, "b1", F_OK, AT_SYMLINK_NOFOLLOW);
    C(SYS_readlink, "link", buffer, 100);
    C(SYS_readlink, "in/b2", buffer, 100);
    C(SYS_readlinkat, dir, "b3", buffer, 100);
    C(SYS_readlinkat, dir, "one", buffer, 100);
    C(SYS_statfs, "in/b4", buffer);
    C(SYS_getxattr, "in/b5", "user.x", buffer, 100);
    C(SYS_lgetxattr, "in/b6", "user.x", buffer, 100);
    C(SYS_listxattr, "in/b7", buffer, 100);
    C(SYS_llistxattr, "in/b8", buffer, 100);
    C(SYS_name_to_handle_at, dir, "b9", &handle, &mount_id, 0);
    C(SYS_getdents64, dir, buffer, sizeof buffer);
    C(SYS_open, "loop/x", O_RDONLY);
    C(SYS_open, "in/one/below", O_RDONLY);
    C(SYS_open, "in/one/", O_RDONLY);
    C(SYS_chdir, "in/c1");
    C(SYS_fchdir, dir);
    C(SYS_access, "c2", F_OK);
    C(SYS_chdir, "..");
    long list = C(SYS_open, "list", O_RDONLY | O_DIRECTORY);
    C(SYS_getdents, list, buffer, sizeof buffer);
    /* By the other door. */
    OLD(5, "in/d1", O_RDONLY);                   /* open */
    OLD(295, AT_FDCWD, "in/d2", O_RDONLY);       /* openat */
    OLD(106, "in/d3", buffer);                   /* stat */
    OLD(195, "in/d4", buffer);                   /* stat64 */
    OLD(33, "in/d5", F_OK);                      /* access */
    OLD(85, "in/d6", buffer, 100);               /* readlink */
    OLD(300, AT_FDCWD, "in/d7", buffer, 0);      /* fstatat64 */
    OLD(383, AT_FDCWD, "in/d8", 0, 0x7ff, buffer); /* statx */
    OLD(437, dir, "d9", &how, sizeof how);       /* openat2 */
    OLD(12, "in/e1");                            /* chdir */
    OLD(5, "old-made", O_CREAT | O_WRONLY, 0644);
    OLD(39, "old-dir", 0755);                    /* mkdir */
    OLD(38, "old-made", "old-dir/moved");        /* rename */
    /* Changing. */
    long made = C(SYS_open, "made", O_CREAT | O_RDWR, 0644);
    C(SYS_creat, "creat", 0600);
    how.flags = O_CREAT | O_WRONLY;
    how.mode = 0640;
    C(SYS_openat2, AT_FDCWD, "openat2", &how, sizeof how);
    C(SYS_mkdir, "m", 0755);
    C(SYS_mkdirat, dir, "m2", 0755);
    C(SYS_rmdir, "m");
    C(SYS_mkdir, "in", 0755);
    C(SYS_rmdir, "none-to-remove");
    C(SYS_mknod, "node", 0100644, 0);
    C(SYS_mknodat, dir, "fifo", 0010600, 0);
    C(SYS_symlink, "text of it", "l1");
    C(SYS_symlinkat, "../in", dir, "l2");
    C(SYS_link, "made", "hard");
    C(SYS_linkat, dir, "one", AT_FDCWD, "hard2", 0);
    C(SYS_rename, "creat", "renamed");
    C(SYS_renameat, AT_FDCWD, "renamed", dir, "renamed");
    C(SYS_renameat2, dir, "renamed", dir, "e2", 1);
    C(SYS_renameat2, dir, "renamed", dir, "two", 1);
    C(SYS_rename, "in/e3", "in/e4");
    C(SYS_unlink, "hard2");
    C(SYS_unlinkat, dir, "e5", 0);
    C(SYS_unlink, "in/e6");
    C(SYS_chmod, "made", 0600);
    C(SYS_fchmod, made, 0640);
    C(SYS_fchmodat, dir, "renamed", 0604);
    C(452, dir, "e7", 0600, 0);                  /* fchmodat2 */
    C(SYS_chown, "in/e8", 0, 0);
    C(SYS_lchown, "l1", 0, 0);
    C(SYS_fchownat, dir, "e9", 0, 0, 0);
    C(SYS_fchown, made, 0, 0);
    C(SYS_utime, "in/f1", 0);
    C(SYS_utimes, "in/f2", 0);
    C(SYS_futimesat, dir, "f3", 0);
    C(SYS_utimensat, dir, "renamed", times, 0);
    C(SYS_truncate, "in/f4", 1);
    C(SYS_truncate, "made", 5);
    C(SYS_ftruncate, made, 7);
    C(SYS_fallocate, made, 0, 0, 9);
    C(SYS_setxattr, "in/f5", "user.x", "y", 1, 0);
    C(SYS_removexattr, "in/f6", "user.x");
    C(SYS_write, made, "raw\n", 4);
    C(SYS_io_uring_setup, 8, buffer);
    /* Starting programs. */
    C(SYS_execve, "in/f7", argv, 0);
    C(SYS_execve, "in/one", argv, 0);
    C(SYS_execveat, dir, "f8", argv, 0, 0);
    long pid = C(SYS_vfork);
    if (pid == 0) {
        C(SYS_execve, "./raw", argv, 0);
        C(SYS_exit, 1);
    }
    wait_for(pid);
    pid = C(SYS_fork);
    if (pid == 0) {
        C(SYS_access, "in/g1", F_OK);
        long self = C(SYS_open, "raw", O_RDONLY | O_CLOEXEC);
        C(SYS_execveat, self, "", argv, 0, AT_EMPTY_PATH);
        C(SYS_exit, 1);
    }
    wait_for(pid);
    pid = C(SYS_clone3, &child, sizeof child);
    if (pid == 0) {
        C(SYS_chdir, "in");
        C(SYS_access, "g2", F_OK);
        C(SYS_execveat, AT_FDCWD, "../raw", argv, 0, AT_SYMLINK_NOFOLLOW);
        C(SYS_exit, 1);
    }
    wait_for(pid);
    C(SYS_access, "in/g3", F_OK);
    return 0;
}

__asm__(".globl _start\n_start:\n"
        "mov (%rsp), %rdi\n and $-16, %rsp\n call run\n"
        "mov %eax, %edi\n mov $231, %eax\n syscall\n");
