/* Configuration files: refused by name, or every option is within its bounds.
 *
 * Input: the file. */
#include "tests/fuzz/fuzz.h"

#include "core/program/config.h"
#include "core/program/config_options.h"

static const char secret[] = "xyzzy-plugh";
static int file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    file = fuzz_file_create();
    setenv("FUZZ_SECRET", secret, 1);
    return 0;
}

static void check_options(const struct config *config)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *option = &config_options[i];
        const char *at = (const char *)config + option->offset;
        if (option->type == OPTION_INTEGER || option->type == OPTION_SIZE) {
            int64_t number = *(const int64_t *)(const void *)at;
            FUZZ_CHECK(number >= option->minimum && number <= option->maximum, "%s: out of bounds",
                       option->name);
        } else if (option->type == OPTION_TOKENS) {
            FUZZ_CHECK(config->serving_token_count == 0 || config->serving_tokens != NULL,
                       "%s: counted, and not there", option->name);
        } else if (option->type != OPTION_PROPERTIES && option->type != OPTION_BOOLEAN &&
                   (option->required || option->text != NULL)) {
            FUZZ_CHECK(*(const char *const *)(const void *)at != NULL, "%s: no text", option->name);
        }
    }
    const char *name;
    json_t *value;
    json_object_foreach (config->kafka, name, value)
        FUZZ_CHECK(json_is_string(value), "kafka.%s is no string", name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct error error = {0};
    char path[64];
    fuzz_file_write(file, data, size);
    snprintf(path, sizeof path, FUZZ_FILES "/%d", file);
    enum status status = config_load(path, &config, &error);
    if (status == STATUS_OK) {
        check_options(config);
    } else {
        fuzz_check_refusal(status, &error);
        FUZZ_CHECK(strncmp(error.text, path, strlen(path)) == 0, "no file: %s", error.text);
        FUZZ_CHECK(strstr(error.text, secret) == NULL ||
                       memmem(data, size, secret, strlen(secret)) != NULL,
                   "a secret is shown: %s", error.text);
        FUZZ_CHECK(config == NULL, "refused, and there all the same");
    }
    config_destroy(config);
    return 0;
}
