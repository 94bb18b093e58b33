// What Prometheus' clients report of every process, as `process_*`.

import Glibc

/// The resources that this process has used and may use.
enum ProcessStatistics {
    /// The processor time used, in microseconds.
    static var cpuMicroseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    }

    /// The number of open descriptors; nil if the system does not tell. O(descriptors) before Linux 6.2.
    static var openDescriptorCount: Int? {
        var status = stat()
        if unsafe stat("/proc/self/fd", &status) == 0, status.st_size > 0 { return Int(status.st_size) }
        guard let directory = unsafe opendir("/proc/self/fd") else { return nil }
        var count = 0
        while unsafe readdir(directory) != nil { count += 1 }
        unsafe closedir(directory)
        // `.`, `..` and the directory itself.
        return count - 3
    }

    /// The limit of open descriptors.
    static var maximumDescriptorCount: UInt64 {
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return UInt64(limit.rlim_cur)
    }
}
