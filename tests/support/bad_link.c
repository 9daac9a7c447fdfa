/* Two TUN devices and a relay: see bad_link.h. */
#include "tests/support/bad_link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { PACKET_BYTES = 2048, QUEUE_PACKETS = 8192, SIDES = 2 };

struct packet {
    int64_t due_ms;
    ssize_t length;
    char data[PACKET_BYTES];
};

/* Packets on their way, in the order of their times: the delay is the same for all. */
struct queue {
    struct packet *items;
    size_t first, count;
};

struct bad_link {
    char name[12]; /* of the namespace, and the beginning of the devices' */
    char address[24], good_address[24];
    int tuns[SIDES]; /* here, there */
    int delay_ms, loss_permille;
    uint64_t random;
    struct queue queues[SIDES]; /* from each side */
    pthread_t relay;
    bool has_relay;
    atomic_bool stop;
    atomic_llong passed, lost;
};

/* --- the relay --- */

static void take(struct bad_link *link, int side)
{
    struct queue *queue = &link->queues[side];
    struct packet *packet = &queue->items[(queue->first + queue->count) % QUEUE_PACKETS];
    packet->length = read(link->tuns[side], packet->data, sizeof packet->data);
    if (packet->length <= 0)
        return;
    if (queue->count == QUEUE_PACKETS - 1 ||
        orders_below(&link->random, 1000) < (size_t)link->loss_permille) {
        atomic_fetch_add(&link->lost, 1);
        return;
    }
    packet->due_ms = stack_now_ms() + link->delay_ms;
    queue->count++;
}

/* Milliseconds until the next one is due; -1: there is none. */
static int pass(struct bad_link *link, int side)
{
    struct queue *queue = &link->queues[side];
    while (queue->count > 0) {
        const struct packet *packet = &queue->items[queue->first];
        int64_t left_ms = packet->due_ms - stack_now_ms();
        if (left_ms > 0)
            return (int)left_ms;
        if (write(link->tuns[1 - side], packet->data, (size_t)packet->length) == packet->length)
            atomic_fetch_add(&link->passed, 1);
        queue->first = (queue->first + 1) % QUEUE_PACKETS;
        queue->count--;
    }
    return -1;
}

static void *relay(void *context)
{
    struct bad_link *link = context;
    struct pollfd polls[SIDES] = {{.fd = link->tuns[0], .events = POLLIN},
                                  {.fd = link->tuns[1], .events = POLLIN}};
    while (!atomic_load(&link->stop)) {
        int timeout_ms = 100;
        for (int side = 0; side < SIDES; side++) {
            int left_ms = pass(link, side);
            if (left_ms >= 0 && left_ms < timeout_ms)
                timeout_ms = left_ms;
        }
        if (poll(polls, SIDES, timeout_ms) <= 0)
            continue;
        for (int side = 0; side < SIDES; side++)
            if ((polls[side].revents & POLLIN) != 0)
                take(link, side);
    }
    return NULL;
}

/* --- devices --- */

struct opening {
    const char *device;
    const char *name_space; /* NULL: ours */
    int fd;
    int problem;
};

/* In a thread of its own, which belongs to the namespace from then on. */
static void *open_tun(void *context)
{
    struct opening *opening = context;
    char path[64];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    opening->fd = -1;
    opening->problem = 0;
    if (opening->name_space != NULL) {
        snprintf(path, sizeof path, "/var/run/netns/%s", opening->name_space);
        int there = open(path, O_RDONLY | O_CLOEXEC);
        bool good = there >= 0 && setns(there, CLONE_NEWNET) == 0;
        opening->problem = good ? 0 : errno;
        if (there >= 0)
            close(there);
        if (!good)
            return NULL;
    }
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", opening->device);
    opening->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (opening->fd < 0 || ioctl(opening->fd, TUNSETIFF, &request) != 0)
        opening->problem = errno;
    return NULL;
}

static bool make_tun(struct bad_link *link, int side, const char *device, const char *name_space,
                     char *reason, unsigned size)
{
    struct opening opening = {.device = device, .name_space = name_space};
    pthread_t thread;
    if (pthread_create(&thread, NULL, open_tun, &opening) != 0)
        opening.problem = errno;
    else
        stack_join(thread, "the relay");
    link->tuns[side] = opening.fd;
    if (opening.problem != 0)
        snprintf(reason, size, "/dev/net/tun: %s", strerror(opening.problem));
    return opening.problem == 0;
}

/* A few commands of ip(8); "@" becomes the name. */
static bool configure(struct bad_link *link, const char *commands, char *reason, unsigned size)
{
    char script[2000] = "exec 2>&1; set -e; ", said[200] = "";
    size_t length = strlen(script);
    for (const char *c = commands; *c != '\0' && length < sizeof script; c++)
        length += *c == '@'
                      ? (size_t)snprintf(script + length, sizeof script - length, "%s", link->name)
                      : (size_t)snprintf(script + length, sizeof script - length, "%c", *c);
    FILE *shell = popen(script, "r");
    size_t got = shell != NULL ? fread(said, 1, sizeof said - 1, shell) : 0;
    said[got] = '\0';
    bool good = shell != NULL && pclose(shell) == 0;
    if (!good)
        snprintf(reason, size, "ip: %s", said);
    return good;
}

struct bad_link *bad_link_create(int delay_ms, int loss_permille, uint64_t seed, char *reason,
                                 unsigned size)
{
    char here[IFNAMSIZ], there[IFNAMSIZ], commands[1000];
    struct bad_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        abort();
    unsigned network = (unsigned)getpid() % 200 + 20; /* 10.231.x.y: nobody's, one hopes */
    snprintf(link->name, sizeof link->name, "dvt%d", (int)(getpid() % 1000000));
    snprintf(here, sizeof here, "%sa", link->name);
    snprintf(there, sizeof there, "%sb", link->name);
    snprintf(link->address, sizeof link->address, "10.231.%u.2", network);
    snprintf(link->good_address, sizeof link->good_address, "10.231.%u.6", network);
    link->tuns[0] = link->tuns[1] = -1;
    link->delay_ms = delay_ms;
    link->loss_permille = loss_permille;
    link->random = seed;
    for (int side = 0; side < SIDES; side++) {
        link->queues[side].items = calloc(QUEUE_PACKETS, sizeof(struct packet));
        if (link->queues[side].items == NULL)
            abort();
    }
    snprintf(commands, sizeof commands,
             "ip addr add 10.231.%u.1 peer 10.231.%u.2 dev @a; ip link set @a mtu 1500 up;"
             " ip netns exec @ ip addr add 10.231.%u.2 peer 10.231.%u.1 dev @b;"
             " ip netns exec @ ip link set @b mtu 1500 up; ip netns exec @ ip link set lo up;"
             " ip link add @c type veth peer name @d netns @;"
             " ip addr add 10.231.%u.5/30 dev @c; ip link set @c up;"
             " ip netns exec @ ip addr add 10.231.%u.6/30 dev @d;"
             " ip netns exec @ ip link set @d up",
             network, network, network, network, network, network);
    if (!configure(link, "ip netns add @", reason, size) ||
        !make_tun(link, 0, here, NULL, reason, size) ||
        !make_tun(link, 1, there, link->name, reason, size) ||
        !configure(link, commands, reason, size)) {
        bad_link_destroy(link);
        return NULL;
    }
    link->has_relay = pthread_create(&link->relay, NULL, relay, link) == 0;
    return link;
}

void bad_link_destroy(struct bad_link *link)
{
    char ignored[200];
    if (link == NULL)
        return;
    atomic_store(&link->stop, true);
    if (link->has_relay)
        stack_join(link->relay, "the relay");
    for (int side = 0; side < SIDES; side++) {
        if (link->tuns[side] >= 0)
            close(link->tuns[side]);
        free(link->queues[side].items);
    }
    (void)configure(link, "ip link del @c || true; ip netns del @", ignored, sizeof ignored);
    free(link);
}

const char *bad_link_name_space(const struct bad_link *link)
{
    return link->name;
}

const char *bad_link_address(const struct bad_link *link)
{
    return link->address;
}

const char *bad_link_good_address(const struct bad_link *link)
{
    return link->good_address;
}

int64_t bad_link_passed(const struct bad_link *link)
{
    return atomic_load(&link->passed);
}

int64_t bad_link_lost(const struct bad_link *link)
{
    return atomic_load(&link->lost);
}
