/* dovetail token new: a secret that lets its bearer ask dovetail-serving.
 *
 * Stdout gets the token, which is shown this once, and the entry for serving.tokens, which has its
 * hash alone. Reads no configuration and keeps nothing. */
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "core/program/config_tokens.h"

/* TOKEN_RANDOM_BYTES as base64url without padding: RFC 4648, section 5. */
static void encode(const unsigned char *bytes, char out[TOKEN_LENGTH + 1])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t length = strlen(TOKEN_PREFIX);
    memcpy(out, TOKEN_PREFIX, length);
    for (size_t bit = 0; bit < 8 * TOKEN_RANDOM_BYTES; bit += 6) {
        size_t at = bit / 8;
        unsigned next = at + 1 < TOKEN_RANDOM_BYTES ? bytes[at + 1] : 0;
        unsigned pair = (unsigned)bytes[at] << 8 | next;
        out[length++] = digits[pair >> (10 - bit % 8) & 63];
    }
    out[length] = '\0';
}

/* `write`: a source's name, "*", or NULL. */
static json_t *make_entry(const char *name, const unsigned char hash[TOKEN_HASH_BYTES], bool admin,
                          const char *write)
{
    char hex[2 * TOKEN_HASH_BYTES + 1];
    for (size_t i = 0; i < TOKEN_HASH_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    /* One that sends need not read. */
    json_t *entry = json_pack("{s:s, s:s, s:o, s:s}", "name", name, "sha256", hex, "views",
                              write != NULL ? json_array() : json_string("*"), "role",
                              admin ? "admin" : "read");
    if (entry != NULL && write != NULL)
        (void)json_object_set_new(
            entry, "write", strcmp(write, "*") == 0 ? json_string(write) : json_pack("[s]", write));
    return entry;
}

static int make_token(const char *name, bool admin, const char *write)
{
    unsigned char bytes[TOKEN_RANDOM_BYTES];
    unsigned char hash[TOKEN_HASH_BYTES];
    char token[TOKEN_LENGTH + 1];
    struct config_token *read = NULL;
    size_t count = 0;
    struct arena arena;
    struct error error;
    if (RAND_bytes(bytes, sizeof bytes) != 1) {
        command_complain("the system gives no random numbers");
        return PROGRAM_FAILURE;
    }
    encode(bytes, token);
    if (EVP_Digest(token, TOKEN_LENGTH, hash, NULL, EVP_sha256(), NULL) != 1) {
        command_complain("SHA-256 is not available");
        return PROGRAM_FAILURE;
    }
    json_t *entry = make_entry(name, hash, admin, write);
    json_t *list = json_pack("[O]", entry);
    char *text = json_dumps(entry, JSON_COMPACT);
    arena_init(&arena);
    enum status status = config_tokens_read(list, &arena, &read, &count, &error);
    if (status == STATUS_OK && text != NULL)
        printf("token: %s\nentry: %s\n", token, text);
    arena_deinit(&arena);
    json_decref(list);
    json_decref(entry);
    free(text);
    if (status != STATUS_OK) { /* of what was given only these two can be at fault */
        command_complain(strstr(error.text, ".write") != NULL
                             ? "--write: a source's name, or '*', is expected"
                             : "NAME: 1 to 64 letters, digits, '.', '_' and '-' are expected");
        return PROGRAM_USAGE;
    }
    if (text == NULL)
        return command_fail(&(struct error){.status = STATUS_FATAL, .text = "out of memory"});
    return command_finish_output();
}

static int run(const struct program_arguments *arguments)
{
    static const struct option_spec specs[] = {
        {"--admin", false}, {"--write", true}, {NULL, false}};
    struct option_reader reader = {.next = arguments->rest, .specs = specs};
    const char *words[2] = {NULL, NULL};
    size_t count = 0;
    size_t option;
    bool admin = false;
    const char *write = NULL;
    const char *value;
    for (enum option_result found; (found = option_next(&reader, &option, &value)) != OPTION_END;) {
        if (found == OPTION_FAULT)
            return PROGRAM_USAGE;
        if (found == OPTION_FOUND && option == 1) {
            write = value;
        } else if (found == OPTION_FOUND) {
            admin = true;
        } else if (count == 2) {
            command_complain("unexpected argument: %s", value);
            return PROGRAM_USAGE;
        } else {
            words[count++] = value;
        }
    }
    if (count == 0 || strcmp(words[0], "new") != 0) {
        command_complain("usage: dovetail token new [NAME] [--admin]");
        return PROGRAM_USAGE;
    }
    return make_token(words[1] != NULL ? words[1] : "unnamed", admin, write);
}

const struct command command_token = {
    .name = "token",
    .summary = "make a token for asking dovetail-serving",
    .help =
        "usage: dovetail token new [NAME] [--admin] [--write SOURCE]\n"
        "\n"
        "Prints a new random token, and the entry for serving.tokens in the configuration of\n"
        "dovetail-serving, which has the token's hash alone: the token itself is shown this\n"
        "once and kept nowhere. Give it to the one who asks; narrow \"views\" in the entry, and\n"
        "add \"rows\", where he may not see everything (docs/SECURITY.md).\n"
        "\n"
        "  --admin            may also read /metrics and /v1/status\n"
        "  --write SOURCE     may send events to this source ('*': to every one), and sees no "
        "view\n"
        "                     until \"views\" in the entry has some\n"
        "\n"
        "options of all commands:",
    .run = run,
};
