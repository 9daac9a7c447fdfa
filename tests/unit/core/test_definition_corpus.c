/* The loader and the JSON Schemas in schemas/meta come to the same verdict about every definition:
 * those of tests/data/definitions, and each good one of them with one key or value changed.
 *
 * Whatever the schemas refuse, the loader refuses; whatever the loader refuses, the schemas refuse,
 * but for what JSON Schema cannot express (`expected` says so of each bad file, `beyond` lists it
 * for changes). A fault names the file, and the key that is wrong.
 *
 * Needs Debian's python3-jsonschema. The program runs in the repository's root, as make does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/definitions/definition.h"

#define CORPUS "tests/data/definitions"

enum { CASES_MAX = 3000, NAME_BYTES = 300, PATH_BYTES = 1024 };

/* One definition: a file of the folder that is loaded, and the verdicts about it. */
struct entry {
    char file[300];    /* "views/x.json" */
    char path[120];    /* of a change: where it is, such as "window.size" */
    char renamed[120]; /* the same with the new key */
    char what[40];     /* of a change */
    char *loader;      /* the fault; NULL: none */
    char *schema;
};

static struct entry entries[CASES_MAX];
static size_t entry_count;
static struct error error;
static char folder[] = "/tmp/dovetail-corpus-XXXXXX";

/* --- files --- */

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t length;
    if (file == NULL)
        fail_msg("%s cannot be opened", path);
    FILE *out = open_memstream(&text, &length);
    for (int c; (c = fgetc(file)) != EOF;)
        fputc(c, out);
    fclose(out);
    fclose(file);
    return text;
}

static int is_json(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".json") == 0;
}

/* Calls `visit` for each definition of a folder, in the order of names. */
static void each_file(const char *directory, void (*visit)(const char *path, const char *name))
{
    char path[PATH_BYTES];
    struct dirent **names;
    int count = scandir(directory, &names, is_json, alphasort);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]->d_name);
        visit(path, names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

static void link_into(const char *kind, const char *path, const char *name)
{
    char target[PATH_MAX], link[PATH_BYTES];
    assert_non_null(realpath(path, target));
    snprintf(link, sizeof link, "%s/%s/%s", folder, kind, name);
    assert_int_equal(symlink(target, link), 0);
}

static void remove_file(const char *path, const char *name)
{
    (void)name;
    unlink(path);
}

static void empty_folder(const char *kind)
{
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, kind);
    if (access(path, F_OK) == 0) {
        struct dirent **names;
        int count = scandir(path, &names, is_json, alphasort);
        for (int i = 0; i < count; i++)
            free(names[i]);
        free(names);
        if (count > 0)
            each_file(path, remove_file);
        rmdir(path);
    }
}

static void new_folder(const char *kind)
{
    char path[PATH_BYTES];
    empty_folder(kind);
    snprintf(path, sizeof path, "%s/%s", folder, kind);
    assert_int_equal(mkdir(path, 0700), 0);
}

/* Good files come first, whatever their names. */
static void add_good_source(const char *path, const char *name)
{
    char first[NAME_BYTES];
    snprintf(first, sizeof first, "0-%s", name);
    link_into("sources", path, first);
}

static void add_good_view(const char *path, const char *name)
{
    char first[NAME_BYTES];
    snprintf(first, sizeof first, "0-%s", name);
    link_into("views", path, first);
}

static struct entry *add_entry(const char *kind, const char *name)
{
    assert_true(entry_count < CASES_MAX);
    struct entry *entry = &entries[entry_count++];
    *entry = (struct entry){0};
    snprintf(entry->file, sizeof entry->file, "%s/%s", kind, name);
    return entry;
}

/* --- verdicts --- */

static struct entry *find_entry(const char *file, size_t length)
{
    for (size_t i = 0; i < entry_count; i++)
        if (strlen(entries[i].file) == length && memcmp(entries[i].file, file, length) == 0)
            return &entries[i];
    return NULL;
}

static void note_fault(const char *text, void *context)
{
    (void)context;
    const char *end = strstr(text, ": ");
    struct entry *entry = end == NULL ? NULL : find_entry(text, (size_t)(end - text));
    if (entry == NULL)
        fail_msg("a fault of no file, or of a good one: %s", text);
    assert_null(entry->loader);
    entry->loader = strdup(end + 2);
}

static void ask_loader(void)
{
    struct definitions definitions;
    enum status status = definitions_load(folder, &definitions, note_fault, NULL, &error);
    if (status != STATUS_OK && status != STATUS_REJECT)
        fail_msg("%s", error.text);
    definitions_deinit(&definitions);
}

/* Of the files of one kind. */
static void ask_schema(const char *schema, const char *kind)
{
    char command[PATH_BYTES * 2], line[2000];
    snprintf(command, sizeof command,
             "cd %s && find %s -name '[!0]*.json' -print0 | xargs -0 -r -n 10000 /usr/bin/python3"
             " \"$OLDPWD/tests/support/schema_verdicts.py\" \"$OLDPWD/%s\"",
             folder, kind, schema);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    while (fgets(line, sizeof line, out) != NULL) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        struct entry *entry = find_entry(line, (size_t)(tab - line));
        assert_non_null(entry);
        tab[strlen(tab) - 1] = '\0';
        free(entry->schema);
        entry->schema = strdup(tab + 1);
    }
    if (pclose(out) != 0)
        fail_msg("the schemas could not be asked: Debian's package python3-jsonschema is needed");
    for (size_t i = 0; i < entry_count; i++)
        if (strncmp(entries[i].file, kind, strlen(kind)) == 0 && entries[i].schema == NULL)
            fail_msg("%s: the schema has no verdict", entries[i].file);
}

static void forget_entries(void)
{
    for (size_t i = 0; i < entry_count; i++) {
        free(entries[i].loader);
        free(entries[i].schema);
    }
    entry_count = 0;
}

/* --- the files of the corpus --- */

static void add_source(const char *path, const char *name)
{
    add_entry("sources", name);
    link_into("sources", path, name);
}

static void add_view(const char *path, const char *name)
{
    add_entry("views", name);
    link_into("views", path, name);
}

static void ask_both(void)
{
    ask_loader();
    ask_schema("schemas/meta/source.schema.json", "sources");
    ask_schema("schemas/meta/view.schema.json", "views");
}

static void test_good_definitions(void **state)
{
    (void)state;
    size_t wrong = 0;
    new_folder("sources");
    new_folder("views");
    each_file(CORPUS "/good/sources", add_source);
    each_file(CORPUS "/good/views", add_view);
    ask_both();
    for (size_t i = 0; i < entry_count; i++) {
        if (entries[i].loader == NULL && entries[i].schema[0] == '\0')
            continue;
        wrong++;
        print_error("%s: loader: %s; schema: %s\n", entries[i].file,
                    entries[i].loader == NULL ? "" : entries[i].loader, entries[i].schema);
    }
    forget_entries();
    assert_int_equal(wrong, 0);
}

/* A line of `expected`: the file, who refuses it, and how the fault begins. */
static bool check_line(char *line, size_t *seen)
{
    char file[80], who[16];
    int end = 0;
    if (line[0] == '#' || line[0] == '\0')
        return true;
    if (sscanf(line, "%79s %15s %n", file, who, &end) != 2)
        fail_msg("expected: %s", line);
    struct entry *entry = find_entry(file, strlen(file));
    if (entry == NULL)
        fail_msg("expected names %s, which is not there", file);
    ++*seen;
    const char *fault = entry->loader == NULL ? "nothing" : entry->loader;
    bool begins = strncmp(fault, line + end, strlen(line + end)) == 0;
    bool refused = entry->schema[0] != '\0';
    if (begins && (strcmp(who, "text") == 0 || refused == (strcmp(who, "schema") == 0)))
        return true;
    print_error("%s: wants %s, %s\n    loader: %s\n    schema: %s\n", file, who, line + end, fault,
                entry->schema);
    return false;
}

static void test_bad_definitions(void **state)
{
    (void)state;
    size_t seen = 0, wrong = 0;
    new_folder("sources");
    new_folder("views");
    each_file(CORPUS "/good/sources", add_good_source);
    each_file(CORPUS "/good/views", add_good_view);
    each_file(CORPUS "/bad/sources", add_source);
    each_file(CORPUS "/bad/views", add_view);
    ask_both();
    char *expected = read_all(CORPUS "/bad/expected"), *next = expected;
    for (char *line; (line = strsep(&next, "\n")) != NULL;)
        wrong += !check_line(line, &seen);
    free(expected);
    assert_int_equal(seen, entry_count);
    forget_entries();
    assert_int_equal(wrong, 0);
}

/* --- changes of good definitions --- */

static json_t *original; /* the definition that is changed */
static const char *changed_kind;

static void write_change(const char *what, const char *path, const char *renamed, const char *text)
{
    char name[40], target[PATH_BYTES];
    snprintf(name, sizeof name, "change-%05zu.json", entry_count);
    struct entry *entry = add_entry(changed_kind, name);
    snprintf(entry->what, sizeof entry->what, "%s", what);
    snprintf(entry->path, sizeof entry->path, "%s", path);
    snprintf(entry->renamed, sizeof entry->renamed, "%s", renamed);
    snprintf(target, sizeof target, "%s/%s", folder, entry->file);
    FILE *file = fopen(target, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void put_change(const char *what, const char *path, const char *renamed)
{
    char *text = json_dumps(original, JSON_ENCODE_ANY);
    assert_non_null(text);
    write_change(what, path, renamed, text);
    free(text);
}

static void join(char *out, size_t size, const char *path, const char *key)
{
    snprintf(out, size, "%s%s%s", path, path[0] == '\0' ? "" : ".", key);
}

/* jansson has no object with two equal keys: a placeholder is replaced in the text. */
static void put_duplicate(json_t *object, const char *key, const char *path)
{
    json_object_set(object, "@@", json_object_get(object, key));
    char *text = json_dumps(original, 0), *at = strstr(text, "\"@@\"");
    assert_non_null(at);
    char *doubled = NULL;
    size_t length;
    FILE *out = open_memstream(&doubled, &length);
    fprintf(out, "%.*s\"%s\"%s", (int)(at - text), text, key, at + 4);
    fclose(out);
    write_change("key twice", path, path, doubled);
    free(doubled);
    free(text);
    json_object_del(object, "@@");
}

static json_t *other_value(size_t which)
{
    static const char *const texts[] = {"null",  "true",    "0",  "1.5",     "\"\"",
                                        "\"x\"", "\"1 x\"", "[]", "[\"x\"]", "{}"};
    return which < sizeof texts / sizeof texts[0] ? json_loads(texts[which], JSON_DECODE_ANY, NULL)
                                                  : NULL;
}

/* Renamed members stay where they are: the order of derived fields has a meaning. */
static void put_renamed(json_t *object, const char *key, const char *new_key, const char *path,
                        const char *parent)
{
    json_t *copy = json_copy(object);
    char renamed[120];
    const char *name;
    json_t *value;
    join(renamed, sizeof renamed, parent, new_key);
    json_object_clear(object);
    json_object_foreach (copy, name, value)
        json_object_set(object, strcmp(name, key) == 0 ? new_key : name, value);
    put_change("key renamed", path, renamed);
    json_object_clear(object);
    json_object_update(object, copy);
    json_decref(copy);
}

static void change_all(json_t *value, const char *path);

static void change_member(json_t *object, const char *key, const char *parent)
{
    char path[120], new_key[100];
    json_t *value = json_incref(json_object_get(object, key)), *other;
    join(path, sizeof path, parent, key);
    for (size_t i = 0; (other = other_value(i)) != NULL; i++) {
        json_object_set_new(object, key, other);
        put_change("other value", path, path);
    }
    json_object_set(object, key, value);
    put_duplicate(object, key, path);
    snprintf(new_key, sizeof new_key, "%.80sx", key);
    put_renamed(object, key, new_key, path, parent);
    if (key[0] >= 'a' && key[0] <= 'z') {
        snprintf(new_key, sizeof new_key, "%c%s", key[0] - 'a' + 'A', key + 1);
        put_renamed(object, key, new_key, path, parent);
    }
    change_all(value, path);
    json_decref(value);
}

static void change_object(json_t *object, const char *path)
{
    json_t *copy = json_copy(object);
    char unknown[120];
    const char *key;
    json_t *value;

    json_object_foreach (copy, key, value)
        change_member(object, key, path);
    json_object_foreach (copy, key, value) {
        char gone[120];
        join(gone, sizeof gone, path, key);
        json_object_del(object, key);
        put_change("key removed", gone, gone);
        json_object_clear(object);
        json_object_update(object, copy);
    }
    static const char *const added[] = {"unknown", "Unknown", "$schema", "description"};
    for (size_t i = 0; i < 4; i++) {
        if (json_object_get(copy, added[i]) != NULL)
            continue;
        join(unknown, sizeof unknown, path, added[i]);
        json_object_set_new(object, added[i], json_string("x"));
        put_change("key added", unknown, unknown);
        json_object_set_new(object, added[i], json_integer(1));
        put_change("key added", unknown, unknown);
        json_object_del(object, added[i]);
    }
    json_decref(copy);
}

static void change_array(json_t *array, const char *path)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        char place[120];
        json_t *value = json_incref(json_array_get(array, i)), *other;
        snprintf(place, sizeof place, "%s[%zu]", path, i);
        for (size_t k = 0; (other = other_value(k)) != NULL; k++) {
            json_array_set_new(array, i, other);
            put_change("other value", place, place);
        }
        json_array_set(array, i, value);
        change_all(value, place);
        json_array_remove(array, i);
        put_change("member removed", path, path);
        json_array_insert(array, i, value);
        json_array_insert(array, i, value);
        put_change("member twice", path, path);
        json_array_remove(array, i);
        json_decref(value);
    }
}

static void change_all(json_t *value, const char *path)
{
    if (json_is_object(value))
        change_object(value, path);
    else if (json_is_array(value))
        change_array(value, path);
}

/* What JSON Schema cannot express: names that refer to others, types of expressions, sums of
 * counts, the reader's own faults, 1.0 that is an integer for it. */
static bool is_beyond_schema(const char *fault)
{
    static const char *const beyond[] = {
        "column ",
        "there is no field",
        "there is no source",
        "the view has no key",
        " is taken",
        "is the topic",
        "differs from",
        "does not go with",
        "is never NULL",
        "is of type",
        "is the event's time",
        "has the path of",
        "there is a field of that name",
        "duplicate object key",
    };
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++)
        if (strstr(fault, beyond[i]) != NULL)
            return true;
    return false;
}

/* Names and topics that another file has: the definition itself is good. */
static bool is_accepted(const char *fault)
{
    return fault == NULL || strstr(fault, "is defined twice") != NULL ||
           strstr(fault, "has the topic already") != NULL;
}

/* One is the other, or what it is in. */
static bool paths_meet(const char *a, const char *b)
{
    for (; *a != '\0' && *a == *b; a++, b++)
        continue;
    return (*a == '\0' || *a == '.' || *a == '[') && (*b == '\0' || *b == '.' || *b == '[');
}

/* The keys that a fault begins with, "mask: fields[1]: ...", as a path. */
static void path_of_fault(const char *fault, char *out, size_t size)
{
    out[0] = '\0';
    for (size_t length; (length = strspn(fault, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                                                "WXYZ0123456789_$.[]")) > 0 &&
                        fault[length] == ':';
         fault += length + 2) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%.*s", used == 0 ? "" : ".", (int)length, fault);
    }
}

static size_t check_change(const struct entry *entry)
{
    char path[200];
    bool refused = entry->schema[0] != '\0', accepted = is_accepted(entry->loader);
    const char *problem = NULL;
    if (accepted && refused)
        problem = "only the schema refuses it";
    else if (!accepted && !refused && !is_beyond_schema(entry->loader))
        problem = "only the loader refuses it";
    if (!accepted && refused && problem == NULL && strstr(entry->loader, "line ") == NULL) {
        path_of_fault(entry->loader, path, sizeof path);
        if (path[0] == '\0' ||
            (!paths_meet(path, entry->path) && !paths_meet(path, entry->renamed)))
            problem = "the fault names another key";
    }
    if (problem == NULL)
        return 0;
    print_error("%s: %s: %s\n    loader: %s\n    schema: %s\n", entry->what, entry->path, problem,
                entry->loader == NULL ? "" : entry->loader, entry->schema);
    return 1;
}

static size_t wrong_changes, all_changes, refused_changes;

static void check_changes(const char *path, const char *schema)
{
    size_t wrong = 0;
    new_folder("sources");
    new_folder("views");
    each_file(CORPUS "/good/sources", add_good_source);
    original = json_load_file(path, 0, NULL);
    assert_non_null(original);
    json_t *before = json_deep_copy(original);
    change_all(original, "");
    assert_true(json_equal(original, before));
    ask_loader();
    ask_schema(schema, changed_kind);
    for (size_t i = 0; i < entry_count; i++) {
        wrong += check_change(&entries[i]);
        refused_changes += !is_accepted(entries[i].loader);
    }
    if (wrong > 0)
        print_error("in %s\n", path);
    all_changes += entry_count;
    wrong_changes += wrong;
    forget_entries();
    json_decref(before);
    json_decref(original);
}

static void change_source(const char *path, const char *name)
{
    (void)name;
    changed_kind = "sources";
    check_changes(path, "schemas/meta/source.schema.json");
}

static void change_view(const char *path, const char *name)
{
    (void)name;
    changed_kind = "views";
    check_changes(path, "schemas/meta/view.schema.json");
}

static void test_changed_definitions(void **state)
{
    (void)state;
    each_file(CORPUS "/good/sources", change_source);
    each_file(CORPUS "/good/views", change_view);
    print_message("%zu changes, %zu of them faults\n", all_changes, refused_changes);
    assert_int_equal(wrong_changes, 0);
    assert_true(refused_changes * 2 > all_changes && refused_changes < all_changes);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    empty_folder("sources");
    empty_folder("views");
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_definitions),
        cmocka_unit_test(test_bad_definitions),
        cmocka_unit_test(test_changed_definitions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
