/* HTTPS, with certificates that are made here: who is answered, who is not, and what is refused at
 * the start without telling anything of the files. Needs the program openssl. */
#include "tests/support/trips_fixture.h"

#include <curl/curl.h>

/* Below `directory`; certificates and keys of the server, of clients and of a strange authority. */
static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd %s; exec > openssl.log 2>&1\n"
        "authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        " -keyout $1.key -out $1.pem -subj /CN=$1; }\n"
        "sign() { name=$1 ca=$2 days=$3; shift 3\n"
        " openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key"
        " -out $name.csr -subj /CN=$name\n"
        " printf '%%s\\n' \"$@\" > $name.ext\n"
        " openssl x509 -req -in $name.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial -days $days"
        " -extfile $name.ext -out $name.pem; }\n"
        "authority ours; authority theirs\n"
        "sign server ours 2 subjectAltName=IP:127.0.0.1 extendedKeyUsage=serverAuth\n"
        "sign client ours 2 extendedKeyUsage=clientAuth\n"
        "sign plain ours 2 basicConstraints=CA:FALSE\n"
        "sign expired ours -1 extendedKeyUsage=clientAuth\n"
        "sign misused ours 2 extendedKeyUsage=serverAuth\n"
        "sign stranger theirs 2 extendedKeyUsage=clientAuth\n"
        "echo secret-canary > broken.pem\n";
    char command[4096];
    snprintf(command, sizeof command, script, directory);
    FILE *shell = popen("/bin/sh", "w");
    assert_non_null(shell);
    fputs(command, shell);
    if (pclose(shell) != 0)
        fail_msg("openssl could not make certificates: see %s/openssl.log", directory);
}

static void discard(char *data, size_t size)
{
    (void)data;
    (void)size;
}

static size_t take(char *data, size_t size, size_t count, void *context)
{
    (void)context;
    discard(data, size * count);
    return size * count;
}

/* The status of an answer, or minus curl's code where there is none. `client` NULL: no certificate;
 * `authority`: whom the client trusts. */
static int ask(const char *target, const char *authority, const char *client, long versions)
{
    char url[128];
    char paths[3][160];
    long status = 0;
    CURL *curl = curl_easy_init();
    snprintf(url, sizeof url, "https://127.0.0.1:%d%s", port, target);
    snprintf(paths[0], sizeof paths[0], "%s/%s.pem", directory, authority);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, paths[0]);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, versions);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 30000L);
    if (client != NULL) {
        snprintf(paths[1], sizeof paths[1], "%s/%s.pem", directory, client);
        snprintf(paths[2], sizeof paths[2], "%s/%s.key", directory, client);
        curl_easy_setopt(curl, CURLOPT_SSLCERT, paths[1]);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, paths[2]);
    }
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    return code == CURLE_OK ? (int)status : -(int)code;
}

static void test_https(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/views", "ours", NULL, CURL_SSLVERSION_DEFAULT), 200);
    assert_int_equal(
        ask("/v1/views/by_route/rows?limit=300", "ours", NULL, CURL_SSLVERSION_TLSv1_3), 200);
    assert_int_equal(
        ask("/v1/views", "ours", NULL, CURL_SSLVERSION_TLSv1_2 | CURL_SSLVERSION_MAX_TLSv1_2), 200);
    assert_int_equal(ask("/v1/views", "theirs", NULL, CURL_SSLVERSION_DEFAULT),
                     -CURLE_PEER_FAILED_VERIFICATION);
    assert_in_range(
        -ask("/v1/views", "ours", NULL, CURL_SSLVERSION_TLSv1_0 | CURL_SSLVERSION_MAX_TLSv1_1), 1,
        100);
    /* Who does not speak TLS gets no answer. */
    struct reply reply = get("/livez");
    assert_int_equal(reply.status, 0);
    assert_null(strstr(reply.text, "HTTP/"));
    free(reply.text);
}

static void test_client_certificates(void **state)
{
    (void)state;
    more_settings = "{\"tls_certificate\":\"server.pem\",\"tls_key\":\"server.key\","
                    "\"tls_client_ca\":\"ours.pem\"}";
    restart_server();
    assert_int_equal(ask("/v1/views", "ours", "client", CURL_SSLVERSION_DEFAULT), 200);
    assert_int_equal(ask("/v1/views", "ours", "plain", CURL_SSLVERSION_DEFAULT), 200);
    static const char *const refused[] = {NULL, "expired", "misused", "stranger"};
    static const char *const targets[] = {"/v1/views", "/livez", "/", "/v1/views/by_route/rows",
                                          "/nothing"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        for (size_t t = 0; t < sizeof targets / sizeof targets[0]; t++) {
            int status = ask(targets[t], "ours", refused[i], CURL_SSLVERSION_DEFAULT);
            if (status != 403)
                fail_msg("%s as %s: %d", targets[t], refused[i] != NULL ? refused[i] : "nobody",
                         status);
        }
}

/* What it writes to stderr until it ends, or listens. */
static int try_settings(const char *settings, char *output, size_t size)
{
    char program[512];
    char config[128];
    int pipes[2];
    const char *build = getenv("DOVETAIL_BUILD");
    snprintf(program, sizeof program, "%s/dovetail-serving", build != NULL ? build : "build");
    snprintf(config, sizeof config, "%s/other.json", directory);
    more_settings = settings;
    write_config(config);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        execl(program, program, "--config", config, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    size_t length = 0;
    for (ssize_t got; (got = stack_read(pipes[0], output + length, size - 1 - length)) > 0;) {
        length += (size_t)got;
        output[length] = '\0';
        if (strstr(output, "listening") != NULL)
            kill(child, SIGTERM);
    }
    output[length] = '\0';
    close(pipes[0]);
    int status = stack_reap(child, "dovetail-serving");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_files_that_will_not_do(void **state)
{
    (void)state;
    static const struct {
        const char *certificate, *key, *client_ca, *word;
    } cases[] = {
        {"nothing.pem", "server.key", "ours.pem", "serving.tls_certificate: the file cannot"},
        {"server.pem", "nothing.pem", "ours.pem", "serving.tls_key: the file cannot"},
        {"server.pem", "client.key", "ours.pem", "serving.tls_certificate, serving.tls_key: "},
        {"broken.pem", "server.key", "ours.pem", "serving.tls_certificate, serving.tls_key: "},
        {"server.pem", "broken.pem", "ours.pem", "serving.tls_certificate, serving.tls_key: "},
        {"server.pem", "server.key", "broken.pem", "serving.tls_client_ca: "},
        {"/dev/null", "server.key", "ours.pem", "serving.tls_certificate: the file is empty"},
        {"server.pem", "/dev/zero", "ours.pem", "serving.tls_key: the file is empty, too large"},
        /* A file's content where its path is meant: nothing of it is told. */
        {"server.pem", "${file:broken.pem}", "ours.pem", "serving.tls_key: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char settings[512];
        char output[8192];
        snprintf(settings, sizeof settings,
                 "{\"tls_certificate\":\"%s\",\"tls_key\":\"%s\",\"tls_client_ca\":\"%s\"}",
                 cases[i].certificate, cases[i].key, cases[i].client_ca);
        int code = try_settings(settings, output, sizeof output);
        if (code != 2 || strstr(output, cases[i].word) == NULL ||
            strstr(output, "listening") != NULL || strstr(output, "canary") != NULL)
            fail_msg("%s: %d %s", settings, code, output);
    }
}

static int set_up_with_tls(void **state)
{
    if (mkdtemp(directory) == NULL)
        return -1;
    make_certificates();
    more_settings = "{\"tls_certificate\":\"server.pem\",\"tls_key\":\"server.key\"}";
    return set_up(state);
}

static int tear_down_with_tls(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -f %s/*", directory);
    int removed = system(command);
    return tear_down(state) == 0 && removed == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_https),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_files_that_will_not_do),
    };
    return cmocka_run_group_tests(tests, set_up_with_tls, tear_down_with_tls);
}
