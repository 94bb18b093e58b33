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
    // Where the number of its process is written before it runs, so that a watcher knows its group; -1 for nowhere.
    int announcement;
};

// Starts a command, in a process group of its own whose number is that of the process. The command is killed when the
// calling thread ends. Returns its process number, or -1 with the error number in *failure; errors of the command's own
// start, such as a missing program, are there too.
static inline pid_t emq_start(const struct emq_command *command, int *failure) {
    // The child shares the memory until it runs the program: it can tell its error through a variable.
    volatile int code = 0;
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
        int32_t number = (int32_t)getpid();
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        // The parent may have died before that.
        if (getppid() != parent) _exit(127);
        if (command->announcement >= 0 && write(command->announcement, &number, 4) != 4) code = errno ? errno : EIO;
        for (int signal = 1; signal < NSIG; signal++) {
            struct sigaction action = {0};
            action.sa_handler = SIG_DFL;
            sigaction(signal, &action, 0);
        }
        if (!code && (dup2(command->input, 0) < 0 || dup2(command->output, 1) < 0 || dup2(command->error, 2) < 0))
            code = errno;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, 0);
        if (!code) {
            execve(command->path, command->arguments, command->environment);
            code = errno;
        }
        _exit(127);
    }
    int error = errno;
    sigprocmask(SIG_SETMASK, &previous, 0);
    if (process < 0) {
        *failure = error;
        return -1;
    }
    if (code) {
        int status;
        while (waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
        *failure = code;
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

// Starts a process that watches a pipe. It reads the numbers of process groups from `input`: a positive one begins, a
// negative one has ended. At the end of input, which comes when the parent is gone, it kills the groups that have not ended,
// removes the files directory/0 to directory/(count-1) and the directory, and ends. Returns its process number, or -1.
//
// It is a fork without exec: the child may only make system calls, because other threads may have held locks.
static inline pid_t emq_start_watcher(int input, int parent_end, const char *directory, int count) {
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
    enum { most = 4096 };
    static int32_t groups[most];
    int used = 0;
    for (;;) {
        int32_t number;
        ssize_t size = read(input, &number, 4);
        if (size < 0 && errno == EINTR) continue;
        if (size != 4) break;
        if (number > 0 && used < most) groups[used++] = number;
        for (int place = 0; number < 0 && place < used; place++) {
            if (groups[place] == -number) groups[place--] = groups[--used], number = 0;
        }
    }
    for (int place = 0; place < used; place++) kill(-groups[place], SIGKILL);
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
