// Files of the repository that are a part of the program: those of the dashboard, and docs/errors.md.
#ifndef EMQ_CFILES_H
#define EMQ_CFILES_H

// A file of text.
struct emq_dashboard_file {
    // Its name in Sources/emq/Dashboard.
    const char *name;
    // Its content, which ends with a null byte.
    const char *text;
};

// The file with a number, counted from 0; NULL behind the last one.
const struct emq_dashboard_file *emq_dashboard_file(unsigned number);

// docs/errors.md, which ends with a null byte.
const char *emq_errors_page(void);

#endif
