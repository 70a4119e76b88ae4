/* A runtime like Go's: many threads that make raw calls while a timer sends each of them SIGURG, with
   SA_RESTART, every 200 us; each ends some calls early and expects the kernel to begin them again. A name
   that is looked at must be told once and for all, and no call may fail that would not fail alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { THREADS = 8, ROUNDS = 60 };

static void on_signal(int signal) { (void)signal; }

static void fail(const char *what, const char *path) {
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    _exit(1);
}

/* A program that a thread starts while all are interrupted, as Go does: by clone with CLONE_VFORK and CLONE_VM. */
static void start(void) {
    pid_t child = vfork();
    if (child == 0) {
        char *argv[] = {"cat", "in/f3", NULL};
        execv("/bin/cat", argv);
        _exit(127);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        fail("start", "/bin/cat");
}

static void *work(void *arg) {
    long me = (long)arg;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    timer_t timer;
    struct itimerspec often = {{0, 200000}, {0, 200000}};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
        fail("timer", "");
    for (int n = 0; n < ROUNDS; n++) {
        char path[64], text[64];
        char x[256];
        snprintf(path, sizeof path, "in/none-%ld-%d", me, n);
        if (syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != -1 || errno != ENOENT)
            fail("faccessat", path);
        snprintf(path, sizeof path, "in/f%d", (int)(me * 7 + n) % 20);
        if (syscall(SYS_statx, AT_FDCWD, path, 0, 0x7ff, x))
            fail("statx", path);
        long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_read, fd, text, sizeof text) < 0 || syscall(SYS_close, fd))
            fail("read", path);
        snprintf(path, sizeof path, "out-%ld-%d", me, n);
        fd = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0 || syscall(SYS_write, fd, path, 5) != 5 || syscall(SYS_close, fd))
            fail("write", path);
        if (me == 3 && n == ROUNDS / 2)
            start();
        if (n % 2 && syscall(SYS_unlinkat, AT_FDCWD, path, 0))
            fail("unlinkat", path);
    }
    timer_delete(timer);
    return NULL;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigaction(SIGURG, &action, NULL);
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, work, (void *)n);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    return 0;
}
