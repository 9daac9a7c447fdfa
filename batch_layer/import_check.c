/* Judging imported records: see import_check.h.
 *
 * parsers[0] has the source's newest definition; each version has the parser of the definition that
 * it was registered with. Groups are only folded into to see whether that fails, and are emptied
 * whenever they have grown. */
#include "batch_layer/import_check.h"

#include <stdlib.h>
#include <string.h>

#include "core/archive/archive.h"
#include "core/groups.h"
#include "core/records/mask.h"

enum { GROUPS_BYTES_MAX = 32 << 20, EMPTY_EVERY = 4096 };

struct checked_parser {
    const struct source *source;
    struct event_parser *parser;
    struct mask *mask; /* NULL: none */
    struct event event;
    bool parsed;
};

struct checked_view {
    const char *name;
    size_t parser;
    struct groups *groups;
};

struct import_check {
    struct checked_parser *parsers;
    size_t parser_count;
    struct checked_view *views;
    size_t view_count;
    int64_t records;
};

static enum status find_parser(struct import_check *check, const struct source *source, size_t *out,
                               struct error *error)
{
    for (*out = 0; *out < check->parser_count; (*out)++)
        if (json_equal(check->parsers[*out].source->json, source->json))
            return STATUS_OK;
    struct checked_parser *parser = &check->parsers[check->parser_count++];
    parser->source = source;
    enum status status = event_parser_create(source, &parser->parser, error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = mask_create(source, &parser->mask, error);
    if (status == STATUS_OK && parser->mask != NULL)
        event_parser_mask(parser->parser, parser->mask, 0);
    return status;
}

static enum status add_view(struct import_check *check, const struct catalog_version *version,
                            struct error *error)
{
    struct checked_view *view = &check->views[check->view_count++];
    view->name = version->view->name;
    enum status status = find_parser(check, version->source, &view->parser, error);
    if (status == STATUS_OK)
        status = groups_create(version->view, &view->groups, error);
    return status;
}

enum status import_check_create(const struct catalog *catalog, const struct source *source,
                                struct import_check **out, struct error *error)
{
    size_t newest;
    struct import_check *check = calloc(1, sizeof *check);
    *out = check;
    if (check == NULL)
        return error_no_memory(error);
    check->parsers = calloc(catalog->version_count + 1, sizeof *check->parsers);
    check->views = calloc(catalog->version_count + 1, sizeof *check->views);
    enum status status =
        check->parsers == NULL || check->views == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = find_parser(check, source, &newest, error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->version_count; i++)
        if (strcmp(catalog->versions[i].source->topic, source->topic) == 0)
            status = add_view(check, &catalog->versions[i], error);
    if (status != STATUS_OK) {
        import_check_destroy(check);
        *out = NULL;
    }
    return status;
}

void import_check_destroy(struct import_check *check)
{
    if (check == NULL)
        return;
    for (size_t i = 0; i < check->parser_count; i++) {
        event_parser_destroy(check->parsers[i].parser);
        mask_destroy(check->parsers[i].mask);
    }
    for (size_t i = 0; i < check->view_count; i++)
        groups_destroy(check->views[i].groups);
    free(check->parsers);
    free(check->views);
    free(check);
}

static void note(struct import_fault *fault, const char *view, const struct error *error)
{
    struct error both = *error;
    if (fault->view_count > 0)
        error_set(&both, STATUS_REJECT, "%s; %s", fault->reason, error->text);
    snprintf(fault->reason, sizeof fault->reason, "%s", both.text);
    for (size_t i = 0; i < fault->view_count; i++)
        if (strcmp(fault->views[i], view) == 0)
            return; /* two versions of one view */
    if (fault->view_count < IMPORT_VIEWS_MAX)
        fault->views[fault->view_count++] = view;
}

static enum status try_view(struct import_check *check, struct checked_view *view, bool *good,
                            struct import_fault *fault, struct error *error)
{
    const struct checked_parser *parser = &check->parsers[view->parser];
    if (!parser->parsed)
        return STATUS_OK; /* refused by an older definition: this version's own affair */
    struct measure_origin origin = {.time_us = parser->event.time_us,
                                    .partition = ARCHIVE_IMPORTED};
    enum fold_outcome outcome;
    struct error why;
    enum status status = groups_fold(view->groups, &parser->event, &origin, &outcome, &why);
    if (status == STATUS_REJECT) {
        *good = false;
        note(fault, view->name, &why);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        *error = why;
    return status;
}

static void empty_groups(struct import_check *check)
{
    for (size_t i = 0; i < check->view_count; i++)
        if (groups_memory_bytes(check->views[i].groups) > GROUPS_BYTES_MAX)
            groups_clear(check->views[i].groups);
}

enum status import_check_record(struct import_check *check, const struct import_record *record,
                                bool *good, struct import_fault *fault, struct error *error)
{
    *good = false;
    fault->view_count = 0;
    if (record->value == NULL) {
        snprintf(fault->reason, sizeof fault->reason, "%s", record->fault);
        return STATUS_OK;
    }
    for (size_t i = 0; i < check->parser_count; i++) {
        struct checked_parser *parser = &check->parsers[i];
        struct error why;
        enum status status = event_parser_parse(parser->parser, record->value, record->length,
                                                record->length, &parser->event, &why);
        parser->parsed = status == STATUS_OK;
        if (status == STATUS_REJECT && i == 0) {
            snprintf(fault->reason, sizeof fault->reason, "%s", why.text);
            return STATUS_OK;
        }
        if (status != STATUS_OK && status != STATUS_REJECT) {
            *error = why;
            return status;
        }
    }
    *good = true;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < check->view_count; i++)
        status = try_view(check, &check->views[i], good, fault, error);
    if (++check->records % EMPTY_EVERY == 0)
        empty_groups(check);
    return status;
}
