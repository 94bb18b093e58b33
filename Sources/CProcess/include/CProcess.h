// Starting a command in a process group of its own, which does not outlive its parent. This is a header only: there is no
// C code to compile.
//
// posix_spawn cannot set the signal that follows the parent's death, and Swift offers no fork, so the child's steps between
// vfork and exec are here. They only make system calls (POSIX.1-2017, fork, "async-signal-safe").
#ifndef EMQ_CPROCESS_H
#define EMQ_CPROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <string.h>
#include <unistd.h>

#include "CTerminal.h"

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#endif

// Declared here because defining _GNU_SOURCE, which would declare it, clashes with the Glibc module.
extern int pipe2(int ends[2], int flags);

// What a command is started with.
struct emq_command {
    // The path of the program, its arguments and its environment; both lists end with a null.
    const char *path;
    char *const *arguments;
    char *const *environment;
    // The descriptors that become its standard input, output and error.
    int input, output, error;
    // Where its process notes its number before it runs, in memory that the watcher shares; in place of it, the negative
    // error number if it cannot run.
    int32_t *group;
};

// Starts a command, in a process group of its own whose number is that of the process. The command is killed when the
// calling thread ends. The caller waits until the program runs; other threads go on. Returns its process number, or -1
// with the error number in *failure. Errors of the program's start, such as a missing one, are noted in command->group when
// the process has ended: a sanitizer makes a fork of the vfork, so that they may come later.
static inline pid_t emq_start(const struct emq_command *command, int *failure) {
    sigset_t all, previous;
    sigfillset(&all);
    // No signal handler of the parent may run in the child, which shares its memory.
    sigprocmask(SIG_BLOCK, &all, &previous);
    pid_t parent = getpid();
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
    pid_t process = vfork();
#pragma clang diagnostic pop
    if (process == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        // The parent may have died before that.
        if (getppid() != parent) _exit(127);
        __atomic_store_n(command->group, (int32_t)getpid(), __ATOMIC_SEQ_CST);
        for (int signal = 1; signal < NSIG; signal++) {
            struct sigaction action = {0};
            action.sa_handler = SIG_DFL;
            sigaction(signal, &action, 0);
        }
        if (dup2(command->input, 0) >= 0 && dup2(command->output, 1) >= 0 && dup2(command->error, 2) >= 0) {
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, 0);
            execve(command->path, command->arguments, command->environment);
        }
        __atomic_store_n(command->group, -(int32_t)errno, __ATOMIC_SEQ_CST);
        _exit(127);
    }
    int error = errno;
    sigprocmask(SIG_SETMASK, &previous, 0);
    if (process < 0) {
        *failure = error;
        return -1;
    }
    return process;
}

// A descriptor that becomes readable when the process ends (Linux 5.3); -1 on failure.
static inline int emq_pidfd(pid_t process) {
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, process, 0);
#else
    errno = ENOSYS;
    return -1;
#endif
}

// An anonymous file in memory, closed in other programs; -1 on failure.
static inline int emq_memory_file(void) { return (int)syscall(SYS_memfd_create, "emq", MFD_CLOEXEC); }

// Memory for the numbers of process groups, which forked processes share: a page-aligned block of zeros; null on failure.
static inline int32_t *emq_shared_groups(int count) {
    void *memory = mmap(0, (size_t)count * sizeof(int32_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : (int32_t *)memory;
}

// Notes that a group is gone, and returns the error number with which its command could not run; 0 if it ran. Call this
// before the leader is reaped: then the number cannot mean another group yet.
static inline int32_t emq_forget_group(int32_t *group) {
    int32_t last = __atomic_exchange_n(group, 0, __ATOMIC_SEQ_CST);
    return last < 0 ? -last : 0;
}

// Starts a process that watches a pipe. At the end of its input, which comes when the parent is gone, it kills the groups
// whose numbers are in `groups`, removes the files directory/0 to directory/(count-1) and the directory, and ends. Returns
// its process number, or -1.
//
// It is a fork without exec: the child may only make system calls, because other threads may have held locks.
static inline pid_t emq_start_watcher(int input, int parent_end, int32_t *groups, const char *directory, int count) {
    pid_t process = fork();
    if (process != 0) return process;
    close(parent_end);
    setsid();
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action = {0};
        action.sa_handler = signal == SIGCHLD ? SIG_DFL : SIG_IGN;
        sigaction(signal, &action, 0);
    }
    // Its parent's output must not stay open because of it.
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    char byte;
    ssize_t size;
    do size = read(input, &byte, 1); while (size > 0 || (size < 0 && errno == EINTR));
    for (int place = 0; place < count; place++) {
        int32_t group = __atomic_load_n(&groups[place], __ATOMIC_SEQ_CST);
        if (group > 0) kill(-group, SIGKILL);
    }
    char path[4096];
    size_t length = strlen(directory);
    if (length + 12 < sizeof path) {
        memcpy(path, directory, length);
        path[length] = '/';
        for (int place = 0; place < count; place++) {
            char digits[12];
            int digit = 12, rest = place;
            do digits[--digit] = (char)('0' + rest % 10); while (rest /= 10);
            memcpy(path + length + 1, digits + digit, (size_t)(12 - digit));
            path[length + 1 + (size_t)(12 - digit)] = 0;
            unlink(path);
        }
        rmdir(directory);
    }
    _exit(0);
}

#endif
