/* What the process takes of memory. Main thread. */
#ifndef DOVETAIL_BATCH_MEMORY_H
#define DOVETAIL_BATCH_MEMORY_H

#include <stdint.h>

/* At the start of the program: what is freed goes back to the system, so that the stages of a run,
 * one after the other, do not need the sum of what each needs. */
void memory_return_what_is_freed(void);

/* From now on the peak is counted anew, where the kernel permits it; else it is the process's. */
void memory_begin_peak(void);
/* The largest resident size since; 0: not known. */
int64_t memory_peak_bytes(void);

#endif
