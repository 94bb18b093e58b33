// The parts of system libraries' interfaces that emq uses. The program loads the libraries at run time, so it builds and
// starts without them, and without their headers. This is a header only: there is no C code to compile.
#ifndef EMQ_CLIBRARIES_H
#define EMQ_CLIBRARIES_H

#include <stdint.h>

// zlib 1.x, https://zlib.net/manual.html. `inflateInit2_` checks that it knows this structure by its size.

typedef struct emq_zlib_stream {
    const uint8_t *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *, unsigned int, unsigned int);
    void (*zfree)(void *, void *);
    void *opaque;
    int data_type;
    unsigned long adler;
    unsigned long reserved;
} emq_zlib_stream;

typedef int (*emq_zlib_inflateInit2)(emq_zlib_stream *stream, int window_bits, const char *version, int stream_size);
typedef int (*emq_zlib_inflate)(emq_zlib_stream *stream, int flush);
typedef int (*emq_zlib_inflateReset)(emq_zlib_stream *stream);
typedef int (*emq_zlib_inflateEnd)(emq_zlib_stream *stream);

#endif
