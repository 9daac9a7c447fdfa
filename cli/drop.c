/* dovetail drop: removes a view that has no definition file any more.
 *
 * `dovetail init` never removes a view, because a file that is missing may be a mistake. Here it is
 * said twice: by the missing file, and by --yes.
 *
 * A view goes by its name: no registered definition is parsed, so that one which this program does
 * not accept any more can be removed, too. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "core/catalog/lock_wait.h"
#include "core/catalog/migrations.h"

struct arguments {
    const char *view;
    bool confirmed;
};

static enum status drop_once(struct postgres *postgres, const char *view, struct error *error)
{
    enum status status = migrations_check(postgres, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status == STATUS_OK)
        status = catalog_lock(postgres, error);
    if (status == STATUS_OK)
        status = catalog_drop_view(postgres, view, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

static enum status drop_view(struct postgres *postgres, const char *view, struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do
        status = drop_once(postgres, view, error);
    while (lock_wait_again(&wait, postgres, status, error));
    return status;
}

static bool is_defined(const struct definitions *definitions, const char *view)
{
    for (size_t i = 0; i < definitions->view_count; i++)
        if (strcmp(definitions->views[i]->name, view) == 0)
            return true;
    return false;
}

/* Everything but the deed. */
static int check(const struct session *session, const struct arguments *arguments)
{
    struct definitions definitions = {0};
    const char *view = arguments->view;
    int code = command_load_definitions(session->config, &definitions);
    bool defined = code == PROGRAM_OK && is_defined(&definitions, view);
    definitions_deinit(&definitions);
    if (code != PROGRAM_OK)
        return code;
    if (defined) {
        command_complain(
            "view %s has a definition file in %s/views: remove that first, or the next "
            "`dovetail init` would make the view anew",
            view, session->config->schemas);
        return PROGRAM_USAGE;
    }
    if (!arguments->confirmed) {
        command_complain(
            "this removes view %s, over HTTP and in SQL, and what has been computed for"
            " it; records, archive and other views stay. Say --yes to do it",
            view);
        return PROGRAM_USAGE;
    }
    return PROGRAM_OK;
}

static bool take_option(void *context, size_t index, const char *value)
{
    (void)index;
    (void)value;
    ((struct arguments *)context)->confirmed = true;
    return true;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    struct session session = {0};
    struct error error = {0};
    static const struct option_spec specs[] = {{"--yes", false}, {NULL, false}};
    if (!option_one_view(program, specs, take_option, &arguments, &arguments.view))
        return PROGRAM_USAGE;
    int code = session_load_config(&session, program);
    if (code == PROGRAM_OK)
        code = session_connect(&session);
    if (code == PROGRAM_OK)
        code = check(&session, &arguments);
    if (code == PROGRAM_OK && drop_view(session.postgres, arguments.view, &error) != STATUS_OK)
        code = command_fail(&error);
    else if (code == PROGRAM_OK)
        printf("view %s is removed; its tables go with the next batch runs\n", arguments.view);
    session_close(&session);
    return code == PROGRAM_OK ? command_finish_output() : code;
}

const struct command command_drop = {
    .name = "drop",
    .summary = "remove a view that has no definition file any more",
    .help =
        "usage: dovetail drop VIEW --yes\n"
        "\n"
        "Removes a view whose definition file is gone: from one instant to the next it is no more\n"
        "over HTTP and in SQL, and both layers stop computing it. Batch runs then drop its "
        "tables,\n"
        "once nobody can be reading them. Refused while the file is there, and while objects in\n"
        "the database depend on dovetail.VIEW. Records, the archive and other views stay.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
