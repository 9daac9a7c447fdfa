/* The dashboard's files, compiled in: make/dashboard.sh writes the table from the folder. */
#ifndef DOVETAIL_SERVING_DASHBOARD_H
#define DOVETAIL_SERVING_DASHBOARD_H

#include <stddef.h>

struct dashboard_file {
    const char *path; /* below /dashboard/: "style.css", "vendor/chart.js" */
    const char *content_type;
    const char *etag; /* in its quotes; of the content */
    const unsigned char *bytes;
    size_t length;
};

extern const struct dashboard_file dashboard_files[];
extern const size_t dashboard_file_count;

#endif
