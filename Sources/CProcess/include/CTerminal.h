// A terminal for a program that uses the whole screen, and what it was before. This is a header only: there is no C code
// to compile. Only one Swift file may use the functions with a state, because each file has variables of its own.
//
// The handlers of signals may only make calls that are safe in them, so they are not in Swift.
#ifndef EMQ_CTERMINAL_H
#define EMQ_CTERMINAL_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

struct emq_terminal {
    struct termios modes;
    int output;
    volatile sig_atomic_t has_modes, is_taken;
};

// The state of the terminal. It is in a function because Swift emits no variables of headers.
static inline struct emq_terminal *emq_terminal(void) {
    static struct emq_terminal terminal;
    return &terminal;
}

// The device number of a terminal; 0 if the descriptor is none.
static inline unsigned emq_terminal_device(int descriptor) {
    unsigned device = 0;
    return ioctl(descriptor, TIOCGDEV, &device) == 0 ? device : 0;
}

// Makes the terminal what it was before emq_take_terminal. Does nothing if it is that already. A terminal that nobody
// reads is waited for briefly; then, what it has not shown yet is dropped.
static inline void emq_give_terminal_back(void) {
    struct emq_terminal *terminal = emq_terminal();
    if (!terminal->is_taken) return;
    terminal->is_taken = 0;
    // Lines wrap, the cursor is there, and the main screen is back.
    const char *end = "\033[0m\033[?7h\033[?25h\033[?1049l";
    size_t rest = strlen(end);
    for (int tries = 0; rest > 0 && tries < 3;) {
        ssize_t count = write(terminal->output, end, rest);
        if (count > 0) {
            end += count;
            rest -= (size_t)count;
            continue;
        }
        if (count < 0 && errno != EAGAIN && errno != EINTR) break;
        if (tries == 0) {
            struct pollfd room = {.fd = terminal->output, .events = POLLOUT};
            poll(&room, 1, 200);
        } else {
            // Without IXON, output that was stopped with Ctrl-S goes on.
            if (terminal->has_modes) {
                struct termios modes = terminal->modes;
                modes.c_iflag &= ~(tcflag_t)IXON;
                tcsetattr(STDIN_FILENO, TCSANOW, &modes);
            }
            tcflush(terminal->output, TCOFLUSH);
        }
        tries++;
    }
    if (terminal->has_modes) tcsetattr(STDIN_FILENO, TCSANOW, &terminal->modes);
}

static inline void emq_terminal_end(int number) {
    emq_give_terminal_back();
    raise(number);
}

// Reads keys at once and without an echo. A crash, or another signal that ends the program, gives the terminal back, and
// so does emq_give_terminal_back. `output` is where the terminal is written; writes to it should not wait.
static inline void emq_take_terminal(int output) {
    struct emq_terminal *terminal = emq_terminal();
    if (terminal->is_taken) return;
    terminal->output = output;
    if (tcgetattr(STDIN_FILENO, &terminal->modes) == 0) {
        terminal->has_modes = 1;
        struct termios modes = terminal->modes;
        modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
        modes.c_cc[VMIN] = 1;
        modes.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &modes);
    }
    terminal->is_taken = 1;
    static const int ends[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGTRAP, SIGABRT, SIGFPE,    SIGSYS,  SIGXCPU,
                               SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGPROF, SIGVTALRM, SIGPOLL, SIGPWR};
    for (size_t place = 0; place < sizeof ends / sizeof *ends; place++) {
        struct sigaction action;
        // A signal that is ignored ends nothing.
        if (sigaction(ends[place], 0, &action) != 0 || action.sa_handler == SIG_IGN) continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = emq_terminal_end;
        // The second time, the signal ends the program.
        action.sa_flags = (int)(SA_RESETHAND | SA_NODEFER);
        sigaction(ends[place], &action, 0);
    }
}

#endif
