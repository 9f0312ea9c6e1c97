/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c - `dsmil keys`: the verbs init, issue, list and show.
 *
 * In:   options, the key store    Out: files of the key store, tables for people, JSON for programs
 * Does not: decide what a certificate may say (src/node/profile.c) or touch keys itself (src/node/issue.c). The verbs
 *       that change or judge what is there are in keys_renew.c and keys_bundle.c, options in keys_options.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/keys_priv.h"
#include "node/keystore.h"

static const char mesh_default[] = "dsmil.local";

static const char usage_text[] =
    "usage: dsmil keys init [--mesh NAME] [--days N]\n"
    "       dsmil keys issue --device N --role ROLE [--name NAME] [--layer N] [--days N] [--exercise]\n"
    "                        [--classification NAME] [--compartments A,B] [--attest [--pcrs 0,7]]\n"
    "       dsmil keys list [--json]\n"
    "       dsmil keys show NAME [--json]\n"
    "       dsmil keys renew NAME [--days N] [--revoke] [--reason REASON]\n"
    "       dsmil keys revoke NAME|SERIAL [--reason REASON]\n"
    "       dsmil keys verify NAME|FILE [--json]\n"
    "       dsmil keys seal NAME --passphrase-file FILE | --tpm [--pcrs 0,7] | --plain\n"
    "       dsmil keys bundle export FILE\n"
    "       dsmil keys bundle import FILE [--fingerprint HEX]\n"
    "\n"
    "  --json      of every verb: the same as one JSON object\n"
    "  --dir DIR   key store; otherwise $DSMIL_KEYS, or keys/ in the state directory\n"
    "  ROLE        shim, router, worker, agent, service, person, audit\n"
    "  REASON      key-compromise, superseded, cessation, affiliation-changed, privilege-withdrawn, unspecified\n"
    "  --passphrase-file FILE, --tpm [--pcrs LIST]\n"
    "              how init, issue, renew and seal write keys; otherwise $DSMIL_PASSPHRASE_FILE, $DSMIL_TPM, or plain\n"
    "  --attest    make a key in this machine's TPM that vouches for its state (PCR 0 to 7, or --pcrs) in handshakes\n"
    "  Without ceilings a node may carry up to SECRET in SOC,DEV,LAB,CRYPTO. A key is never overwritten; a "
    "certificate\n"
    "  in the last third of its life is issued again for the same key. renew makes a new key, too; with --revoke it\n"
    "  puts the old certificate on the revocation list.\n";

static int usage(FILE *out, int code)
{
    fputs(usage_text, out);
    return code;
}

int keys_wrong(const char *what, const char *value)
{
    struct dbe_diag diag = {0};
    const dbe_err err =
        dbe_fail(&diag, DBE_E_ARGUMENT, NULL, 0, "%s%s%s", what, value != NULL ? " " : "", value != NULL ? value : "");

    return cli_fail(CLI_USAGE, "keys", err, &diag);
}

int keys_code(dbe_err err)
{
    switch (err) {
    case DBE_OK: return CLI_OK;
    case DBE_E_NOT_FOUND: return CLI_NOT_UP;
    case DBE_E_ARGUMENT:
    case DBE_E_CONFIG:
    case DBE_E_SEALED:
    case DBE_E_TPM:
    case DBE_E_PERMISSION: return CLI_USAGE;
    default: return CLI_FAILED;
    }
}

static int keys_init(int argc, char **argv)
{
    struct keys_opts o = {.mesh = mesh_default};
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    uint64_t from_ms = 0, until_ms = 0;
    char until[KEYS_TIME_BYTES], print[2 * 64 + 1];
    int rc = keys_options(argc, argv, false, &o);

    if (rc != CLI_OK)
        return rc;
    dbe_err err = dbe_keys_init(o.dir, o.mesh, o.days, &diag);
    if (err == DBE_OK)
        err = dbe_trust_load(o.dir, &trust, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys init", err, &diag);
    dbe_trust_validity(trust, &from_ms, &until_ms);
    keys_time_text(until_ms, until);
    base_hex(dbe_trust_fingerprint(trust), 64, print);
    if (o.json) {
        rc = cli_print_json(json_pack("{s:s,s:s,s:s,s:s}", "mesh", dbe_trust_mesh(trust), "key_store", o.dir,
                                      "ca_not_after", until, "fingerprint", print));
        dbe_trust_free(trust);
        return rc;
    }
    printf("certificate authority of mesh %s made, ML-DSA-87\n", dbe_trust_mesh(trust));
    printf("  key store    %s\n  valid until  %s\n  SHA3-512     %.64s\n               %s\n", o.dir, until, print,
           print + 64);
    printf("next: dsmil keys issue --device 43 --role router\n");
    dbe_trust_free(trust);
    return CLI_OK;
}

static int keys_issue(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    char name[KEYS_NAME_MAX_BYTES + 1];
    int rc = keys_options(argc, argv, false, &o);

    if (rc == CLI_OK)
        rc = keys_ceilings(&o);
    if (rc != CLI_OK)
        return rc;
    if (!o.device_set || !o.role_set)
        return keys_wrong("issue needs --device N and --role ROLE", NULL);
    o.what.name = o.name;
    o.what.valid_days = o.days;
    (void)snprintf(name, sizeof name, "%s", o.name != NULL ? o.name : "");
    if (o.name == NULL)
        (void)snprintf(name, sizeof name, "%s-%u", keys_role_text(o.what.role), o.what.device);
    dbe_err err = dbe_keys_issue(o.dir, &o.what, &diag);
    if (err == DBE_OK)
        err = dbe_credential_load(o.dir, name, &cred, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys issue", err, &diag);
    if (o.json) {
        rc = cli_print_json(keys_identity_json(name, dbe_credential_identity(cred)));
        dbe_credential_free(cred);
        return rc;
    }
    keys_print_identity(name, dbe_credential_identity(cred));
    printf("  files         %s/%s.key, .crt\n", o.dir, name);
    dbe_credential_free(cred);
    return CLI_OK;
}

struct listing {
    json_t *rows; /* NULL: print */
    unsigned count, faults;
};

static void list_json(struct listing *l, const char *name, const struct dbe_identity *id, dbe_err err,
                      const char *problem)
{
    json_t *row = id != NULL ? keys_identity_json(name, id) : json_pack("{s:s}", "name", name);

    (void)json_object_set_new(row, "state",
                              json_string(err != DBE_OK     ? dbe_err_name(err)
                                          : problem != NULL ? "soon"
                                                            : "ok"));
    if (problem != NULL)
        (void)json_object_set_new(row, "problem", json_string(problem));
    (void)json_array_append_new(l->rows, row);
}

static void on_row(void *ctx, const char *name, const struct dbe_identity *id, dbe_err err, const char *problem)
{
    struct listing *l = ctx;
    char until[KEYS_TIME_BYTES], comps[128];

    l->count++;
    l->faults += err != DBE_OK;
    if (l->rows != NULL) {
        list_json(l, name, id, err, problem);
        return;
    }
    if (l->count == 1)
        printf("%-20s %6s %5s  %-8s %-12s %-22s %-20s  %s\n", "NAME", "DEVICE", "LAYER", "ROLE", "CEILING",
               "COMPARTMENTS", "VALID UNTIL", "STATE");
    if (id == NULL) {
        printf("%-20s %6s %5s  %-8s %-12s %-22s %-20s  %s: %s\n", name, "-", "-", "-", "-", "-", "-", dbe_err_name(err),
               problem != NULL ? problem : dbe_err_text(err));
        return;
    }
    keys_time_text(id->not_after_ms, until);
    keys_compartments_text(id->compartments, comps, sizeof comps);
    printf("%-20s %6u %5u  %-8s %-12s %-22s %-20s  %s%s%s\n", name, id->device, id->layer, keys_role_text(id->role),
           keys_classification_text(id->classification_max), comps, until, err == DBE_OK ? "ok" : dbe_err_name(err),
           problem != NULL ? ": " : "", problem != NULL ? problem : "");
}

static int keys_list(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct listing l = {0};
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    uint64_t from_ms = 0, until_ms = 0, number = 0;
    char until[KEYS_TIME_BYTES];
    int rc = keys_options(argc, argv, false, &o);

    if (rc != CLI_OK)
        return rc;
    dbe_err err = dbe_trust_load(o.dir, &trust, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys list", err, &diag);
    dbe_trust_validity(trust, &from_ms, &until_ms);
    dbe_trust_revocations(trust, NULL, NULL, &number);
    keys_time_text(until_ms, until);
    if (o.json)
        l.rows = json_array();
    else
        printf("mesh %s, certificate authority valid until %s, %s, %zu revoked\n", dbe_trust_mesh(trust), until, o.dir,
               dbe_trust_revoked_count(trust));
    err = dbe_keys_list(o.dir, on_row, &l, &diag);
    if (err == DBE_OK && o.json)
        rc = cli_print_json(json_pack("{s:s s:s s:s s:I s:I s:o}", "mesh", dbe_trust_mesh(trust), "ca_not_after", until,
                                      "key_store", o.dir, "revocation_list", (json_int_t)number, "revoked",
                                      (json_int_t)dbe_trust_revoked_count(trust), "nodes", l.rows));
    else
        json_decref(l.rows);
    dbe_trust_free(trust);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys list", err, &diag);
    if (!o.json && l.count == 0)
        printf("no nodes yet: dsmil keys issue --device 43 --role router\n");
    return rc != CLI_OK ? rc : l.faults > 0 ? CLI_FAILED : CLI_OK;
}

static int keys_show(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    int rc = keys_options(argc, argv, true, &o);

    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("show needs the NAME of a node: dsmil keys list", NULL);
    dbe_err err = dbe_credential_load(o.dir, o.name, &cred, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys show", err, &diag);
    if (o.json)
        rc = cli_print_json(keys_identity_json(o.name, dbe_credential_identity(cred)));
    else
        keys_print_identity(o.name, dbe_credential_identity(cred));
    dbe_credential_free(cred);
    return rc;
}

int cli_keys(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"init", keys_init},     {"issue", keys_issue}, {"list", keys_list},
                 {"show", keys_show},     {"renew", keys_renew}, {"revoke", keys_revoke},
                 {"verify", keys_verify}, {"seal", keys_seal},   {"bundle", keys_bundle}};

    (void)setenv("TSS2_LOG", "all+NONE", 0); /* what the TSS has to say, we say */
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout, CLI_OK);
    for (size_t i = 0; argc >= 2 && i < BASE_ARRAY_LEN(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    return argc > 1 ? cli_wrong("keys", "no verb \"%s\"", argv[1]) : cli_wrong("keys", "which verb?");
}
