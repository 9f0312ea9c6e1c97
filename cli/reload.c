/* SPDX-License-Identifier: Apache-2.0
 *
 * reload.c - `dsmil reload`: every service reads its configuration again and says what came of it.
 *
 * Not:  a file with an error changes nothing; its place is printed, and the exit code says so.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* False if the service refused. */
static bool reload_one(const json_t *service, json_t *all)
{
    const char *name = json_string_value(json_object_get(service, "name"));
    struct base_buf said = {0};
    struct dbe_diag diag = {0};
    dbe_err err = cli_service_ask(service, "/reload", true, &said, &diag);
    const char *words = err == DBE_OK ? base_buf_cstr(&said) : diag.text;
    char line[512];

    (void)snprintf(line, sizeof line, "%.*s", (int)strcspn(words, "\n"), words);
    if (all != NULL)
        json_object_set_new(all, name, json_pack("{s:b,s:o}", "ok", err == DBE_OK, "said", cli_json_text(line)));
    else
        fprintf(err == DBE_OK ? stdout : stderr, "%-24s %s\n", name, line);
    base_buf_free(&said);
    return err == DBE_OK;
}

int cli_reload(int argc, char **argv)
{
    static struct cli_paths paths;
    struct dbe_diag diag = {0};
    json_t *mesh, *service, *all;
    bool good = true, json = false;
    int code = cli_json_alone(argc, argv, "every service reads its configuration again", &json);
    dbe_err err;
    size_t i;

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    mesh = cli_mesh(&paths);
    if (mesh == NULL)
        return json ? cli_print_down() : CLI_NOT_UP;
    all = json ? json_object() : NULL;
    json_array_foreach(json_object_get(mesh, "services"), i, service)
    {
        if (!reload_one(service, all))
            good = false;
    }
    json_decref(mesh);
    if (json && cli_print_json(all) != CLI_OK)
        return CLI_FAILED;
    return good ? CLI_OK : CLI_FAILED;
}
