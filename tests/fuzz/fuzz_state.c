/* States of every measure: see state.c. */
#include "tests/fuzz/state.h"
#include "tests/support/measure_texts.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    state_init(measure_texts, MEASURE_TEXTS);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    state_check_input(data, size);
    return 0;
}
