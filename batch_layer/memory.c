/* The process's memory: see memory.h; proc(5), VmHWM and clear_refs. */
#include "batch_layer/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* glibc raises the size from which it maps memory each time such a block is freed, up to 32 MiB:
 * then arenas' blocks of 1 MiB would come from heaps, which threads do not share and which shrink
 * at their ends alone. Setting it ends that. */
enum { MAPPED_BYTES = 256 << 10 };

void memory_return_what_is_freed(void)
{
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
}

void memory_begin_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, "5", 1);
    close(fd);
}

int64_t memory_peak_bytes(void)
{
    FILE *in = fopen("/proc/self/status", "re");
    char line[256];
    long long kib = 0;
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1)
            break;
    if (in != NULL)
        fclose(in);
    return kib * 1024;
}
