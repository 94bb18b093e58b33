// What a build knows about itself.
#ifndef EMQ_CBUILD_H
#define EMQ_CBUILD_H

// The commit that the program was built from, with a plus if files had changed since; empty if the build was not told.
const char *emq_commit(void);

#endif
