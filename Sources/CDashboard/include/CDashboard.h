// The files of the dashboard, which are a part of the program.
#ifndef EMQ_CDASHBOARD_H
#define EMQ_CDASHBOARD_H

// A file of text.
struct emq_dashboard_file {
    // Its name in Sources/emq/Dashboard.
    const char *name;
    // Its content, which ends with a null byte.
    const char *text;
};

// The file with a number, counted from 0; NULL behind the last one.
const struct emq_dashboard_file *emq_dashboard_file(unsigned number);

#endif
