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

// How many levels of folders emq_remove goes down. Each takes a descriptor and a few kilobytes of the stack.
static inline int emq_removal_depth(void) { return 32; }

// Removes a file, or a folder with what is in it, as far as `depth` levels and `*steps` files; it counts these down. It
// follows no symbolic links. It only makes system calls.
static inline void emq_remove(int folder, const char *name, int depth, int *steps) {
    if (*steps <= 0) return;
    --*steps;
    if (unlinkat(folder, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) return;
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0 || depth <= 0) return;
    int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0) return;
    // An entry: its inode and offset, with 8 bytes each, its length with 2, a type, and its name (getdents(2)).
    enum { length_place = 16, name_place = 19 };
    _Alignas(8) char entries[2048];
    long size;
    while (*steps > 0 && (size = syscall(SYS_getdents64, inner, entries, sizeof entries)) > 0) {
        for (long place = 0; place + name_place < size;) {
            uint16_t length;
            memcpy(&length, entries + place + length_place, sizeof length);
            if (length <= name_place || length > size - place) break;
            const char *entry = entries + place + name_place;
            if (strcmp(entry, ".") != 0 && strcmp(entry, "..") != 0) emq_remove(inner, entry, depth - 1, steps);
            place += length;
        }
    }
    close(inner);
    unlinkat(folder, name, AT_REMOVEDIR);
}

// Gives the calling process another name and command line, so that who ends programs by their names does not end it. The
// environment must be where the kernel has put it, behind the arguments (System V ABI, section 3.4.1).
static inline void emq_rename_process(const char *name) {
    extern char **environ;
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (!environ || environ[-1]) return;
    long count = 0;
    // A pointer is never as small as the number of arguments.
    while (((long *)environ)[-2 - count] != count) count++;
    if (count == 0) return;
    char **arguments = environ - 1 - count;
    size_t room = strlen(arguments[0]), length = strlen(name);
    for (long place = 0; place < count; place++) memset(arguments[place], 0, strlen(arguments[place]));
    memcpy(arguments[0], name, length < room ? length : room);
}

// Starts a process that watches a pipe. At the end of its input, which comes when the parent is gone, it kills the groups
// whose numbers are in `groups`, removes the directory with what is in it, and ends. Returns its process number, or -1.
//
// It is a fork without exec: the child may only make system calls, because other threads may have held locks.
static inline pid_t emq_start_watcher(int input, int32_t *groups, const char *directory, int count) {
    pid_t process = fork();
    if (process != 0) return process;
    setsid();
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action = {0};
        action.sa_handler = signal == SIGCHLD ? SIG_DFL : SIG_IGN;
        sigaction(signal, &action, 0);
    }
    emq_rename_process("group-watcher");
    // What its parent has open must not stay open because of it: output, connections, and the other end of its pipe.
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    input = dup2(input, 3);
    int limit = 1 << 16;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 4U, ~0U, 0U) == 0) limit = 0;
#endif
    for (int descriptor = 4; descriptor < limit; descriptor++) close(descriptor);
    char byte;
    ssize_t size;
    do size = read(input, &byte, 1); while (size > 0 || (size < 0 && errno == EINTR));
    for (int place = 0; place < count; place++) {
        int32_t group = __atomic_load_n(&groups[place], __ATOMIC_SEQ_CST);
        if (group > 0) kill(-group, SIGKILL);
    }
    int steps = 1000000;
    emq_remove(AT_FDCWD, directory, emq_removal_depth(), &steps);
    _exit(0);
}

#endif
