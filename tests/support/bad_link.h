/* A link to a network namespace on which packets are delayed and lost, as on a bad long-distance
 * line: two TUN devices with a relay between them, which delays and drops packets of either
 * direction. (netem would do, where the kernel has it; many have not.) A good link leads there as
 * well. Needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN.
 *
 * Belongs to the test's main thread; the relay is a thread of its own. */
#ifndef DOVETAIL_TESTS_SUPPORT_BAD_LINK_H
#define DOVETAIL_TESTS_SUPPORT_BAD_LINK_H

#include <stdint.h>

struct bad_link;

/* `delay_ms`: of each direction; `loss_permille`: of packets; `seed`: which ones. NULL: this
 * machine does not permit it, and why is in `reason`. */
struct bad_link *bad_link_create(int delay_ms, int loss_permille, uint64_t seed, char *reason,
                                 unsigned reason_size);
/* Processes there must have ended. */
void bad_link_destroy(struct bad_link *link); /* accepts NULL */

const char *bad_link_name_space(const struct bad_link *link);
/* Addresses of the other side, by the bad link and by the good one. */
const char *bad_link_address(const struct bad_link *link);
const char *bad_link_good_address(const struct bad_link *link);

/* So far, of both directions. */
int64_t bad_link_passed(const struct bad_link *link);
int64_t bad_link_lost(const struct bad_link *link);

#endif
