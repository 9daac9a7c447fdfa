/* Kafka brokers of a test's own: one or three nodes (KRaft, each of them broker and controller) on
 * loopback, that may be killed, revived and stopped at will. Until the cluster is stopped
 * stack_kafka() is the cluster's address.
 *
 * The jars are the local stack's, so that must have been up once (docker/local/kafka.sh). Belongs
 * to the test's main thread; what goes wrong fails the test and shows the nodes' logs. Nodes die
 * with the test. */
#ifndef DOVETAIL_TESTS_SUPPORT_CLUSTER_H
#define DOVETAIL_TESTS_SUPPORT_CLUSTER_H

enum { CLUSTER_NODES = 3 };

struct cluster_options {
    int nodes;              /* 1, or 3: then each record has three copies, two of them in sync */
    const char *properties; /* lines of server.properties besides; may be NULL */
    /* A second listener, CLIENT, for the programs: "SSL", "SASL_SSL"...; NULL: there is none. */
    const char *protocol;
    const char *client_address; /* where it listens; NULL: 127.0.0.1 */
    /* The namespace (`ip netns`) that the nodes live in, and where they listen for this test there;
     * NULL: ours, 127.0.0.1. */
    const char *name_space, *address;
    const char *scram; /* what kafka-storage's --add-scram takes; may be NULL */
};

struct cluster;

/* Returns when every node answers. `directory` must exist and outlive it. */
struct cluster *cluster_start(const struct cluster_options *options, const char *directory);
void cluster_stop(struct cluster *cluster); /* accepts NULL */

/* The addresses of the listener CLIENT, as "bootstrap.servers" takes them. */
const char *cluster_clients(const struct cluster *cluster);

/* Nodes count from 1. */
void cluster_kill(struct cluster *cluster, int node);      /* kill -9 */
void cluster_shut_down(struct cluster *cluster, int node); /* SIGTERM, and waits for the end */
/* Starts it again, and does not wait. */
void cluster_revive(struct cluster *cluster, int node);

/* Who leads a partition; waits for a leader other than `other` (0: any). */
int cluster_await_leader(struct cluster *cluster, const char *topic, int partition, int other);
/* Waits until so many copies of every partition of the topic are in sync. */
void cluster_await_copies(struct cluster *cluster, const char *topic, int copies);

/* A topic of one partition with copies on nodes 1 and 2 alone, each of which may lead without
 * having every record: what was acknowledged may be lost. */
void cluster_create_unsafe(struct cluster *cluster, const char *topic);

#endif
