/* Sketches and sets, whose bytes have the most in them to be damaged: see state.c. */
#include "tests/fuzz/state.h"

static const char *const texts[] = {
    "approx_count_distinct(i)",
    "approx_count_distinct(s)",
    "approx_percentile(i, 0.5)",
    "approx_percentile(d, 0.99)",
    "approx_percentile(d, 0, 0.1)",
    "approx_percentile(i % 1000, 1, 0.0001)",
    "histogram(i, [-100, 0, 100])",
    "histogram(d, [0.5])",
    "count(DISTINCT i)",
    "count(DISTINCT d, 3)",
    "count(DISTINCT s, 12)",
    "count(DISTINCT at)",
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    state_init(texts, sizeof texts / sizeof texts[0]);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    state_check_input(data, size);
    return 0;
}
