/* Expressions: any text is parsed or refused, and what is parsed gives any record a value of its
 * type, or a refusal, and the same one again.
 *
 * Input: the text, 0, then the bytes of records. */
#include "tests/fuzz/fuzz.h"

#include "core/definitions/definition.h"

enum { RECORDS = 3 };

static struct source *source;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    source = fuzz_source(fuzz_source_json);
    return 0;
}

static void check_record(const struct expression *expression, const struct value *fields)
{
    struct arena first, second;
    struct value value, again;
    struct error error = {0};
    arena_init(&first);
    arena_init(&second);
    enum status status = expression_evaluate(expression, fields, &first, &value, &error);
    if (status == STATUS_OK) {
        fuzz_check_value(&value, expression_type(expression));
        FUZZ_CHECK(expression_evaluate(expression, fields, &second, &again, &error) == STATUS_OK,
                   "the second time: %s", error.text);
        FUZZ_CHECK(value.is_null == again.is_null &&
                       (value.is_null || value_compare(&value, &again) == 0),
                   "another value the second time");
        FUZZ_CHECK(!value.is_null || expression_is_nullable(expression, source),
                   "NULL, although it cannot be");
    } else {
        FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error.text);
        fuzz_check_refusal(status, &error);
    }
    arena_deinit(&first);
    arena_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct expression *expression = NULL;
    struct error error = {0};
    char *text = fuzz_rest(&input);
    /* definitions are JSON, so they are UTF-8 */
    if (!fuzz_is_text(text, strlen(text))) {
        free(text);
        return 0;
    }
    enum status status = expression_create(text, source, &expression, &error);
    if (status == STATUS_OK) {
        for (int i = 0; i < RECORDS; i++) {
            struct value fields[FUZZ_FIELDS];
            struct arena arena;
            arena_init(&arena);
            for (size_t f = 0; f < FUZZ_FIELDS; f++)
                fields[f] = fuzz_value(&input, source->fields[f].type, &arena);
            check_record(expression, fields);
            arena_deinit(&arena);
        }
        expression_destroy(expression);
    } else {
        fuzz_check_refusal(status, &error);
        FUZZ_CHECK(strncmp(error.text, "column ", 7) == 0, "no column: %s", error.text);
    }
    free(text);
    return 0;
}
