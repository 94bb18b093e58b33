// Kernel calls that Swift's Glibc module lacks, and what the CPU has instructions for: CRC-32C, and the search for the
// end of a run of plain characters. This is a header only: there is no C code to compile.
#ifndef EMQ_CLINUX_H
#define EMQ_CLINUX_H

#include <elf.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// Declared here because defining _GNU_SOURCE, which would declare it, clashes with the Glibc module.
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
extern int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *time, const sigset_t *signals);
struct tm;
extern char *strptime(const char *text, const char *format, struct tm *parts);
extern long syscall(long number, ...);
#ifndef __USE_GNU
struct dl_phdr_info {
    Elf64_Addr dlpi_addr;
    const char *dlpi_name;
    const Elf64_Phdr *dlpi_phdr;
    Elf64_Half dlpi_phnum;
    // More fields follow.
};
extern int dl_iterate_phdr(int (*visit)(struct dl_phdr_info *object, size_t size, void *data), void *data);
#endif

// recv and send without cancellation points (pthreads(7)), for which glibc takes four atomic operations in each call.
// No thread of emq is cancelled.
static inline ssize_t emq_recv(int fd, void *bytes, size_t count, int flags) {
    return syscall(SYS_recvfrom, fd, bytes, count, flags, NULL, NULL);
}
static inline ssize_t emq_send(int fd, const void *bytes, size_t count, int flags) {
    return syscall(SYS_sendto, fd, bytes, count, flags, NULL, 0);
}

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

// How many bytes precede the first one that is special in a string of JSON: a quote, a backslash, a control character,
// or a byte over 0x7F. It is `count` if there is none.
static inline ptrdiff_t emq_plain_prefix_portable(const void *start, ptrdiff_t count) {
    const uint8_t *bytes = (const uint8_t *)start;
    ptrdiff_t index = 0;
    while (index < count && bytes[index] >= 0x20 && bytes[index] < 0x80 && bytes[index] != '"' && bytes[index] != '\\') {
        index++;
    }
    return index;
}

// The special bytes among 16 as bits, `EMQ_BITS_PER_BYTE` for each, the first byte's lowest; and those among 8.
#if defined(__SSE2__)
#define EMQ_BITS_PER_BYTE 1
static inline uint64_t emq_special_bits(__m128i block) {
    // As a signed number, a byte over 0x7F is less than a space, too.
    return _mm_movemask_epi8(_mm_or_si128(
        _mm_cmplt_epi8(block, _mm_set1_epi8(0x20)),
        _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')), _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')))));
}
static inline uint64_t emq_special_16(const uint8_t *bytes) {
    return emq_special_bits(_mm_loadu_si128((const __m128i *)bytes));
}
static inline uint64_t emq_special_8(const uint8_t *bytes) {
    return emq_special_bits(_mm_loadl_epi64((const __m128i *)bytes)) & 0xff;
}
#elif defined(__ARM_NEON)
#define EMQ_BITS_PER_BYTE 4
static inline uint64_t emq_special_bits(int8x16_t block) {
    uint8x16_t special = vorrq_u8(
        vcltq_s8(block, vdupq_n_s8(0x20)),
        vorrq_u8(vceqq_s8(block, vdupq_n_s8('"')), vceqq_s8(block, vdupq_n_s8('\\'))));
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(special), 4)), 0);
}
static inline uint64_t emq_special_16(const uint8_t *bytes) { return emq_special_bits(vld1q_s8((const int8_t *)bytes)); }
static inline uint64_t emq_special_8(const uint8_t *bytes) {
    return emq_special_bits(vcombine_s8(vld1_s8((const int8_t *)bytes), vdup_n_s8('a')));
}
#endif

// The same as `emq_plain_prefix_portable`, 16 or 8 bytes at a time.
static inline ptrdiff_t emq_plain_prefix(const void *start, ptrdiff_t count) {
#if defined(EMQ_BITS_PER_BYTE)
    const uint8_t *bytes = (const uint8_t *)start;
    if (count < 8) return emq_plain_prefix_portable(start, count);
    if (count < 16) {
        uint64_t special = emq_special_8(bytes);
        if (special) return __builtin_ctzll(special) / EMQ_BITS_PER_BYTE;
        // The last block begins with bytes that have been seen.
        special = emq_special_8(bytes + count - 8);
        return special ? count - 8 + __builtin_ctzll(special) / EMQ_BITS_PER_BYTE : count;
    }
    for (ptrdiff_t index = 0; index < count; index += 16) {
        if (index > count - 16) index = count - 16;
        uint64_t special = emq_special_16(bytes + index);
        if (special) return index + __builtin_ctzll(special) / EMQ_BITS_PER_BYTE;
    }
    return count;
#else
    return emq_plain_prefix_portable(start, count);
#endif
}

#endif
