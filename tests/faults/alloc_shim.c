/* A shared object, preloaded into a program under test: numbers its allocations, from 1 on, and
 * lets one of them fail, or that one and all that follow.
 *
 *   ALLOC_AT    the number of the allocation; 0: none
 *   ALLOC_MORE  set: every later one fails, too
 *   ALLOC_LOG   a file that gets the number of allocations at the program's end, and before it, at
 *               the first failure, the addresses of the callers
 *
 * Not counted are allocations of the dynamic loader; of librdkafka, which aborts the process where
 * memory is short, by design (rd_malloc): a kill -9 to everybody else; and of libpq where it takes
 * replies apart (PQgetResult), because version 15 loses count of them then and may wait for one
 * that has come; and of simdjson where it looks for the processor's instructions, once in a
 * process, in a function that may not throw and so ends it. One call after the other is counted,
 * whichever thread makes it. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

enum { FRAMES = 24, RANGES_MAX = 8 };

static struct range {
    uintptr_t from, to;
} ranges[RANGES_MAX]; /* of code that is spared */
static size_t range_count;
static long at;
static bool more, ready;
static const char *log_path;
static atomic_long count;
static __thread bool inside;

static int add_range(struct dl_phdr_info *info, size_t size, void *context)
{
    static const char *const spared[] = {"librdkafka", "ld-linux", "libgcc_s"};
    (void)size, (void)context;
    bool is_spared = false;
    for (size_t i = 0; i < sizeof spared / sizeof spared[0]; i++)
        is_spared = is_spared || strstr(info->dlpi_name, spared[i]) != NULL;
    for (int i = 0; is_spared && i < info->dlpi_phnum && range_count < RANGES_MAX; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0)
            ranges[range_count++] = (struct range){info->dlpi_addr + part->p_vaddr,
                                                   info->dlpi_addr + part->p_vaddr + part->p_memsz};
    }
    return 0;
}

static void add_function(const char *name)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *address = dlsym(RTLD_DEFAULT, name);
    if (address == NULL || range_count == RANGES_MAX ||
        dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL)
        return;
    ranges[range_count++] =
        (struct range){(uintptr_t)address, (uintptr_t)address + symbol->st_size};
}

__attribute__((constructor)) static void begin(void)
{
    void *frames[FRAMES];
    inside = true;
    (void)backtrace(frames, FRAMES); /* loads what it needs */
    dl_iterate_phdr(add_range, NULL);
    add_function("PQgetResult");
    add_function("_ZNK8simdjson8internal29available_implementation_list21detect_best_supportedEv");
    if (getenv("ALLOC_AT") != NULL)
        at = strtol(getenv("ALLOC_AT"), NULL, 10);
    more = getenv("ALLOC_MORE") != NULL;
    log_path = getenv("ALLOC_LOG");
    inside = false;
    ready = true;
}

static void note(long number, void *const *frames, int depth)
{
    char line[40];
    int fd = log_path == NULL ? -1 : open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0)
        return;
    if (depth > 0)
        backtrace_symbols_fd(frames, depth, fd);
    int length = snprintf(line, sizeof line, "%ld\n", number);
    if (write(fd, line, (size_t)length) != length)
        _exit(126);
    close(fd);
}

__attribute__((destructor)) static void end(void)
{
    ready = false;
    note(atomic_load(&count), NULL, 0);
}

static bool is_spared(void *const *frames, int depth)
{
    for (int i = 0; i < depth; i++)
        for (size_t r = 0; r < range_count; r++)
            if ((uintptr_t)frames[i] >= ranges[r].from && (uintptr_t)frames[i] < ranges[r].to)
                return true;
    return false;
}

/* True where the allocation shall fail; errno is set then. */
static bool fails(void)
{
    void *frames[FRAMES];
    if (!ready || inside)
        return false;
    inside = true;
    int depth = backtrace(frames, FRAMES);
    bool spared = is_spared(frames, depth);
    long number = spared ? 0 : atomic_fetch_add(&count, 1) + 1;
    bool failing = !spared && at > 0 && (number == at || (more && number > at));
    if (failing && number == at)
        note(number, frames, depth);
    inside = false;
    if (failing)
        errno = ENOMEM;
    return failing;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    return fails() ? NULL : __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (fails())
        return ENOMEM;
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}
