/* A bare libmicrohttpd server: what answering costs without Dovetail.
 *
 *     hello PORT THREADS FILE
 *
 * Answers every request on 127.0.0.1:PORT with the bytes of FILE as JSON, copied for each one as
 * any server must that does not send the same bytes for ever. Prints "ready"; ends with its input.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support.h"

struct body {
    char *data;
    size_t length;
};

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **seen)
{
    static char mark;
    const struct body *body = context;
    (void)url, (void)method, (void)version, (void)upload, (void)upload_bytes;
    if (*seen == NULL) { /* queued on the second call: see core/http/http.c */
        *seen = &mark;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->length, body->data, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_add_response_header(response, "Content-Type", "application/json");
    if (result == MHD_YES)
        result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static void read_body(const char *path, struct body *body)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        bench_fail("cannot read %s", path);
    long length = ftell(file);
    rewind(file);
    body->length = (size_t)length;
    body->data = malloc(body->length + 1);
    if (length < 0 || body->data == NULL ||
        fread(body->data, 1, body->length, file) != body->length)
        bench_fail("cannot read %s", path);
    fclose(file);
}

int main(int argc, char **argv)
{
    struct body body;
    if (argc != 4)
        bench_fail("usage: hello PORT THREADS FILE");
    long port = bench_number(argv[1], "PORT", 1, 65535);
    long threads = bench_number(argv[2], "THREADS", 2, 256);
    read_body(argv[3], &body);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, (uint16_t)port, NULL, NULL, answer, &body,
                         MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_THREAD_POOL_SIZE,
                         (unsigned int)threads, MHD_OPTION_CONNECTION_LIMIT, 1024U, MHD_OPTION_END);
    if (daemon == NULL)
        bench_fail("cannot listen on port %ld", port);
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    MHD_stop_daemon(daemon);
    free(body.data);
    return 0;
}
