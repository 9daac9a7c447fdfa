/* PostgreSQL servers of a test's own: see pgcluster.h. */
#include "tests/support/pgcluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { PATH_BYTES = 200, COMMAND_BYTES = 1200 };

struct pgcluster {
    char directory[PATH_BYTES / 2]; /* has fs/, the file system with the data, and the logs */
    char conninfo[200];
    int port;
    bool is_mounted;
    struct child *server;
};

/* --- commands --- */

/* The newest version's folder of programs. */
static const char *binaries(void)
{
    static char folder[PATH_BYTES / 2];
    glob_t found = {0};
    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0 || found.gl_pathc == 0)
        fail_msg("PostgreSQL's programs are missing: make deps");
    snprintf(folder, sizeof folder, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    return folder;
}

static const char *as_owner(void)
{
    return geteuid() == 0 ? "setpriv --reuid postgres --regid postgres --init-groups" : "";
}

static void run(const struct pgcluster *cluster, const char *format, ...)
{
    char command[COMMAND_BYTES], text[COMMAND_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(command, sizeof command, "cd / && timeout 120 %s %s/%s > %s/command.log 2>&1",
             as_owner(), binaries(), text, cluster->directory);
    if (system(command) != 0) {
        snprintf(text, sizeof text, "tail -n 5 %s/command.log >&2", cluster->directory);
        (void)!system(text);
        fail_msg("%s", command);
    }
}

/* --- making --- */

static struct pgcluster *make_directory(int megabytes)
{
    struct pgcluster *cluster = calloc(1, sizeof *cluster);
    char command[COMMAND_BYTES], fs[PATH_BYTES], options[40];
    assert_non_null(cluster);
    snprintf(cluster->directory, sizeof cluster->directory, "/tmp/dovetail-postgres-XXXXXX");
    if (mkdtemp(cluster->directory) == NULL)
        fail_msg("%s: %s", cluster->directory, strerror(errno));
    snprintf(fs, sizeof fs, "%s/fs", cluster->directory);
    snprintf(options, sizeof options, "size=%dm", megabytes);
    if (mkdir(fs, 0700) != 0)
        fail_msg("%s: %s", fs, strerror(errno));
    if (megabytes > 0 && mount("tmpfs", fs, "tmpfs", 0, options) != 0) {
        print_message("no small file system: %s\n", strerror(errno));
        pgcluster_destroy(cluster);
        return NULL;
    }
    cluster->is_mounted = megabytes > 0;
    snprintf(command, sizeof command, "chown postgres: %s %s", cluster->directory, fs);
    if (geteuid() == 0 && system(command) != 0)
        fail_msg("%s", command);
    cluster->port = http_free_port();
    snprintf(cluster->conninfo, sizeof cluster->conninfo,
             "host=127.0.0.1 port=%d dbname=postgres user=postgres", cluster->port);
    return cluster;
}

static void append_settings(const struct pgcluster *cluster, const char *settings)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/fs/data/postgresql.auto.conf", cluster->directory);
    FILE *out = fopen(path, "a");
    if (out == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    fprintf(out,
            "listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = ''\n"
            "fsync = off\njit = off\nshared_buffers = '16MB'\nmax_wal_size = '64MB'\n%s",
            cluster->port, settings != NULL ? settings : "");
    fclose(out);
}

static struct pgcluster *make(int megabytes, const char *settings)
{
    struct pgcluster *cluster = make_directory(megabytes);
    if (cluster == NULL)
        return NULL;
    run(cluster,
        "initdb --pgdata %s/fs/data --username postgres --auth trust --locale C.UTF-8 --encoding "
        "UTF8"
        " --no-sync --wal-segsize 4",
        cluster->directory);
    append_settings(cluster, settings);
    pgcluster_start(cluster);
    return cluster;
}

struct pgcluster *pgcluster_create(const char *settings)
{
    return make(0, settings);
}

struct pgcluster *pgcluster_create_small(int megabytes, const char *settings)
{
    return make(megabytes, settings);
}

struct pgcluster *pgcluster_create_replica(int port)
{
    struct pgcluster *cluster = make_directory(0);
    run(cluster,
        "pg_basebackup --pgdata %s/fs/data --write-recovery-conf --wal-method stream --checkpoint "
        "fast"
        " --no-sync --dbname 'host=127.0.0.1 port=%d user=postgres sslmode=disable'",
        cluster->directory, port);
    append_settings(cluster, "wal_retrieve_retry_interval = '200ms'\n");
    pgcluster_start(cluster);
    return cluster;
}

void pgcluster_destroy(struct pgcluster *cluster)
{
    char command[COMMAND_BYTES];
    if (cluster == NULL)
        return;
    if (cluster->server != NULL)
        pgcluster_stop_immediately(cluster);
    snprintf(command, sizeof command, "%s/fs", cluster->directory);
    if (cluster->is_mounted)
        umount2(command, MNT_DETACH);
    snprintf(command, sizeof command, "rm -rf %s", cluster->directory);
    (void)!system(command);
    free(cluster);
}

int pgcluster_port(const struct pgcluster *cluster)
{
    return cluster->port;
}

const char *pgcluster_conninfo(const struct pgcluster *cluster)
{
    return cluster->conninfo;
}

/* --- life --- */

void pgcluster_start(struct pgcluster *cluster)
{
    char program[PATH_BYTES], data[PATH_BYTES];
    const char *argv[12] = {"/usr/bin/setpriv", "--pdeathsig", "QUIT"};
    size_t count = 3;
    snprintf(program, sizeof program, "%s/postgres", binaries());
    snprintf(data, sizeof data, "%s/fs/data", cluster->directory);
    if (geteuid() == 0) {
        argv[count++] = "--reuid=postgres";
        argv[count++] = "--regid=postgres";
        argv[count++] = "--init-groups";
    }
    argv[count++] = program;
    argv[count++] = "-D";
    argv[count++] = data;
    cluster->server = child_start(cluster->directory, "postgres", argv);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (PQping(cluster->conninfo) != PQPING_OK) {
        if (!child_is_running(cluster->server) || stack_now_ms() > deadline) {
            children_show();
            fail_msg("PostgreSQL does not start");
        }
        stack_sleep_ms(20);
    }
}

void pgcluster_stop_immediately(struct pgcluster *cluster)
{
    if (child_is_running(cluster->server))
        child_signal(cluster->server, SIGQUIT);
    (void)child_wait(cluster->server, STACK_WAIT_MS);
    cluster->server = NULL;
}

void pgcluster_promote(struct pgcluster *cluster)
{
    PGconn *connection = database_open(cluster->conninfo);
    PGresult *result = database_ask(connection, "SELECT pg_promote()");
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQgetvalue(result, 0, 0)[0] != 't')
        fail_msg("promote: %s", PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

void pgcluster_fill(struct pgcluster *cluster, bool full)
{
    static const char block[1 << 16] = {1};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/fs/ballast", cluster->directory);
    if (!full) {
        unlink(path);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    for (size_t size = sizeof block; size > 0; size /= 16)
        while (write(fd, block, size) == (ssize_t)size)
            continue;
    close(fd);
}
