/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_bundle.c - `dsmil keys bundle export | import`: a mesh carried to another machine, and news to one that has it.
 *
 * In:   the key store, or a bundle and the CA's fingerprint    Out: a bundle, or files of the key store
 * Does not: carry private keys.
 */
#include <stdio.h>
#include <string.h>

#include "cli/keys_priv.h"
#include "node/keystore.h"

enum { FINGERPRINT_BYTES = 64 };

static int bundle_export(const struct keys_opts *o)
{
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    char print[2 * FINGERPRINT_BYTES + 1];
    size_t count = 0;
    dbe_err err = dbe_keys_bundle_export(o->dir, o->name, &count, &diag);

    if (err == DBE_OK)
        err = dbe_trust_load(o->dir, &trust, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys bundle export", err, &diag);
    base_hex(dbe_trust_fingerprint(trust), FINGERPRINT_BYTES, print);
    if (o->json) {
        int rc = cli_print_json(json_pack("{s:s,s:s,s:I,s:s}", "mesh", dbe_trust_mesh(trust), "file", o->name,
                                          "certificates", (json_int_t)count, "fingerprint", print));
        dbe_trust_free(trust);
        return rc;
    }
    printf("mesh %s: the CA's certificate, its revocation list and %zu certificates are in %s\n", dbe_trust_mesh(trust),
           count, o->name);
    printf("on the other machine, with the fingerprint sent by another way than the file:\n"
           "  dsmil keys bundle import FILE --fingerprint %s\n",
           print);
    dbe_trust_free(trust);
    return CLI_OK;
}

struct parts {
    unsigned count;
    json_t *list; /* NULL: print */
};

static void on_part(void *ctx, const char *part, bool installed, const char *why)
{
    struct parts *parts = ctx;

    parts->count += installed;
    if (parts->list != NULL) {
        json_array_append_new(parts->list,
                              json_pack("{s:s,s:b,s:s*}", "name", part, "installed", installed, "why", why));
        return;
    }
    printf("  %-20s %s%s%s\n", part, installed ? "installed" : "kept", why != NULL ? ": " : "", why != NULL ? why : "");
}

static int bundle_import(const struct keys_opts *o)
{
    struct dbe_diag diag = {0};
    uint8_t fingerprint[FINGERPRINT_BYTES];
    struct parts parts = {0};

    if (o->fingerprint != NULL && (strlen(o->fingerprint) != 2 * sizeof fingerprint ||
                                   base_unhex(o->fingerprint, fingerprint, sizeof fingerprint) != DBE_OK))
        return keys_wrong("--fingerprint takes 128 hexadecimal digits", NULL);
    parts.list = o->json ? json_array() : NULL;
    dbe_err err =
        dbe_keys_bundle_import(o->dir, o->name, o->fingerprint != NULL ? fingerprint : NULL, on_part, &parts, &diag);
    if (err == DBE_OK && o->json)
        return cli_print_json(
            json_pack("{s:s,s:i,s:o}", "key_store", o->dir, "installed", (int)parts.count, "parts", parts.list));
    json_decref(parts.list);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys bundle import", err, &diag);
    printf("%u of these are new in %s\n", parts.count, o->dir);
    return CLI_OK;
}

int keys_bundle(int argc, char **argv)
{
    struct keys_opts o = {0};
    bool export = argc >= 2 && strcmp(argv[1], "export") == 0;

    if (!export && (argc < 2 || strcmp(argv[1], "import") != 0))
        return keys_wrong("bundle takes export FILE or import FILE", NULL);
    int rc = keys_options(argc - 1, argv + 1, true, &o);
    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("bundle needs a FILE", NULL);
    return export ? bundle_export(&o) : bundle_import(&o);
}
