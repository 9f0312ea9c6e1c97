/* SPDX-License-Identifier: Apache-2.0
 *
 * status.c - `dsmil status` and `dsmil down`: what the supervisor runs, how healthy it says it is, and its end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/cli.h"

enum { HEALTH_TIMEOUT_MS = 2000, DOWN_TIMEOUT_MS = 20000 };

void cli_service_health(const json_t *service, unsigned port, char *ret, size_t cap)
{
    const char *socket = json_string_value(json_object_get(service, "metrics_socket"));
    struct cli_http req = {.unix_path = socket, .port = port, .path = "/healthz", .timeout_ms = HEALTH_TIMEOUT_MS};
    struct cli_http_result res = {0};
    struct dbe_diag diag = {0};
    json_t *body;
    const char *status;

    if (cli_http(&req, &res, &diag) != DBE_OK) {
        snprintf(ret, cap, "no answer");
        return;
    }
    body = json_loadb((const char *)res.body.data, res.body.len, 0, NULL);
    status = json_string_value(json_object_get(body, "status"));
    snprintf(ret, cap, "%s", status != NULL ? status : "unknown");
    json_decref(body);
    base_buf_free(&res.body);
}

static void print_row(const json_t *s)
{
    double up_s = 0;
    int since = (int)json_integer_value(json_object_get(s, "started_unix"));

    if (since > 0)
        up_s = (double)base_wall_ms() / 1000.0 - since;
    printf("%-24s %6d  %-9s %-10s %7d %8.0f s %9d\n", json_string_value(json_object_get(s, "name")),
           (int)json_integer_value(json_object_get(s, "device")), json_string_value(json_object_get(s, "state")),
           json_string_value(json_object_get(s, "health")), (int)json_integer_value(json_object_get(s, "pid")), up_s,
           (int)json_integer_value(json_object_get(s, "restarts")));
}

/* Ask every service; true if all are running and healthy. */
static bool fill_health(json_t *mesh)
{
    unsigned port = (unsigned)json_integer_value(json_object_get(mesh, "port"));
    bool well = true;
    json_t *s;
    size_t i;

    json_array_foreach(json_object_get(mesh, "services"), i, s)
    {
        char health[32];
        cli_service_health(s, port, health, sizeof health);
        json_object_set_new(s, "health", json_string(health));
        well = well && strcmp(health, "healthy") == 0;
    }
    return well;
}

static int show(json_t *mesh, bool json)
{
    bool well = fill_health(mesh);
    json_t *s;
    size_t i;

    if (json) {
        json_object_set_new(mesh, "up", json_true());
        json_object_set_new(mesh, "healthy", json_boolean(well));
        int code = cli_print_json(json_incref(mesh));
        return well ? code : CLI_FAILED;
    }
    printf("mesh %s, gateway http://127.0.0.1:%d/v1, supervisor %d, model %s\n",
           json_string_value(json_object_get(mesh, "mesh")), (int)json_integer_value(json_object_get(mesh, "port")),
           (int)json_integer_value(json_object_get(mesh, "pid")), json_string_value(json_object_get(mesh, "model")));
    const char *model = json_string_value(json_object_get(mesh, "model"));
    const char *model_44 = json_string_value(json_object_get(mesh, "model_44"));
    if (model != NULL && model_44 != NULL && strcmp(model, model_44) != 0)
        printf("worker 44 serves %s\n", model_44);
    printf("\n%-24s %6s  %-9s %-10s %7s %10s %9s\n", "service", "device", "state", "health", "pid", "up", "restarts");
    json_array_foreach(json_object_get(mesh, "services"), i, s) print_row(s);
    return well ? CLI_OK : CLI_FAILED;
}

int cli_status(int argc, char **argv)
{
    static struct cli_paths paths;
    struct dbe_diag diag = {0};
    bool json = false;
    dbe_err err;
    int code = cli_json_alone(argc, argv, "exit code 0: all healthy, 1: not all, 3: the mesh is down", &json);

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    json_t *mesh = NULL;
    err = cli_mesh_read(&paths, &mesh, &diag);
    if (err != DBE_OK) {
        if (err != DBE_E_UNAVAILABLE)
            (void)cli_fail(CLI_NOT_UP, "status", err, &diag);
        else if (!json)
            puts(diag.text); /* which is an answer */
        return json ? cli_print_down() : CLI_NOT_UP;
    }
    code = show(mesh, json);
    json_decref(mesh);
    return code;
}

/* Wait for the end of `pid` by its descriptor, so that a number used again is never mistaken for it. */
static dbe_err wait_end(int pidfd, int timeout_ms)
{
    struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
    uint64_t deadline = base_mono_ns() + (uint64_t)timeout_ms * BASE_NS_PER_MS;

    while (base_mono_ns() < deadline) {
        int n = poll(&pfd, 1, timeout_ms);
        if (n > 0)
            return DBE_OK;
        if (n < 0 && errno != EINTR)
            return DBE_E_IO;
    }
    return DBE_E_TIMEOUT;
}

static int say_down(bool json, bool was_up)
{
    if (json)
        return cli_print_json(json_pack("{s:b,s:b}", "up", 0, "was_up", was_up));
    puts(was_up ? "the mesh is down" : "the mesh is down already");
    return CLI_OK;
}

int cli_down(int argc, char **argv)
{
    static struct cli_paths paths;
    struct dbe_diag diag = {0};
    dbe_err err;
    int pid, pidfd;
    bool json = false;
    int code =
        cli_json_alone(argc, argv, "stops the mesh: what runs is finished first, for at most a few seconds", &json);

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    pid = cli_supervisor_pid(&paths);
    pidfd = pid != 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return say_down(json, false);
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) != 0) {
        close(pidfd);
        dbe_fail(&diag, DBE_E_PERMISSION, NULL, 0, "process %d: %s", pid, strerror(errno));
        return cli_fail(CLI_FAILED, "down", DBE_E_PERMISSION, &diag);
    }
    err = wait_end(pidfd, DOWN_TIMEOUT_MS);
    close(pidfd);
    if (err != DBE_OK) {
        dbe_fail(&diag, err, NULL, 0, "supervisor %d did not end within %d s", pid, DOWN_TIMEOUT_MS / 1000);
        return cli_fail(CLI_FAILED, "down", err, &diag);
    }
    return say_down(json, true);
}
