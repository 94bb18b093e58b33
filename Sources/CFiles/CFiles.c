// Files that are a part of the program. To add one of Sources/emq/Dashboard, add three lines to the list; a test fails until
// the list is complete.

#include "CFiles.h"

#include <stddef.h>

#pragma clang diagnostic ignored "-Wc23-extensions"

static const struct emq_dashboard_file files[] = {
    {"actions.js", (const char[]) {
#embed "../emq/Dashboard/actions.js" suffix(, 0)
    }},
    {"api.js", (const char[]) {
#embed "../emq/Dashboard/api.js" suffix(, 0)
    }},
    {"app.js", (const char[]) {
#embed "../emq/Dashboard/app.js" suffix(, 0)
    }},
    {"chart.js", (const char[]) {
#embed "../emq/Dashboard/chart.js" suffix(, 0)
    }},
    {"configuration.js", (const char[]) {
#embed "../emq/Dashboard/configuration.js" suffix(, 0)
    }},
    {"dead.js", (const char[]) {
#embed "../emq/Dashboard/dead.js" suffix(, 0)
    }},
    {"dialogs.js", (const char[]) {
#embed "../emq/Dashboard/dialogs.js" suffix(, 0)
    }},
    {"dom.js", (const char[]) {
#embed "../emq/Dashboard/dom.js" suffix(, 0)
    }},
    {"enqueue.js", (const char[]) {
#embed "../emq/Dashboard/enqueue.js" suffix(, 0)
    }},
    {"format.js", (const char[]) {
#embed "../emq/Dashboard/format.js" suffix(, 0)
    }},
    {"icon.svg", (const char[]) {
#embed "../emq/Dashboard/icon.svg" suffix(, 0)
    }},
    {"index.html", (const char[]) {
#embed "../emq/Dashboard/index.html" suffix(, 0)
    }},
    {"json.js", (const char[]) {
#embed "../emq/Dashboard/json.js" suffix(, 0)
    }},
    {"live.js", (const char[]) {
#embed "../emq/Dashboard/live.js" suffix(, 0)
    }},
    {"overview.js", (const char[]) {
#embed "../emq/Dashboard/overview.js" suffix(, 0)
    }},
    {"page.js", (const char[]) {
#embed "../emq/Dashboard/page.js" suffix(, 0)
    }},
    {"queue.js", (const char[]) {
#embed "../emq/Dashboard/queue.js" suffix(, 0)
    }},
    {"queues.js", (const char[]) {
#embed "../emq/Dashboard/queues.js" suffix(, 0)
    }},
    {"search.js", (const char[]) {
#embed "../emq/Dashboard/search.js" suffix(, 0)
    }},
    {"style.css", (const char[]) {
#embed "../emq/Dashboard/style.css" suffix(, 0)
    }},
    {"task.js", (const char[]) {
#embed "../emq/Dashboard/task.js" suffix(, 0)
    }},
    {"workers.js", (const char[]) {
#embed "../emq/Dashboard/workers.js" suffix(, 0)
    }},
};

const struct emq_dashboard_file *emq_dashboard_file(unsigned number) {
    return number < sizeof files / sizeof files[0] ? &files[number] : NULL;
}

static const char errors_page[] = {
#embed "../../docs/errors.md" suffix(, 0)
};

const char *emq_errors_page(void) { return errors_page; }
