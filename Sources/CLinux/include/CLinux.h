// The kernel calls that Swift's Glibc module leaves out. Headers only: there is no C code to compile.
#ifndef EMQ_CLINUX_H
#define EMQ_CLINUX_H

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <linux/sockios.h>

// Declared here because defining _GNU_SOURCE, which would bring it in, clashes with the Glibc module.
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);

#endif
