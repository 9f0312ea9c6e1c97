/* SPDX-License-Identifier: Apache-2.0
 *
 * channels.c - `dsmil channels`: the sealed channels of the running mesh, and what can be done to them under traffic.
 *
 * In:   the supervisor's list of services, each one's own Unix socket
 * Out:  a row a channel and end; new keys, renewed certificates or another suite for all of them
 * Not:  it opens and closes none; no message waits or is lost for it.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_BYTES = 512 };

static void print_channels(const char *service, const json_t *channels)
{
    json_t *c;
    size_t i;

    json_array_foreach(channels, i, c)
    {
        printf("%-24s %-46s %-46s %8lld us %8lld B\n", service, json_string_value(json_object_get(c, "peer")),
               json_string_value(json_object_get(c, "suite")),
               (long long)json_integer_value(json_object_get(c, "handshake_us")),
               (long long)json_integer_value(json_object_get(c, "queued_bytes")));
    }
}

/* List: into `all` where JSON is wanted, else printed. */
static dbe_err list_one(const json_t *service, json_t *all, struct dbe_diag *diag)
{
    const char *name = json_string_value(json_object_get(service, "name"));
    struct base_buf body = {0};

    DBE_TRY(cli_service_ask(service, "/channels", false, &body, diag));
    json_t *got = json_loadb((const char *)body.data, body.len, 0, NULL);
    base_buf_free(&body);
    const json_t *channels = json_object_get(got, "channels");
    if (!json_is_array(channels)) {
        json_decref(got);
        return dbe_fail(diag, DBE_E_MALFORMED, NULL, 0, "its answer is no list of channels");
    }
    if (all != NULL)
        json_object_set(all, name, (json_t *)(uintptr_t)channels);
    else
        print_channels(name, channels);
    json_decref(got);
    return DBE_OK;
}

static dbe_err order_one(const json_t *service, const char *path, json_t *all, struct dbe_diag *diag)
{
    const char *name = json_string_value(json_object_get(service, "name"));
    struct base_buf body = {0};
    dbe_err err = cli_service_ask(service, path, true, &body, diag);

    base_buf_free(&body);
    if (all != NULL)
        json_object_set_new(all, name, json_pack("{s:b,s:s}", "ok", err == DBE_OK, "code", dbe_err_name(err)));
    else if (err == DBE_OK)
        printf("%-24s done\n", name);
    return err;
}

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil channels [--json]       the channels of each service\n"
          "       dsmil channels rekey          new keys for every direction\n"
          "       dsmil channels renew          show renewed certificates (after `dsmil keys renew`), new keys\n"
          "       dsmil channels suite NAME     use this suite, by name or number, where both ends have it\n"
          "The last three work under traffic; no message waits or is lost. They take --json, too.\n",
          out);
    return code;
}

/* What is asked for: the path of an order, or "" for the list. False: it makes no sense. */
static bool parse(int argc, char **argv, char path[PATH_BYTES], bool *ret_json)
{
    path[0] = '\0';
    *ret_json = argc > 1 && strcmp(argv[argc - 1], "--json") == 0;
    argc -= *ret_json;
    if (argc == 1)
        return true;
    if (argc == 2 && (strcmp(argv[1], "rekey") == 0 || strcmp(argv[1], "renew") == 0))
        return snprintf(path, PATH_BYTES, "/channels/%s", argv[1]) < PATH_BYTES;
    if (argc != 3 || strcmp(argv[1], "suite") != 0)
        return false;
    if (argv[2][strspn(argv[2], "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_,.")] != '\0')
        return false;
    return snprintf(path, PATH_BYTES, "/channels/suite?name=%s", argv[2]) < PATH_BYTES;
}

static int each(const json_t *mesh, const char *path, bool json)
{
    json_t *all = json ? json_object() : NULL, *service;
    int code = CLI_OK;
    size_t i;

    json_array_foreach(json_object_get(mesh, "services"), i, service)
    {
        struct dbe_diag diag = {0};
        dbe_err err = path[0] != '\0' ? order_one(service, path, all, &diag) : list_one(service, all, &diag);
        if (err != DBE_OK)
            code = cli_fail(CLI_FAILED, json_string_value(json_object_get(service, "name")), err, &diag);
    }
    if (!json)
        return code;
    int printed = cli_print_json(all);
    return code != CLI_OK ? code : printed;
}

int cli_channels(int argc, char **argv)
{
    static struct cli_paths paths;
    struct dbe_diag diag = {0};
    char path[PATH_BYTES];
    bool json = false;
    dbe_err err;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, CLI_OK);
    if (!parse(argc, argv, path, &json))
        return cli_wrong("channels", "rekey, renew, suite NAME, or nothing; not \"%s\"",
                         argc > 1 ? argv[argc > 2 && strcmp(argv[1], "suite") == 0 ? 2 : 1] : "");
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    json_t *mesh = cli_mesh(&paths);
    if (mesh == NULL)
        return json ? cli_print_down() : CLI_NOT_UP;
    if (!json && path[0] == '\0')
        printf("%-24s %-46s %-46s %11s %10s\n", "service", "peer", "suite", "handshake", "waiting");
    int code = each(mesh, path, json);
    json_decref(mesh);
    return code;
}
