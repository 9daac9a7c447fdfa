/* Metrics as Prometheus's own tool judges them: header-only, for tests. */
#ifndef DOVETAIL_TESTS_SUPPORT_PROMTOOL_H
#define DOVETAIL_TESTS_SUPPORT_PROMTOOL_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Whether there is one, of Debian's package prometheus. */
static inline bool promtool_is_there(void)
{
    return system("command -v promtool > /dev/null") == 0;
}

/* Fails the test where the text is against the conventions. */
static inline void promtool_check(const char *text)
{
    char path[] = "/tmp/test-metrics-XXXXXX";
    char command[256];
    char verdict[4096] = "";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    snprintf(command, sizeof command, "promtool check metrics < %s 2>&1", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(verdict, 1, sizeof verdict - 1, pipe);
    int status = pclose(pipe);
    unlink(path);
    if (status != 0 || length > 0)
        fail_msg("%s", verdict);
}

#endif
