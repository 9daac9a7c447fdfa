/* The parsers and versions of each topic: see feed.h. Fails for want of memory, and for a mask's
 * key. */
#include "speed_layer/feed.h"

#include <stdlib.h>
#include <string.h>

/* The parser for a definition that reads like `source`'s, made where there is none yet. */
static enum status find_or_add_parser(struct feed *feed, const struct source *source, size_t *index,
                                      struct error *error)
{
    for (size_t i = 0; i < feed->parser_count; i++) {
        if (source_reads_alike(feed->parsers[i].source, source)) {
            *index = i;
            return STATUS_OK;
        }
    }
    struct feed_parser *parser = &feed->parsers[feed->parser_count];
    parser->source = source;
    *index = feed->parser_count++;
    enum status status = event_parser_create(source, &parser->parser, error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = mask_create(source, &parser->mask, error);
    if (status == STATUS_OK && source->mask_count > 0)
        event_parser_mask(parser->parser, parser->mask, 0);
    return status;
}

static enum status build_feed(struct feed *feed, const struct catalog *catalog,
                              const struct source *source, struct error *error)
{
    feed->source = source;
    feed->id_secret = catalog->id_secret;
    feed->parsers = calloc(catalog->version_count + 1, sizeof *feed->parsers);
    feed->versions = calloc(catalog->version_count + 1, sizeof *feed->versions);
    if (feed->parsers == NULL || feed->versions == NULL)
        return error_no_memory(error);
    size_t newest = 0;
    enum status status = find_or_add_parser(feed, source, &newest, error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = record_mask_create(source, &feed->masker, error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        if (strcmp(version->source->topic, source->topic) != 0)
            continue;
        struct feed_version *entry = &feed->versions[feed->version_count++];
        entry->version = version;
        entry->index = i;
        status = find_or_add_parser(feed, version->source, &entry->parser, error);
    }
    return status;
}

enum status feeds_create(struct catalog *catalog, struct feeds **out, struct error *error)
{
    *out = NULL;
    struct feeds *feeds = calloc(1, sizeof *feeds);
    if (feeds == NULL) {
        catalog_destroy(catalog);
        return error_no_memory(error);
    }
    feeds->catalog = catalog;
    enum status status = STATUS_OK;
    feeds->feeds = calloc(catalog->source_count + 1, sizeof *feeds->feeds);
    if (feeds->feeds == NULL)
        status = error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++)
        if (catalog_holds_topic(catalog, catalog->sources[i]->topic) == NULL)
            status = build_feed(&feeds->feeds[feeds->count++], catalog, catalog->sources[i], error);
    if (status != STATUS_OK) {
        feeds_destroy(feeds);
        return status;
    }
    *out = feeds;
    return STATUS_OK;
}

void feeds_destroy(struct feeds *feeds)
{
    if (feeds == NULL)
        return;
    for (size_t i = 0; i < feeds->count; i++) {
        struct feed *feed = &feeds->feeds[i];
        for (size_t p = 0; p < feed->parser_count; p++) {
            event_parser_destroy(feed->parsers[p].parser);
            mask_destroy(feed->parsers[p].mask);
        }
        record_mask_destroy(feed->masker);
        free(feed->parsers);
        free(feed->versions);
    }
    free(feeds->feeds);
    catalog_destroy(feeds->catalog);
    free(feeds);
}

void feed_note_masked(struct feed *feed, const char *paths_text)
{
    if (feed->masker != NULL)
        record_mask_note(feed->masker, paths_text);
    for (size_t i = 0; i < feed->parser_count; i++) {
        struct feed_parser *parser = &feed->parsers[i];
        if (parser->mask != NULL)
            event_parser_mask(parser->parser, parser->mask,
                              mask_fields_in(parser->source, paths_text));
    }
}

struct feed *feeds_find(const struct feeds *feeds, const char *topic)
{
    for (size_t i = 0; feeds != NULL && i < feeds->count; i++)
        if (strcmp(feeds->feeds[i].source->topic, topic) == 0)
            return &feeds->feeds[i];
    return NULL;
}
