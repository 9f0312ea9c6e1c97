/* SPDX-License-Identifier: Apache-2.0
 *
 * service.c - the running mesh's services, as verbs ask them: over each one's own Unix socket.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { ORDER_TIMEOUT_MS = 5000 };

json_t *cli_mesh(const struct cli_paths *paths)
{
    json_t *mesh = cli_supervisor_pid(paths) != 0 ? json_load_file(paths->mesh_json, 0, NULL) : NULL;

    if (mesh == NULL)
        fprintf(stderr, "dsmil: the mesh is down; start it with `%s up`\n", cli_self);
    return mesh;
}

int cli_print_down(void)
{
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
