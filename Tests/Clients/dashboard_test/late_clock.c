// A library to be preloaded into emq: its clock is late by as much as the test says, so that hours pass in seconds. The
// file that the variable LATE_CLOCK names holds the nanoseconds by which the clock is late.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static const volatile int64_t *lateness;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int descriptor = open(getenv("LATE_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *address = mmap(NULL, sizeof *lateness, PROT_READ, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED) abort();
    lateness = address;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = real_gettime(clock, time);
    if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME)) return result;
    int64_t nanoseconds = time->tv_sec * 1000000000LL + time->tv_nsec - *lateness;
    time->tv_sec = nanoseconds / 1000000000;
    time->tv_nsec = nanoseconds % 1000000000;
    return 0;
}
