// Kernel calls that Swift's Glibc module lacks, and CRC-32C by the CPU's instruction. This is a header only: there is no C
// code to compile.
#ifndef EMQ_CLINUX_H
#define EMQ_CLINUX_H

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdint.h>


// Declared here because defining _GNU_SOURCE, which would declare it, clashes with the Glibc module.
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
extern int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *time, const sigset_t *signals);
struct tm;
extern char *strptime(const char *text, const char *format, struct tm *parts);


// The environment as a function, because Swift treats the variable as shared mutable state.
static inline char **emq_environment(void) {
    extern char **environ;
    return environ;
}

// CRC-32C (Castagnoli, RFC 3720). The states are the inverted checksums.

// For CPUs without the instruction: four bits at a time, small but slow.
static inline uint32_t emq_crc32c_portable(uint32_t state, const uint8_t *bytes, size_t count) {
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (; count > 0; count--) {
        state ^= *bytes++;
        state = state >> 4 ^ table[state & 15];
        state = state >> 4 ^ table[state & 15];
    }
    return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2")))
static inline uint32_t emq_crc32c_native(uint32_t state, const uint8_t *bytes, size_t count) {
    uint64_t wide = state;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    state = (uint32_t)wide;
    for (; count > 0; count--) state = __builtin_ia32_crc32qi(state, *bytes++);
    return state;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
static inline uint32_t emq_crc32c_native(uint32_t state, const uint8_t *bytes, size_t count) {
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, 8);
        state = __builtin_arm_crc32cd(state, word);
    }
    for (; count > 0; count--) state = __builtin_arm_crc32cb(state, *bytes++);
    return state;
}
#endif

// Extends the checksum `previous` (0 for no bytes) by `count` bytes.
static inline uint32_t emq_crc32c(uint32_t previous, const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~emq_crc32c_native(~previous, (const uint8_t *)bytes, count);
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    return ~emq_crc32c_native(~previous, (const uint8_t *)bytes, count);
#endif
    return ~emq_crc32c_portable(~previous, (const uint8_t *)bytes, count);
}

#endif
