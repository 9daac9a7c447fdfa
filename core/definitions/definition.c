/* Loading all definitions of a folder: sources/ and views/, sorted by file name.
 *
 * Every file is read even after a fault, so that one run of `dovetail validate` tells all. */
#include "core/definitions/definition.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition_json.h"

enum { FILES_MAX = 10000, PATH_BYTES = 4096 };

struct loader {
    const char *directory;
    struct definitions *out;
    void (*on_fault)(const char *text, void *context);
    void *context;
    size_t fault_count;
    struct error *error;
    char **faulty; /* names of sources that were refused; owned */
    size_t faulty_count;
};

static enum status tell(struct loader *loader, enum status status)
{
    if (status == STATUS_REJECT) {
        loader->fault_count++;
        if (loader->on_fault != NULL) {
            loader->on_fault(loader->error->text, loader->context);
        }
        return STATUS_OK;
    }
    return status;
}

static enum status read_json(const char *path, const char *shown, json_t **out, struct error *error)
{
    json_error_t fault;

    *out = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
    if (*out == NULL && json_error_code(&fault) == json_error_cannot_open_file) {
        return error_set(error, STATUS_REJECT, "%s: cannot be opened: %s", shown, strerror(errno));
    }
    if (*out == NULL && fault.text[0] == '\0') {
        return error_no_memory(error);
    }
    if (*out == NULL) {
        return error_set(error, STATUS_REJECT, "%s: line %d, column %d: %s", shown, fault.line,
                         fault.column, fault.text);
    }
    return STATUS_OK;
}

static struct source *find_source(const struct definitions *definitions, const char *name)
{
    for (size_t i = 0; i < definitions->source_count; i++) {
        if (strcmp(definitions->sources[i]->name, name) == 0) {
            return definitions->sources[i];
        }
    }
    return NULL;
}

/* By its own name, else by that of its file: its views are not to be told that it is not there. */
static enum status note_fault(struct loader *loader, const json_t *json, const char *shown)
{
    const char *name = json_string_value(json_object_get(json, "source"));
    const char *stem = strrchr(shown, '/') + 1;
    size_t length = name != NULL ? strlen(name) : strlen(stem) - strlen(".json");
    char **grown = reallocarray(loader->faulty, loader->faulty_count + 1, sizeof *grown);
    if (grown == NULL) {
        return error_no_memory(loader->error);
    }
    loader->faulty = grown;
    grown[loader->faulty_count] = strndup(name != NULL ? name : stem, length);
    return grown[loader->faulty_count++] != NULL ? STATUS_OK : error_no_memory(loader->error);
}

static bool has_fault(const struct loader *loader, const char *name)
{
    for (size_t i = 0; i < loader->faulty_count; i++) {
        if (strcmp(loader->faulty[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum status add_source(struct loader *loader, json_t *json, const char *shown)
{
    struct definitions *all = loader->out;
    struct source *source;

    enum status status = source_create(json, shown, &source, loader->error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < all->source_count && status == STATUS_OK; i++) {
        const struct source *other = all->sources[i];
        if (strcmp(other->name, source->name) == 0) {
            status = error_set(loader->error, STATUS_REJECT, "%s: source: \"%s\" is defined twice",
                               shown, source->name);
        } else if (strcmp(other->topic, source->topic) == 0 ||
                   strcmp(other->dead_letter_topic, source->topic) == 0 ||
                   strcmp(other->topic, source->dead_letter_topic) == 0) {
            status =
                error_set(loader->error, STATUS_REJECT,
                          "%s: topic: source \"%s\" has the topic already", shown, other->name);
        }
    }
    if (status != STATUS_OK) {
        source_destroy(source);
        return status;
    }
    all->sources[all->source_count++] = source;
    return STATUS_OK;
}

static enum status add_view(struct loader *loader, json_t *json, const char *shown)
{
    struct definitions *all = loader->out;
    const char *name = json_string_value(json_object_get(json, "source"));
    bool is_name = name != NULL && definition_name_is_valid(name);
    const struct source *source = is_name ? find_source(all, name) : NULL;
    struct view *view;

    if (source == NULL && is_name && has_fault(loader, name)) {
        return error_set(loader->error, STATUS_REJECT,
                         "%s: cannot be checked while source \"%s\" has a fault", shown, name);
    }
    if (source == NULL && is_name) {
        return error_set(loader->error, STATUS_REJECT, "%s: source: there is no source \"%.60s\"",
                         shown, name);
    }
    enum status status = view_create(json, shown, source, &view, loader->error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < all->view_count; i++) {
        if (strcmp(all->views[i]->name, view->name) == 0) {
            view_destroy(view);
            return error_set(loader->error, STATUS_REJECT, "%s: view: \"%s\" is defined twice",
                             shown, all->views[i]->name);
        }
    }
    all->views[all->view_count++] = view;
    return STATUS_OK;
}

static int is_definition(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 &&
           strcmp(entry->d_name + length - 5, ".json") == 0;
}

/* Loads every file of one folder through `add`; *room is an array for as many. */
static enum status load_folder(struct loader *loader, const char *folder, void ***room,
                               enum status (*add)(struct loader *, json_t *, const char *))
{
    char path[PATH_BYTES];
    struct dirent **entries = NULL;
    enum status status = STATUS_OK;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", loader->directory, folder) >= sizeof path) {
        return error_set(loader->error, STATUS_REJECT, "%s: the path is too long", folder);
    }
    int count = scandir(path, &entries, is_definition, alphasort);
    if (count < 0) {
        status = error_set(loader->error, STATUS_REJECT, "%s: cannot be read: %s", path,
                           strerror(errno));
        return tell(loader, status);
    }
    *room = calloc((size_t)count + 1, sizeof(void *));
    if (*room == NULL || count > FILES_MAX) {
        status = *room == NULL ? error_no_memory(loader->error)
                               : error_set(loader->error, STATUS_FATAL, "%s: more than %d files",
                                           path, FILES_MAX);
    }
    for (int i = 0; i < count; i++) {
        char file[PATH_BYTES + 300], shown[400];
        json_t *json = NULL;
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        snprintf(shown, sizeof shown, "%s/%s", folder, entries[i]->d_name);
        if (status == STATUS_OK) {
            status = read_json(file, shown, &json, loader->error);
            status = status == STATUS_OK ? add(loader, json, shown) : status;
            bool is_faulty = status == STATUS_REJECT && add == add_source;
            status = tell(loader, status);
            status = is_faulty && status == STATUS_OK ? note_fault(loader, json, shown) : status;
            json_decref(json);
        }
        free(entries[i]);
    }
    free(entries);
    return status;
}

enum status definitions_load(const char *directory, struct definitions *out,
                             void (*on_fault)(const char *text, void *context), void *context,
                             struct error *error)
{
    struct loader loader = {.directory = directory,
                            .out = out,
                            .on_fault = on_fault,
                            .context = context,
                            .error = error};

    *out = (struct definitions){0};
    enum status status = load_folder(&loader, "sources", (void ***)&out->sources, add_source);
    status = status == STATUS_OK ? load_folder(&loader, "views", (void ***)&out->views, add_view)
                                 : status;
    for (size_t i = 0; i < loader.faulty_count; i++) {
        free(loader.faulty[i]);
    }
    free(loader.faulty);
    if (status == STATUS_OK && loader.fault_count != 0) {
        return error_set(error, STATUS_REJECT, "%s: %zu fault%s in the definitions", directory,
                         loader.fault_count, loader.fault_count == 1 ? "" : "s");
    }
    return status;
}

void definitions_deinit(struct definitions *definitions)
{
    for (size_t i = 0; i < definitions->view_count; i++) {
        view_destroy(definitions->views[i]);
    }
    for (size_t i = 0; i < definitions->source_count; i++) {
        source_destroy(definitions->sources[i]);
    }
    free(definitions->views);
    free(definitions->sources);
    *definitions = (struct definitions){0};
}
