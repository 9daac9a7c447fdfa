/* Brokers of a test's own: see cluster.h. */
#include "tests/support/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/stack.h"

enum {
    ARGUMENTS_MAX = 32,
    START_MS = 180000,
    STEP_MS = 100,
    ASK_MS = 5000,
    /* Below the ports that connections are given by themselves. */
    PORT_FIRST = 20000,
    PORT_LAST = 32000,
};

struct node {
    pid_t pid; /* 0: not running */
    int port, client_port, controller_port;
    char directory[PATH_MAX - 32];
};

struct cluster {
    struct cluster_options options;
    struct node nodes[CLUSTER_NODES];
    char jars[PATH_MAX];
    char addresses[256], clients[256];
    char *before; /* DOVETAIL_KAFKA */
    rd_kafka_t *client;
};

/* --- logs --- */

static void show(const struct cluster *cluster)
{
    for (int i = 0; i < cluster->options.nodes; i++) {
        char command[PATH_MAX + 64];
        fprintf(stderr, "--- node %d\n", i + 1);
        snprintf(command, sizeof command, "tail -n 15 '%s/log' >&2", cluster->nodes[i].directory);
        if (system(command) != 0)
            fprintf(stderr, "(no log)\n");
    }
}

/* --- processes --- */

static int free_port(void)
{
    for (;;) {
        uint32_t number;
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || getrandom(&number, sizeof number, 0) != sizeof number)
            fail_msg("no port: %s", strerror(errno));
        int port = (int)(PORT_FIRST + number % (PORT_LAST - PORT_FIRST));
        address.sin_port = htons((uint16_t)port);
        int code = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (code == 0)
            return port;
    }
}

static void find_jars(struct cluster *cluster)
{
    char relative[PATH_MAX] = "";
    FILE *command = popen("printf '.run/cache/kafka-%s' \"$(cksum < docker/local/kafka/pom.xml |"
                          " cut -d ' ' -f 1)\"",
                          "r");
    if (command == NULL || fgets(relative, sizeof relative, command) == NULL ||
        pclose(command) != 0 || realpath(relative, cluster->jars) == NULL)
        fail_msg("there are no jars in %s: run `make stack-up` once, and this from the repository"
                 " root",
                 relative);
}

static pid_t spawn(const struct node *node, const char *const *argv)
{
    char path[PATH_MAX];
    pid_t parent = getpid();
    snprintf(path, sizeof path, "%s/log", node->directory);
    pid_t pid = fork();
    if (pid == 0) {
        int out = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
        int in = open("/dev/null", O_RDONLY);
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        close_range(STDERR_FILENO + 1, ~0U, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(126);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (pid < 0)
        fail_msg("fork: %s", strerror(errno));
    return pid;
}

/* java with a class and its arguments up to NULL, in the nodes' namespace. */
static pid_t start_java(const struct cluster *cluster, const struct node *node, ...)
    __attribute__((sentinel));

static pid_t start_java(const struct cluster *cluster, const struct node *node, ...)
{
    const char *argv[ARGUMENTS_MAX];
    char class_path[PATH_MAX + 8], log_settings[PATH_MAX + 64], here[PATH_MAX], data[PATH_MAX + 32];
    size_t count = 0;
    va_list rest;
    assert_non_null(getcwd(here, sizeof here - 64));
    snprintf(class_path, sizeof class_path, "%s/*", cluster->jars);
    snprintf(log_settings, sizeof log_settings,
             "-Dlog4j2.configurationFile=%.*s/docker/local/kafka/log4j2.xml", PATH_MAX - 1, here);
    snprintf(data, sizeof data, "-Djava.io.tmpdir=%s", node->directory);
    if (cluster->options.name_space != NULL) {
        argv[count++] = "ip";
        argv[count++] = "netns";
        argv[count++] = "exec";
        argv[count++] = cluster->options.name_space;
    }
    argv[count++] = "java";
    argv[count++] = "-Xms64m";
    argv[count++] = "-Xmx320m";
    /* Three of them on two cores that others need, too. */
    argv[count++] = "-XX:+UseSerialGC";
    argv[count++] = "-XX:TieredStopAtLevel=1";
    argv[count++] = "-XX:-UsePerfData";
    argv[count++] = "-Djava.awt.headless=true";
    argv[count++] = data;
    argv[count++] = log_settings;
    argv[count++] = "-cp";
    argv[count++] = class_path;
    va_start(rest, node);
    while (count < ARGUMENTS_MAX - 1 && (argv[count] = va_arg(rest, const char *)) != NULL)
        count++;
    va_end(rest);
    argv[count] = NULL;
    return spawn(node, argv);
}

/* False: still running at the end of the time. */
static bool await_exit(pid_t pid, int timeout_ms, int *status)
{
    int64_t deadline = stack_now_ms() + timeout_ms;
    pid_t ended;
    while ((ended = waitpid(pid, status, WNOHANG)) == 0 && stack_now_ms() < deadline)
        stack_sleep_ms(20);
    return ended == pid;
}

/* --- nodes --- */

static void write_properties(struct cluster *cluster, int number)
{
    const struct cluster_options *options = &cluster->options;
    const struct node *node = &cluster->nodes[number - 1];
    const char *address = options->address != NULL ? options->address : "127.0.0.1";
    const char *client = options->client_address != NULL ? options->client_address : "127.0.0.1";
    char path[PATH_MAX], line[512], listeners[256] = "";
    snprintf(path, sizeof path, "%s/server.properties", node->directory);
    FILE *in = fopen("docker/local/kafka/server.properties", "r");
    FILE *out = fopen(path, "w");
    if (in == NULL || out == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, in) != NULL)
        fputs(line, out);
    fclose(in);
    int copies = options->nodes;
    if (options->protocol != NULL)
        snprintf(listeners, sizeof listeners, ",CLIENT://%s:%d", client, node->client_port);
    /* The last line of a name is the one that counts. */
    fprintf(out,
            "node.id=%d\nlog.dirs=%s/data\n"
            "listeners=BROKER://%s:%d,CONTROLLER://127.0.0.1:%d%s\n"
            "advertised.listeners=BROKER://%s:%d%s\n"
            "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:%s\n"
            "default.replication.factor=%d\nmin.insync.replicas=%d\n"
            "offsets.topic.replication.factor=%d\ntransaction.state.log.replication.factor=%d\n"
            "transaction.state.log.min.isr=%d\nreplica.lag.time.max.ms=3000\n"
            "auto.leader.rebalance.enable=true\nleader.imbalance.check.interval.seconds=1\n"
            "leader.imbalance.per.broker.percentage=0\n"
            "controller.quorum.election.timeout.ms=500\ncontroller.quorum.fetch.timeout.ms=1000\n"
            "authorizer.class.name=\n",
            number, node->directory, address, node->port, node->controller_port, listeners, address,
            node->port, listeners, options->protocol != NULL ? options->protocol : "PLAINTEXT",
            copies, copies > 1 ? 2 : 1, copies, copies, copies > 1 ? 2 : 1);
    fprintf(out, "controller.quorum.voters=");
    for (int i = 0; i < options->nodes; i++)
        fprintf(out, "%s%d@127.0.0.1:%d", i > 0 ? "," : "", i + 1,
                cluster->nodes[i].controller_port);
    fprintf(out, "\n%s\n", options->properties != NULL ? options->properties : "");
    if (fclose(out) != 0)
        fail_msg("%s: %s", path, strerror(errno));
}

static void format_all(struct cluster *cluster)
{
    static const char cluster_id[] = "dovetailTestCluster1AA";
    pid_t pids[CLUSTER_NODES];
    for (int i = 0; i < cluster->options.nodes; i++) {
        char path[PATH_MAX];
        const char *scram = cluster->options.scram;
        snprintf(path, sizeof path, "%s/server.properties", cluster->nodes[i].directory);
        pids[i] = start_java(cluster, &cluster->nodes[i], "kafka.tools.StorageTool", "format",
                             "--cluster-id", cluster_id, "--config", path,
                             scram != NULL ? "--add-scram" : NULL, scram, NULL);
    }
    for (int i = 0; i < cluster->options.nodes; i++) {
        int status = -1;
        if (!await_exit(pids[i], START_MS, &status) || status != 0) {
            show(cluster);
            fail_msg("node %d could not be formatted", i + 1);
        }
    }
}

void cluster_revive(struct cluster *cluster, int number)
{
    char path[PATH_MAX];
    struct node *node = &cluster->nodes[number - 1];
    assert_int_equal(node->pid, 0);
    snprintf(path, sizeof path, "%s/server.properties", node->directory);
    node->pid = start_java(cluster, node, "kafka.Kafka", path, NULL);
}

static void end_node(struct cluster *cluster, int number, int signal)
{
    struct node *node = &cluster->nodes[number - 1];
    int status;
    assert_true(node->pid > 0);
    kill(node->pid, signal);
    if (!await_exit(node->pid, STACK_WAIT_MS, &status)) {
        show(cluster);
        kill(node->pid, SIGKILL);
        waitpid(node->pid, &status, 0);
        node->pid = 0;
        fail_msg("node %d does not end", number);
    }
    node->pid = 0;
}

void cluster_kill(struct cluster *cluster, int node)
{
    end_node(cluster, node, SIGKILL);
}

void cluster_shut_down(struct cluster *cluster, int node)
{
    end_node(cluster, node, SIGTERM);
}

/* --- asking --- */

static void nodes_must_run(struct cluster *cluster)
{
    for (int i = 0; i < cluster->options.nodes; i++) {
        int status;
        struct node *node = &cluster->nodes[i];
        if (node->pid > 0 && waitpid(node->pid, &status, WNOHANG) == node->pid) {
            node->pid = 0;
            show(cluster);
            fail_msg("node %d ended by itself", i + 1);
        }
    }
}

static const struct rd_kafka_metadata *ask(struct cluster *cluster, const char *topic)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *handle =
        topic != NULL ? rd_kafka_topic_new(cluster->client, topic, NULL) : NULL;
    if (rd_kafka_metadata(cluster->client, 0, handle, &metadata, ASK_MS) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
        metadata = NULL;
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    return metadata;
}

static int leader_of(struct cluster *cluster, const char *topic, int partition)
{
    const struct rd_kafka_metadata *metadata = ask(cluster, topic);
    int leader = -1;
    if (metadata != NULL && metadata->topic_cnt == 1 &&
        metadata->topics[0].partition_cnt > partition)
        leader = metadata->topics[0].partitions[partition].leader;
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
    return leader;
}

int cluster_await_leader(struct cluster *cluster, const char *topic, int partition, int other)
{
    int64_t deadline = stack_now_ms() + START_MS;
    int leader;
    while ((leader = leader_of(cluster, topic, partition)) < 1 || leader == other) {
        nodes_must_run(cluster);
        if (stack_now_ms() > deadline) {
            show(cluster);
            fail_msg("%s[%d] has no leader but %d", topic, partition, leader);
        }
        stack_sleep_ms(STEP_MS);
    }
    return leader;
}

static int copies_of(struct cluster *cluster, const char *topic)
{
    const struct rd_kafka_metadata *metadata = ask(cluster, topic);
    int least = INT_MAX;
    if (metadata == NULL || metadata->topic_cnt != 1 || metadata->topics[0].partition_cnt == 0)
        least = 0;
    for (int p = 0; least > 0 && p < metadata->topics[0].partition_cnt; p++)
        if (metadata->topics[0].partitions[p].isr_cnt < least)
            least = metadata->topics[0].partitions[p].isr_cnt;
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
    return least;
}

void cluster_await_copies(struct cluster *cluster, const char *topic, int copies)
{
    int64_t deadline = stack_now_ms() + START_MS;
    while (copies_of(cluster, topic) < copies) {
        nodes_must_run(cluster);
        if (stack_now_ms() > deadline) {
            show(cluster);
            fail_msg("%s has not %d copies in sync", topic, copies);
        }
        stack_sleep_ms(STEP_MS);
    }
}

void cluster_create_unsafe(struct cluster *cluster, const char *topic)
{
    char reason[256];
    int32_t nodes[] = {1, 2};
    rd_kafka_NewTopic_t *request = rd_kafka_NewTopic_new(topic, 1, -1, reason, sizeof reason);
    rd_kafka_NewTopic_set_replica_assignment(request, 0, nodes, 2, reason, sizeof reason);
    rd_kafka_NewTopic_set_config(request, "min.insync.replicas", "1");
    rd_kafka_NewTopic_set_config(request, "unclean.leader.election.enable", "true");
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->client);
    rd_kafka_CreateTopics(cluster->client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, START_MS);
    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("topic %s was not created: %s", topic,
                 event != NULL ? rd_kafka_event_error_string(event) : "no answer");
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(request);
    rd_kafka_queue_destroy(queue);
    cluster_await_copies(cluster, topic, 2);
}

static void await_nodes(struct cluster *cluster)
{
    int64_t deadline = stack_now_ms() + START_MS;
    int found = 0;
    while (found < cluster->options.nodes) {
        const struct rd_kafka_metadata *metadata = ask(cluster, NULL);
        found = metadata != NULL ? metadata->broker_cnt : 0;
        if (metadata != NULL)
            rd_kafka_metadata_destroy(metadata);
        nodes_must_run(cluster);
        if (stack_now_ms() > deadline) {
            show(cluster);
            fail_msg("%d of %d nodes are up after %d ms", found, cluster->options.nodes, START_MS);
        }
        stack_sleep_ms(STEP_MS);
    }
}

/* --- life --- */

static struct cluster *alive; /* stopped at exit where a test did not come to it */

static void stop_at_exit(void)
{
    cluster_stop(alive);
}

static void make_client(struct cluster *cluster)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", cluster->addresses, reason, sizeof reason);
    rd_kafka_conf_set(conf, "log_level", "0", reason, sizeof reason);
    cluster->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    if (cluster->client == NULL)
        fail_msg("librdkafka: %s", reason);
}

struct cluster *cluster_start(const struct cluster_options *options, const char *directory)
{
    static bool registered;
    struct cluster *cluster = calloc(1, sizeof *cluster);
    assert_non_null(cluster);
    assert_true(options->nodes == 1 || options->nodes == CLUSTER_NODES);
    cluster->options = *options;
    alive = cluster;
    if (!registered)
        atexit(stop_at_exit);
    registered = true;
    find_jars(cluster);
    const char *comma = "";
    size_t length = 0, client_length = 0;
    for (int i = 0; i < options->nodes; i++) {
        struct node *node = &cluster->nodes[i];
        snprintf(node->directory, sizeof node->directory, "%s/node%d", directory, i + 1);
        if (mkdir(node->directory, 0700) != 0)
            fail_msg("%s: %s", node->directory, strerror(errno));
        node->port = free_port();
        node->client_port = free_port();
        node->controller_port = free_port();
        length += (size_t)snprintf(
            cluster->addresses + length, sizeof cluster->addresses - length, "%s%s:%d", comma,
            options->address != NULL ? options->address : "127.0.0.1", node->port);
        client_length += (size_t)snprintf(
            cluster->clients + client_length, sizeof cluster->clients - client_length, "%s%s:%d",
            comma, options->client_address != NULL ? options->client_address : "127.0.0.1",
            node->client_port);
        comma = ",";
    }
    for (int i = 0; i < options->nodes; i++)
        write_properties(cluster, i + 1);
    format_all(cluster);
    for (int i = 0; i < options->nodes; i++)
        cluster_revive(cluster, i + 1);
    if (getenv("DOVETAIL_KAFKA") != NULL)
        cluster->before = strdup(getenv("DOVETAIL_KAFKA"));
    setenv("DOVETAIL_KAFKA", cluster->addresses, 1);
    make_client(cluster);
    await_nodes(cluster);
    return cluster;
}

void cluster_stop(struct cluster *cluster)
{
    if (cluster == NULL)
        return;
    alive = NULL;
    for (int i = 0; i < cluster->options.nodes; i++) {
        struct node *node = &cluster->nodes[i];
        if (node->pid > 0) {
            kill(node->pid, SIGKILL);
            waitpid(node->pid, NULL, 0);
        }
    }
    if (cluster->client != NULL)
        rd_kafka_destroy(cluster->client);
    if (cluster->before != NULL)
        setenv("DOVETAIL_KAFKA", cluster->before, 1);
    free(cluster->before);
    free(cluster);
}

const char *cluster_clients(const struct cluster *cluster)
{
    return cluster->clients;
}
