/* SPDX-License-Identifier: Apache-2.0
 *
 * service.c - the running mesh's services, as verbs ask them: over each one's own Unix socket.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { ORDER_TIMEOUT_MS = 5000 };

/* Has it what verbs read of it, in the form that a supervisor writes? */
static bool is_mesh(json_t *mesh)
{
    const char *name, *text;
    json_t *services, *s;
    int number, ready;
    size_t i;

    if (json_unpack(mesh, "{s:s, s:i, s:i, s:s, s:b, s:o}", "mesh", &name, "pid", &number, "port", &number, "model",
                    &text, "ready", &ready, "services", &services) != 0 ||
        !json_is_array(services))
        return false;
    json_array_foreach(services, i, s)
    {
        if (json_unpack(s, "{s:s, s:i, s:s, s:i}", "name", &name, "device", &number, "state", &text, "pid", &number) !=
            0)
            return false;
    }
    return true;
}

dbe_err cli_mesh_read(const struct cli_paths *paths, json_t **ret, struct dbe_diag *diag)
{
    const int supervisor = cli_supervisor_pid(paths);
    json_t *mesh;

    if (supervisor == 0)
        return dbe_fail(diag, DBE_E_UNAVAILABLE, NULL, 0, "the mesh is down; start it with `%.100s up`", cli_self);
    if (access(paths->mesh_json, F_OK) != 0)
        return dbe_fail(diag, DBE_E_AGAIN, NULL, 0, "the mesh is still starting; try again in a moment");
    mesh = json_load_file(paths->mesh_json, 0, NULL);
    if (!is_mesh(mesh)) {
        json_decref(mesh);
        return dbe_fail(diag, DBE_E_STATE, NULL, 0, "%.110s is damaged; `dsmil down`, then `dsmil up`",
                        paths->mesh_json);
    }
    *ret = mesh;
    return DBE_OK;
}

json_t *cli_mesh(const struct cli_paths *paths)
{
    struct dbe_diag diag = {0};
    json_t *mesh = NULL;
    dbe_err err = cli_mesh_read(paths, &mesh, &diag);

    if (err == DBE_E_UNAVAILABLE)
        fprintf(stderr, "dsmil: %s\n", diag.text);
    else if (err != DBE_OK)
        (void)cli_fail(CLI_NOT_UP, "mesh", err, &diag);
    return mesh;
}

int cli_print_down(void)
{
    if (cli_failed_otherwise())
        return cli_json_failure(CLI_NOT_UP);
    int code = cli_print_json(json_pack("{s:b}", "up", 0));
    return code == CLI_OK ? CLI_NOT_UP : code;
}

dbe_err cli_service_ask(const json_t *service, const char *path, bool post, struct base_buf *ret, struct dbe_diag *diag)
{
    const char *socket = json_string_value(json_object_get(service, "metrics_socket"));
    struct cli_http req = {.unix_path = socket, .path = path, .body = post ? "" : NULL, .timeout_ms = ORDER_TIMEOUT_MS};
    struct cli_http_result res = {0};

    if (socket == NULL)
        return dbe_fail(diag, DBE_E_UNAVAILABLE, NULL, 0, "it has no socket of its own; start the mesh again");
    DBE_TRY(cli_http(&req, &res, diag));
    if (res.status == 200) {
        *ret = res.body;
        return DBE_OK;
    }
    const char *why = base_buf_cstr(&res.body);
    dbe_err err = dbe_fail(diag, DBE_E_STATE, NULL, 0, "%.*s", (int)strcspn(why, "\n"), why);
    base_buf_free(&res.body);
    return err;
}
