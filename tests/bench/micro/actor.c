/* What micro.py times, timed by itself: prints microseconds an operation, or does one thing and ends.
 *
 *   actor [@RUN] spawn HOW N PROGRAM [ARGUMENT...]   HOW is fork, vfork or spawn; "-" for PROGRAM: the child only
 *                                             exits; "%" in an argument is the number of the child
 *   actor jobs AT_ONCE N PROGRAM [ARGUMENT...]  the same by fork, so many at once
 *   actor look HOW N DIRECTORY                access(2) of N absent names: HOW is libc, again (the same
 *                                             one name) or raw (a call without the C library)
 *   actor op WHAT N DIRECTORY                 N operations on what micro.py has put there
 *   actor rate THREADS N DIRECTORY            N looks in all at absent names, by so many processes
 *   actor tree FILES EVERY DIRECTORY          reads every EVERY-th file of a tree, and prints a sum
 *   actor stats FILES EVERY DIRECTORY         stat(2) of the same files
 *   actor make FILE                           makes a file of a thousand bytes
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void spawn_one(const char *how, char **argv) {
    int only_exits = strcmp(argv[0], "-") == 0, status;
    pid_t pid;
    if (strcmp(how, "spawn") == 0 && !only_exits) {
        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0)
            fail(argv[0]);
    } else {
        pid = strcmp(how, "fork") == 0 ? fork() : vfork();
        if (pid == 0) {
            if (!only_exits)
                execv(argv[0], argv);
            _exit(only_exits ? 0 : 127);
        }
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        fail("child");
}

static void spawn_all(const char *how, long at_once, long n, char **argv) {
    long running = 0;
    int status;
    /* As shells and compilers do: who looks at names has the preload library at work. */
    for (int i = 0; i < 5; i++)
        if (access("/no-such-file", F_OK) == 0)
            fail("/no-such-file");
    char numbers[8][64];
    char *given[8];
    for (long i = 0; i < n; i++) {
        int a = 0;
        for (; argv[a] && a < 7; a++) {
            char *mark = a ? strchr(argv[a], '%') : NULL;
            given[a] = argv[a];
            if (mark) {
                snprintf(numbers[a], sizeof numbers[a], "%.*s%ld%s", (int)(mark - argv[a]), argv[a], i, mark + 1);
                given[a] = numbers[a];
            }
        }
        given[a] = NULL;
        if (at_once == 1) {
            spawn_one(how, given);
            continue;
        }
        if (running++ == at_once) {
            if (wait(&status) < 0 || status != 0)
                fail("child");
            running--;
        }
        pid_t pid = fork();
        if (pid == 0) {
            execv(given[0], given);
            _exit(127);
        }
        if (pid < 0)
            fail("fork");
    }
    while (running-- > 0 && at_once > 1)
        if (wait(&status) < 0 || status != 0)
            fail("child");
}

static void look(const char *how, long n, const char *dir) {
    char name[256];
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/absent%ld", dir, strcmp(how, "again") ? i : 0);
        long found = strcmp(how, "raw") ? access(name, F_OK) : syscall(SYS_faccessat, AT_FDCWD, name, F_OK);
        if (found == 0)
            fail(name);
    }
}

static char page[1 << 17];

static void op(const char *what, long n, const char *dir) {
    char name[256];
    struct stat st;
    for (long i = 0; i < n; i++) {
        if (strcmp(what, "stat") == 0) {
            snprintf(name, sizeof name, "%s/f%ld", dir, i % 1000);
            if (stat(name, &st) != 0)
                fail(name);
        } else if (strcmp(what, "open") == 0 || strcmp(what, "read") == 0) {
            snprintf(name, sizeof name, "%s/f%ld", dir, i % 1000);
            int fd = open(name, O_RDONLY);
            if (fd < 0 || (what[0] == 'r' && read(fd, page, 4096) != 4096))
                fail(name);
            close(fd);
        } else if (strcmp(what, "readdir") == 0) {
            DIR *d = opendir(dir);
            int count = 0;
            while (d && readdir(d))
                count++;
            if (!d || count < 1000)
                fail(dir);
            closedir(d);
        } else if (strcmp(what, "write") == 0) {
            snprintf(name, sizeof name, "%s/new%ld", dir, i);
            int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
            if (fd < 0 || write(fd, page, 4096) != 4096)
                fail(name);
            close(fd);
            unlink(name);
        } else { /* Of one large file, a MiB each time. */
            snprintf(name, sizeof name, "%s/%s", dir, strcmp(what, "bulk write") ? "large" : "made");
            int fd = open(name, strcmp(what, "bulk write") ? O_RDONLY : O_WRONLY | O_CREAT, 0644);
            if (fd < 0)
                fail(name);
            if (strcmp(what, "mmap") == 0) {
                char *at = mmap(NULL, n << 20, PROT_READ, MAP_SHARED, fd, 0);
                unsigned sum = 0;
                if (at == MAP_FAILED)
                    fail(name);
                for (long byte = 0; byte < n << 20; byte += 4096)
                    sum += at[byte];
                if (sum == 1)
                    puts("");
                munmap(at, n << 20);
            } else {
                for (long k = 0; k < n << 3; k++) {
                    ssize_t got = strcmp(what, "bulk write") ? read(fd, page, sizeof page)
                                                             : write(fd, page, sizeof page);
                    if (got != sizeof page)
                        fail(name);
                }
            }
            close(fd);
            return;
        }
    }
}

static void file_name(char *name, size_t size, const char *dir, long i) {
    snprintf(name, size, "%s/d%ld/f%ld", dir, i / 1000, i % 1000);
}

int main(int argc, char **argv) {
    if (argc > 1 && argv[1][0] == '@') /* Tells one run from another. */
        argc--, argv++;
    const char *what = argc > 1 ? argv[1] : "";
    double start;
    long n;
    if (argc == 3 && strcmp(what, "make") == 0) {
        int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        return fd < 0 || write(fd, page, 1000) != 1000;
    }
    if (argc < 5)
        return argc > 1 && strcmp(what, "nothing") ? 2 : 0;
    if (strcmp(what, "tree") == 0 || strcmp(what, "stats") == 0) {
        long files = atol(argv[2]), every = atol(argv[3]), sum = 0;
        char name[256];
        start = now();
        for (long i = 0; i < files; i += every) {
            struct stat st;
            file_name(name, sizeof name, argv[4], i);
            if (what[0] == 's') {
                sum += stat(name, &st) == 0;
                continue;
            }
            int fd = open(name, O_RDONLY);
            if (fd < 0 || read(fd, page, sizeof page) < 0)
                fail(name);
            sum += page[0];
            close(fd);
        }
        if (what[0] == 's')
            printf("%f\n", (now() - start) / ((files + every - 1) / every));
        else
            printf("%ld\n", sum);
        return 0;
    }
    n = atol(argv[3]);
    start = now();
    if (strcmp(what, "spawn") == 0)
        spawn_all(argv[2], 1, n, argv + 4);
    else if (strcmp(what, "jobs") == 0)
        spawn_all("fork", atol(argv[2]), n, argv + 4);
    else if (strcmp(what, "look") == 0)
        look(argv[2], n, argv[4]);
    else if (strcmp(what, "op") == 0)
        op(argv[2], n, argv[4]);
    else if (strcmp(what, "rate") == 0) {
        int processes = atoi(argv[2]), status;
        for (int p = 0; p < processes; p++)
            if (fork() == 0) {
                look("libc", n / processes, argv[4]);
                _exit(0);
            }
        while (wait(&status) > 0)
            ;
    } else
        return 2;
    printf("%f\n", (now() - start) / n);
    return 0;
}
