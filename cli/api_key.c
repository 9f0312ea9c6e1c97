/* SPDX-License-Identifier: Apache-2.0
 *
 * api_key.c - `dsmil api-key`: keys by which programs use the gateway, each for a tenant under ceilings.
 *
 * In:   the file `api-keys` of the state folder     Out: the same file with a row more or less; a key, shown once
 * Not:  the gateway's own key (`api-key`), which `dsmil up` makes; no rates or amounts, which are policy's
 *
 * The gateway looks at the file once a second: nothing has to be started again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "dbe/registry.h"
#include "policy/api_keys.h"

static const char usage_text[] =
    "usage: dsmil api-key add --tenant NAME [--classification NAME] [--compartments A+B] [--comment WORDS] [--json]\n"
    "       dsmil api-key list [--json]\n"
    "       dsmil api-key remove ID [--json]\n\n"
    "A key is shown when it is made and never again: the file holds its SHA3-512 alone. The classification is the\n"
    "ceiling of what the key may ask for (default SECRET), as are the compartments (default SOC); no key reaches\n"
    "beyond the gateway's certificate. A key that is added or removed counts within a second.\n";

struct options {
    const char *verb, *id, *tenant, *classification, *compartments, *comment;
    bool json;
};

struct store { /* the file, locked against another `dsmil api-key` */
    char path[CLI_PATH_MAX];
    int lock;
    struct pol_api_key *keys;
    size_t count;
};

static int usage(FILE *out, int code)
{
    fputs(usage_text, out);
    return code;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static void store_close(struct store *s)
{
    base_free(s->keys);
    if (s->lock >= 0)
        (void)close(s->lock);
}

static dbe_err store_read(struct store *s, struct dbe_diag *diag)
{
    struct base_buf text;

    s->keys = base_alloc(POL_API_KEYS_MAX, sizeof *s->keys);
    if (s->keys == NULL)
        return DBE_E_NOMEM;
    if (access(s->path, F_OK) != 0)
        return DBE_OK; /* no key yet */
    base_buf_init(&text, POL_API_KEYS_FILE_MAX);
    dbe_err err = base_file_read_private(s->path, POL_API_KEYS_FILE_MAX, &text, diag);
    if (err == DBE_OK)
        err = pol_api_keys_read((const char *)text.data, text.len, s->keys, POL_API_KEYS_MAX, &s->count, diag);
    base_buf_free(&text);
    return err;
}

static dbe_err store_open(struct store *s, struct dbe_diag *diag)
{
    struct cli_paths paths;
    char lock[CLI_PATH_MAX];

    *s = (struct store){.lock = -1};
    DBE_TRY(cli_paths_init(&paths, diag));
    DBE_TRY(cli_join(s->path, sizeof s->path, paths.state, "api-keys"));
    DBE_TRY(cli_join(lock, sizeof lock, paths.state, "api-keys.lock"));
    s->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0 || flock(s->lock, LOCK_EX) != 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "cannot lock %.150s", lock);
    return store_read(s, diag);
}

static dbe_err store_write(const struct store *s, struct dbe_diag *diag)
{
    struct base_buf text;

    base_buf_init(&text, POL_API_KEYS_FILE_MAX);
    pol_api_keys_write(s->keys, s->count, &text);
    dbe_err err = text.err;
    if (err == DBE_OK)
        err = base_file_write(s->path, text.data, text.len, 0600, diag);
    base_buf_free(&text);
    return err;
}

/* ---- showing ---------------------------------------------------------------------------------------------------- */

static json_t *compartments_json(uint32_t mask)
{
    json_t *list = json_array();

    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL)
            json_array_append_new(list, json_string(row->name));
    }
    return list;
}

static json_t *key_json(const struct pol_api_key *k, const char *key)
{
    const struct dbe_num_row *classification = dbe_reg_classification(k->classification);
    json_t *obj =
        json_pack("{s:s, s:s, s:s, s:o, s:I, s:s}", "id", k->id, "tenant", k->tenant, "classification",
                  classification != NULL ? classification->name : "?", "compartments",
                  compartments_json(k->compartments), "created", (json_int_t)k->created_unix, "comment", k->comment);

    if (obj != NULL && key != NULL)
        json_object_set_new(obj, "key", json_string(key));
    return obj;
}

static void print_key(const struct pol_api_key *k)
{
    const struct dbe_num_row *classification = dbe_reg_classification(k->classification);
    const time_t created = (time_t)k->created_unix;
    char when[32] = "?", parts[256] = "";
    struct tm tm;

    if (gmtime_r(&created, &tm) != NULL)
        (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        const struct dbe_num_row *row = (k->compartments & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        const size_t at = strlen(parts);
        if (row != NULL)
            (void)snprintf(parts + at, sizeof parts - at, "%s%s", at > 0 ? "+" : "", row->name);
    }
    printf("%-16s  %-24s  %-12s  %-16s  %s  %s\n", k->id, k->tenant,
           classification != NULL ? classification->name : "?", parts, when, k->comment);
}

/* ---- verbs ------------------------------------------------------------------------------------------------------ */

static dbe_err fill(const struct options *o, struct pol_api_key *k, struct dbe_diag *diag)
{
    const char *name = o->classification != NULL ? o->classification : "SECRET";
    const struct dbe_num_row *classification = dbe_reg_classification_named(name);

    if (o->tenant == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "--tenant NAME is missing");
    if (classification == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "no classification is called %.40s", name);
    if (!pol_api_key_compartments(o->compartments != NULL ? o->compartments : "SOC", &k->compartments))
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "--compartments takes names joined by '+', without KINETIC");
    if (strlen(o->tenant) >= sizeof k->tenant || (o->comment != NULL && strlen(o->comment) >= sizeof k->comment))
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "the tenant or the comment is too long");
    k->classification = (uint8_t)classification->num;
    (void)snprintf(k->tenant, sizeof k->tenant, "%s", o->tenant);
    (void)snprintf(k->comment, sizeof k->comment, "%s", o->comment != NULL ? o->comment : "");
    k->created_unix = base_wall_ms() / 1000;
    return pol_api_key_check(k, diag);
}

static int add(const struct options *o, struct store *s)
{
    struct pol_api_key *k = &s->keys[s->count];
    char key[POL_API_KEY_TEXT_BYTES];
    struct dbe_diag diag = {0};

    if (s->count == POL_API_KEYS_MAX)
        return cli_fail(CLI_FAILED, "api-key", DBE_E_LIMIT, NULL);
    dbe_err err = crypto_init(&diag);
    if (err == DBE_OK)
        err = pol_api_key_new(key, k);
    if (err == DBE_OK)
        err = fill(o, k, &diag);
    if (err == DBE_OK) {
        s->count++;
        err = store_write(s, &diag);
    }
    int rc = CLI_OK;
    if (err == DBE_OK && o->json)
        rc = cli_print_json(key_json(k, key));
    else if (err == DBE_OK)
        printf("%s\n", key); /* alone, so that a script can take it */
    if (err == DBE_OK && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        s->count--; /* nobody has read it, and nobody ever could */
        err = store_write(s, &diag);
        rc = CLI_FAILED;
    }
    base_wipe(key, sizeof key);
    if (err != DBE_OK)
        rc = cli_fail(err == DBE_E_ARGUMENT || err == DBE_E_CONFIG ? CLI_USAGE : CLI_FAILED, "api-key", err, &diag);
    else if (rc == CLI_OK && !o->json)
        fprintf(stderr, "key %s of tenant %s; it is shown this once\n", k->id, k->tenant);
    return rc;
}

static int list(const struct options *o, const struct store *s)
{
    json_t *all = o->json ? json_array() : NULL;

    for (size_t i = 0; i < s->count; i++) {
        if (o->json)
            json_array_append_new(all, key_json(&s->keys[i], NULL));
        else
            print_key(&s->keys[i]);
    }
    if (!o->json && s->count == 0)
        fputs("no key but the gateway's own; `dsmil api-key add` makes one for a tenant\n", stderr);
    return o->json ? cli_print_json(json_pack("{s:o}", "keys", all)) : CLI_OK;
}

static int remove_key(const struct options *o, struct store *s)
{
    struct dbe_diag diag = {0};

    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->keys[i].id, o->id) != 0)
            continue;
        memmove(&s->keys[i], &s->keys[i + 1], (s->count - i - 1) * sizeof s->keys[0]);
        s->count--;
        dbe_err err = store_write(s, &diag);
        if (err != DBE_OK)
            return cli_fail(CLI_FAILED, "api-key", err, &diag);
        return o->json ? cli_print_json(json_pack("{s:s}", "removed", o->id)) : CLI_OK;
    }
    return cli_fail(CLI_FAILED, "api-key", dbe_fail(&diag, DBE_E_NOT_FOUND, NULL, 0, "no key has the id %s", o->id),
                    &diag);
}

/* False after saying what cannot be meant. */
static bool read_options(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *v;
        if (strcmp(argv[i], "--json") == 0)
            o->json = true;
        else if ((v = cli_opt(argc, argv, &i, "--tenant")) != NULL)
            o->tenant = v;
        else if ((v = cli_opt(argc, argv, &i, "--classification")) != NULL)
            o->classification = v;
        else if ((v = cli_opt(argc, argv, &i, "--compartments")) != NULL)
            o->compartments = v;
        else if ((v = cli_opt(argc, argv, &i, "--comment")) != NULL)
            o->comment = v;
        else if (argv[i][0] != '-' && o->verb == NULL)
            o->verb = argv[i];
        else if (argv[i][0] != '-' && o->id == NULL && o->verb != NULL && strcmp(o->verb, "remove") == 0)
            o->id = argv[i];
        else
            return (void)cli_wrong("api-key", "\"%s\" is no option, or its value is missing", argv[i]), false;
    }
    if (o->verb == NULL)
        return (void)cli_wrong("api-key", "add, list or remove?"), false;
    if (strcmp(o->verb, "remove") == 0 && o->id == NULL)
        return (void)cli_wrong("api-key", "remove which? `dsmil api-key list` tells the ids"), false;
    if (strcmp(o->verb, "add") != 0 && strcmp(o->verb, "list") != 0 && strcmp(o->verb, "remove") != 0)
        return (void)cli_wrong("api-key", "no verb \"%s\"", o->verb), false;
    return true;
}

int cli_api_key(int argc, char **argv)
{
    struct options o = {0};
    struct store s;
    struct dbe_diag diag = {0};
    int rc;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return usage(stdout, CLI_OK);
    if (!read_options(argc, argv, &o))
        return CLI_USAGE;
    dbe_err err = store_open(&s, &diag);
    if (err != DBE_OK)
        rc = cli_fail(err == DBE_E_IO || err == DBE_E_NOMEM ? CLI_FAILED : CLI_USAGE, "api-key", err, &diag);
    else if (strcmp(o.verb, "add") == 0)
        rc = add(&o, &s);
    else if (strcmp(o.verb, "list") == 0)
        rc = list(&o, &s);
    else
        rc = remove_key(&o, &s);
    store_close(&s);
    return rc;
}
