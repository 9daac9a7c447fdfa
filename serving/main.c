/* dovetail-serving: answers queries over HTTP.
 *
 * The main thread starts the server, waits for SIGTERM and stops it: what is being answered is
 * finished, then the program exits with 0. PostgreSQL being away is no reason to stop. */

#include "core/program/program.h"
#include "serving/server.h"

enum { RETURN_MEMORY_MS = 10000 };

static const char help[] =
    "Usage: dovetail-serving [--config FILE]\n"
    "\n"
    "Answers queries over HTTP, merging the batch and the speed layer, and takes events for\n"
    "Kafka where serving.ingest or a token lets it. The routes are described in\n"
    "/openapi.json. SIGTERM finishes what is being answered and exits.\n";

/* What serving.listen lets strangers do; without authentication it was asked for. */
static void warn_of_exposure(const struct config *config, const struct server *server)
{
    const char *url = http_server_url(server->http);
    if (http_server_is_loopback(server->http))
        return;
    if (config->serving_token_count == 0 && config->serving_tls_client_ca == NULL)
        program_log(LOG_WARNING,
                    "serving.allow_unauthenticated: whoever reaches %s reads every view%s", url,
                    config->serving_ingest ? ", and sends events (serving.ingest)" : "");
    else if (config->serving_tls_key == NULL)
        program_log(LOG_WARNING,
                    "serving.tls_key is not set: tokens and answers cross the network to %s as "
                    "plain text, unless a proxy or a tunnel protects them",
                    url);
}

static int serve(const struct config *config)
{
    struct error error;
    struct server *server = NULL;
    enum status status = server_start(config, &server, &error);
    if (status != STATUS_OK) {
        program_log(LOG_ERR, "%s", error.text);
        return status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE;
    }
    warn_of_exposure(config, server);
    program_log(LOG_INFO, "listening on %s", http_server_url(server->http));
    if (server->udp != NULL)
        program_log(LOG_INFO, "taking events of source %s by UDP on %s", config->serving_udp_source,
                    udp_address(server->udp));
    while (!program_wait_ms(RETURN_MEMORY_MS))
        program_return_memory(); /* large answers leave more behind than goes on */
    program_log(LOG_INFO, "stopping");
    server_stop(server);
    return PROGRAM_OK;
}

int main(int argc, char **argv)
{
    struct program_arguments arguments;
    struct config *config = NULL;
    struct error error;
    int code = PROGRAM_OK;
    if (!program_start(argc, argv, "dovetail-serving", help, &arguments, &code))
        return code;
    if (arguments.rest_count > 0) {
        program_log(LOG_ERR, "unexpected argument: %s", arguments.rest[0]);
        return PROGRAM_USAGE;
    }
    if (config_load(arguments.config_path, &config, &error) != STATUS_OK) {
        program_log(LOG_ERR, "%s", error.text);
        return PROGRAM_USAGE;
    }
    code = serve(config);
    config_destroy(config);
    return code;
}
