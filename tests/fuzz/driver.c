/* Runs one fuzz target without libFuzzer: every input of its corpus, then mutations of them, always
 * the same ones unless DOVETAIL_SEED says otherwise.
 *
 *     <target> [-n COUNT] [FILE | DIRECTORY]...
 *
 * Without arguments it takes tests/fuzz/corpus/<target> and 10,000 mutations; with arguments only
 * these inputs and COUNT mutations, by default none. Prints the result as cmocka's programs do, for
 * tests/run.sh. Where a sanitizer or a check of the target ends the process, the input is written
 * to the working directory as fault-<target>, and its name is printed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { MUTATIONS = 10000, INPUT_MAX_BYTES = 1 << 16, CHANGES_MAX = 6 };

struct input {
    uint8_t *data;
    size_t length;
};

static struct input *corpus;
static size_t corpus_count;
static size_t executions;
static const char *target;
static char fault_file[4096];
static struct input current;

/* abort() counts as a fault, so that it comes to the callback. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_abort=1:allocator_may_return_null=1:detect_stack_use_after_return=1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

/* --- the fault's input --- */

static void keep_input(void)
{
    int file = open(fault_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool kept = file >= 0 && write(file, current.data, current.length) == (ssize_t)current.length;
    fprintf(stderr, "%s: this input of %zu bytes is %s %s\n", target, current.length,
            kept ? "kept in" : "not kept in", fault_file);
    if (file >= 0)
        close(file);
}

/* --- inputs --- */

static void fail_on(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(2);
}

static void add_file(const char *path)
{
    struct stat stat;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &stat) != 0)
        fail_on(path);
    size_t length = (size_t)stat.st_size;
    corpus = realloc(corpus, (corpus_count + 1) * sizeof *corpus);
    struct input input = {.data = malloc(length + 1), .length = length};
    if (corpus == NULL || input.data == NULL)
        abort();
    if (read(file, input.data, length) != (ssize_t)length)
        fail_on(path);
    close(file);
    corpus[corpus_count++] = input;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* In the order of their names, so that the mutations are the same everywhere. */
static void add_directory(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_visible, alphasort);
    if (count < 0)
        fail_on(path);
    for (int i = 0; i < count; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        add_file(file);
        free(entries[i]);
    }
    free(entries);
}

static void add_path(const char *path)
{
    struct stat stat_;
    if (stat(path, &stat_) != 0)
        fail_on(path);
    if (S_ISDIR(stat_.st_mode))
        add_directory(path);
    else
        add_file(path);
}

/* --- mutations: splitmix64 (Steele, Lea, Flood, 2014) --- */

static uint64_t random_state = 1;

static uint64_t next_random(void)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t bound)
{
    return (size_t)(next_random() % bound);
}

static void insert(struct input *input, size_t at, const uint8_t *data, size_t length)
{
    if (length > INPUT_MAX_BYTES - input->length)
        length = INPUT_MAX_BYTES - input->length;
    memmove(input->data + at + length, input->data + at, input->length - at);
    memcpy(input->data + at, data, length);
    input->length += length;
}

static void erase(struct input *input, size_t at, size_t length)
{
    memmove(input->data + at, input->data + at + length, input->length - at - length);
    input->length -= length;
}

/* A part of any input of the corpus. */
static void insert_part(struct input *input, size_t at)
{
    const struct input *other = &corpus[below(corpus_count)];
    if (other->length == 0)
        return;
    size_t from = below(other->length), length = 1 + below(other->length - from);
    if (below(2) == 0)
        length = length < 16 ? length : 16;
    insert(input, at, other->data + from, length);
}

static void mutate(struct input *input)
{
    static const uint8_t specials[] = {0,   1,   0x7F, 0x80, 0xFF, '"',  '\'', '(', ')',  '{',
                                       '}', '[', ']',  ',',  ':',  '\\', ' ',  '-', '\n', '0',
                                       '9', '.', '*',  '%',  '$',  'e',  0xC3, 0xED};
    size_t at = below(input->length + 1);
    bool inside = at < input->length;
    uint8_t byte = below(2) == 0 ? specials[below(sizeof specials)] : (uint8_t)next_random();
    switch (below(8)) {
    case 0:
        if (inside)
            input->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (inside)
            input->data[at] = byte;
        break;
    case 2:
        insert(input, at, &byte, 1);
        break;
    case 3:
        if (inside)
            erase(input, at, 1 + below(below(4) == 0 ? input->length - at : 1));
        break;
    case 4:
        if (inside)
            input->data[at] = (uint8_t)(input->data[at] + (below(2) == 0 ? 1 : 255));
        break;
    case 5:
        if (inside)
            input->length = at;
        break;
    default:
        insert_part(input, at);
    }
}

/* --- running --- */

static void execute(const uint8_t *data, size_t length)
{
    /* of its exact size, so that a byte read beyond its end is found */
    current = (struct input){.data = malloc(length == 0 ? 1 : length), .length = length};
    if (current.data == NULL)
        abort();
    memcpy(current.data, data, length);
    (void)LLVMFuzzerTestOneInput(current.data, length);
    executions++;
    free(current.data);
    current = (struct input){0};
}

static void run(size_t mutations)
{
    struct input input = {.data = malloc(INPUT_MAX_BYTES)};
    if (input.data == NULL)
        abort();
    for (size_t i = 0; i < corpus_count; i++)
        execute(corpus[i].data, corpus[i].length);
    for (size_t i = 0; i < mutations; i++) {
        const struct input *seed = &corpus[below(corpus_count)];
        input.length = seed->length < INPUT_MAX_BYTES ? seed->length : INPUT_MAX_BYTES;
        memcpy(input.data, seed->data, input.length);
        for (size_t changes = 1 + below(CHANGES_MAX); changes > 0; changes--)
            mutate(&input);
        execute(input.data, input.length);
    }
    free(input.data);
}

int main(int argc, char **argv)
{
    size_t mutations = argc == 1 ? MUTATIONS : 0;
    const char *seed = getenv("DOVETAIL_SEED");
    const char *slash = strrchr(argv[0], '/');
    char directory[256];
    target = slash == NULL ? argv[0] : slash + 1;
    target += strncmp(target, "fuzz_", 5) == 0 ? 5 : 0;
    snprintf(fault_file, sizeof fault_file, "%s.fault", argv[0]);
    if (seed != NULL)
        random_state = strtoull(seed, NULL, 10);
    for (int option; (option = getopt(argc, argv, "n:")) != -1;) {
        if (option != 'n')
            return 2;
        mutations = strtoull(optarg, NULL, 10);
    }
    for (int i = optind; i < argc; i++)
        add_path(argv[i]);
    if (optind == argc) {
        snprintf(directory, sizeof directory, "tests/fuzz/corpus/%s", target);
        add_path(directory);
    }
    if (corpus_count == 0) {
        fprintf(stderr, "%s: the corpus is empty\n", target);
        return 2;
    }
    __asan_set_death_callback(keep_input);
    (void)LLVMFuzzerInitialize(&argc, &argv);
    run(mutations);
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i].data);
    printf("%s: %zu inputs of the corpus and %zu mutations (DOVETAIL_SEED=%s)\n", target,
           corpus_count, executions - corpus_count, seed != NULL ? seed : "1");
    printf("[  PASSED  ] 1 test(s).\n");
    free(corpus);
    return 0;
}
