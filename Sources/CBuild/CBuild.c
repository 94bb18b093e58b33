// The commit comes from Package.swift. It is in a file of its own, so that a new commit compiles only this file again.

#include "CBuild.h"

#ifndef EMQ_COMMIT
#define EMQ_COMMIT ""
#endif

const char *emq_commit(void) { return EMQ_COMMIT; }
