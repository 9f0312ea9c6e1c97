/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c - `dsmil keys`: options, and the verbs init, issue, list and show.
 *
 * In:   options, the key store    Out: files of the key store, tables for people, JSON for programs
 * Does not: decide what a certificate may say (src/node/profile.c) or touch keys itself (src/node/issue.c). The verbs
 *       that change or judge what is there are in keys_renew.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* ---- words ------------ */

void keys_time_text(uint64_t unix_ms, char ret[KEYS_TIME_BYTES])
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(ret, KEYS_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(ret, KEYS_TIME_BYTES, "unknown");
}

static const char *role_text(uint8_t role)
{
    const struct dbe_role_row *row = dbe_reg_role(role);

    return row != NULL ? row->path : "?";
}

static const char *classification_text(uint8_t classification)
{
    const struct dbe_num_row *row = dbe_reg_classification(classification);

    return row != NULL ? row->name : "?";
}

/* "SOC,DEV" */
static void compartments_text(uint32_t mask, char *ret, size_t cap)
{
    size_t len = 0;

    ret[0] = '\0';
    for (uint32_t bit = 1; bit != 0 && bit <= DBE_COMPARTMENT_ALL; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL && len < cap)
            len += (size_t)snprintf(ret + len, cap - len, "%s%s", len > 0 ? "," : "", row->name);
    }
}

json_t *keys_identity_json(const char *name, const struct dbe_identity *id)
{
    char from[KEYS_TIME_BYTES], until[KEYS_TIME_BYTES], serial[2 * sizeof id->serial + 1];
    char print[2 * sizeof id->fingerprint + 1];
    json_t *list = json_array(), *obj;

    keys_time_text(id->not_before_ms, from);
    keys_time_text(id->not_after_ms, until);
    base_hex(id->serial, id->serial_len, serial);
    base_hex(id->fingerprint, sizeof id->fingerprint, print);
    for (uint32_t bit = 1; bit != 0 && bit <= DBE_COMPARTMENT_ALL; bit <<= 1) {
        const struct dbe_num_row *row = (id->compartments & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL)
            (void)json_array_append_new(list, json_string(row->name));
    }
    obj = json_pack("{s:s s:s s:i s:i s:s s:s s:o s:b s:s s:s s:s s:s}", "name", name, "spiffe_id", id->spiffe_id,
                    "device", id->device, "layer", id->layer, "role", role_text(id->role), "classification_max",
                    classification_text(id->classification_max), "compartments", list, "exercise", id->exercise,
                    "not_before", from, "not_after", until, "serial", serial, "fingerprint_sha3_512", print);
    return obj;
}

/* ---- options ------------ */

static int number(const char *option, const char *text, uint32_t max, uint32_t *ret)
{
    char *end = NULL;

    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || v > max)
        return keys_wrong(option, "takes a number in range");
    *ret = (uint32_t)v;
    return CLI_OK;
}

static int read_role(const char *text, struct keys_opts *o)
{
    const struct dbe_role_row *row = dbe_reg_role_path(text);

    if (row == NULL)
        return keys_wrong("there is no role", text);
    o->what.role = row->role;
    o->role_set = true;
    return CLI_OK;
}

/* "0,7" to a mask of registers. */
static int read_pcrs(const char *text, uint32_t *ret)
{
    enum { PCRS = 24 };
    uint32_t mask = 0;

    for (const char *at = text; *at != '\0'; at += *at == ',') {
        char *end = NULL;
        unsigned long n = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || n >= PCRS || (*end != '\0' && *end != ',') || (*end == ',' && end[1] == '\0'))
            return keys_wrong("--pcrs takes numbers from 0 to 23, as in 0,7:", text);
        mask |= UINT32_C(1) << n;
        at = end;
    }
    *ret = mask;
    return mask != 0 ? CLI_OK : keys_wrong("--pcrs takes numbers from 0 to 23, as in 0,7", NULL);
}

/* The same for options that say how keys are sealed. */
static int read_seal_option(int argc, char **argv, int *i, struct keys_opts *o)
{
    const char *v;

    if ((v = cli_opt(argc, argv, i, "--passphrase-file")) != NULL)
        o->seal.passphrase_file = v;
    else if ((v = cli_opt(argc, argv, i, "--pcrs")) != NULL)
        return read_pcrs(v, &o->seal.pcrs);
    else if (strcmp(argv[*i], "--attest") == 0)
        o->what.attest = true;
    else if (strcmp(argv[*i], "--tpm") == 0)
        o->seal.kind = DBE_SEAL_TPM;
    else if (strcmp(argv[*i], "--plain") == 0)
        o->seal.kind = DBE_SEAL_PLAIN;
    else
        return CLI_FAILED;
    return CLI_OK;
}

/* A passphrase beside --tpm or --plain opens what is sealed under it already. */
static int apply_seal(struct keys_opts *o)
{
    struct dbe_diag diag = {0};

    if (o->seal.pcrs != 0 && o->seal.kind != DBE_SEAL_TPM && !o->what.attest)
        return keys_wrong("--pcrs goes with --tpm or --attest", NULL);
    o->what.quote_pcrs = o->seal.pcrs;
    if (o->seal.kind != DBE_SEAL_TPM)
        o->seal.pcrs = 0;
    if (o->seal.kind == DBE_SEAL_AUTO && o->seal.passphrase_file != NULL)
        o->seal.kind = DBE_SEAL_PASSPHRASE;
    dbe_err err = dbe_keys_set_seal(&o->seal, &diag);
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_USAGE, "keys", err, &diag);
}

/* The option at argv[*i]; CLI_FAILED: it is none of these. */
static int read_option(int argc, char **argv, int *i, struct keys_opts *o)
{
    const char *v;
    uint32_t n = 0;
    int rc = CLI_OK;

    if ((v = cli_opt(argc, argv, i, "--dir")) != NULL)
        return (size_t)snprintf(o->dir, sizeof o->dir, "%s", v) < sizeof o->dir ? CLI_OK
                                                                                : keys_wrong("--dir is too long", NULL);
    if ((v = cli_opt(argc, argv, i, "--mesh")) != NULL)
        o->mesh = v;
    else if ((v = cli_opt(argc, argv, i, "--name")) != NULL)
        o->name = v;
    else if ((v = cli_opt(argc, argv, i, "--classification")) != NULL)
        o->classification = v;
    else if ((v = cli_opt(argc, argv, i, "--compartments")) != NULL)
        o->compartments = v;
    else if ((v = cli_opt(argc, argv, i, "--fingerprint")) != NULL)
        o->fingerprint = v;
    else if ((v = cli_opt(argc, argv, i, "--reason")) != NULL)
        o->reason = v;
    else if ((v = cli_opt(argc, argv, i, "--role")) != NULL)
        return read_role(v, o);
    else if ((v = cli_opt(argc, argv, i, "--days")) != NULL)
        return number("--days", v, KEYS_DAYS_MAX, &o->days);
    else if ((v = cli_opt(argc, argv, i, "--layer")) != NULL) {
        rc = number("--layer", v, UINT8_MAX, &n);
        o->what.layer = (uint8_t)n;
    } else if ((v = cli_opt(argc, argv, i, "--device")) != NULL) {
        rc = number("--device", v, DBE_DEVICE_COUNT - 1, &n);
        o->what.device = (uint8_t)n;
        o->device_set = true;
    } else if (strcmp(argv[*i], "--json") == 0)
        o->json = true;
    else if (strcmp(argv[*i], "--revoke") == 0)
        o->revoke = true;
    else if (strcmp(argv[*i], "--exercise") == 0)
        o->what.exercise = true;
    else
        return read_seal_option(argc, argv, i, o);
    return rc;
}

static int default_dir(struct keys_opts *o)
{
    const char *keys = getenv("DSMIL_KEYS");
    char state[CLI_PATH_MAX];
    struct dbe_diag diag = {0};

    if (keys != NULL && keys[0] != '\0')
        return (size_t)snprintf(o->dir, sizeof o->dir, "%s", keys) < sizeof o->dir
                   ? CLI_OK
                   : keys_wrong("DSMIL_KEYS is too long", NULL);
    dbe_err err = cli_state_dir(state, sizeof state, &diag);
    if (err == DBE_OK)
        err = cli_join(o->dir, sizeof o->dir, state, "keys");
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_USAGE, "keys", err, &diag);
}

int keys_options(int argc, char **argv, bool takes_word, struct keys_opts *o)
{
    for (int i = 1; i < argc; i++) {
        int rc = read_option(argc, argv, &i, o);
        if (rc == CLI_FAILED && takes_word && o->name == NULL && argv[i][0] != '-') {
            o->name = argv[i];
            rc = CLI_OK;
        }
        if (rc == CLI_FAILED)
            return keys_wrong("do not understand", argv[i]);
        if (rc != CLI_OK)
            return rc;
    }
    int rc = apply_seal(o);
    return rc != CLI_OK || o->dir[0] != '\0' ? rc : default_dir(o);
}

/* "SOC,DEV" to a mask. */
static int read_compartments(const char *text, uint32_t *ret)
{
    char name[32];
    uint32_t mask = 0;

    for (const char *at = text; *at != '\0'; at += *at == ',') {
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= sizeof name)
            return keys_wrong("cannot read --compartments", text);
        memcpy(name, at, n);
        name[n] = '\0';
        const struct dbe_num_row *row = dbe_reg_compartment_named(name);
        if (row == NULL)
            return keys_wrong("there is no compartment", name);
        mask |= row->num;
        at += n;
    }
    *ret = mask;
    return CLI_OK;
}

/* Both ceilings or neither go into the request: what is not given keeps its default. */
static int read_ceilings(struct keys_opts *o)
{
    if (o->classification == NULL && o->compartments == NULL)
        return CLI_OK;
    o->what.ceilings_set = true;
    o->what.classification_max = DBE_CLSF_SECRET;
    o->what.compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV | DBE_COMPARTMENT_LAB | DBE_COMPARTMENT_CRYPTO;
    if (o->classification != NULL) {
        const struct dbe_num_row *row = dbe_reg_classification_named(o->classification);
        if (row == NULL)
            return keys_wrong("there is no classification", o->classification);
        o->what.classification_max = (uint8_t)row->num;
    }
    return o->compartments == NULL ? CLI_OK : read_compartments(o->compartments, &o->what.compartments);
}

/* ---- verbs ------------ */

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

void keys_print_identity(const char *name, const struct dbe_identity *id)
{
    const struct dbe_device_row *device = dbe_reg_device(id->device);
    char from[KEYS_TIME_BYTES], until[KEYS_TIME_BYTES], hex[2 * sizeof id->fingerprint + 1], comps[128];

    keys_time_text(id->not_before_ms, from);
    keys_time_text(id->not_after_ms, until);
    compartments_text(id->compartments, comps, sizeof comps);
    printf("%s\n  identity      %s\n", name, id->spiffe_id);
    printf("  device        %u %s, layer %u, %s\n", id->device, device != NULL ? device->title : "?", id->layer,
           role_text(id->role));
    printf("  ceiling       %s, %s%s\n", classification_text(id->classification_max), comps,
           id->exercise ? ", exercise data only" : "");
    printf("  valid         %s to %s\n", from, until);
    base_hex(id->serial, id->serial_len, hex);
    printf("  serial        %s\n", hex);
    if (id->attested) {
        base_hex(id->ak_sha256, sizeof id->ak_sha256, hex);
        printf("  attestation   SHA-256 %s\n", hex);
    }
    base_hex(id->fingerprint, sizeof id->fingerprint, hex);
    printf("  SHA3-512      %.64s\n                %s\n", hex, hex + 64);
}

static int keys_issue(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    char name[KEYS_NAME_MAX_BYTES + 1];
    int rc = keys_options(argc, argv, false, &o);

    if (rc == CLI_OK)
        rc = read_ceilings(&o);
    if (rc != CLI_OK)
        return rc;
    if (!o.device_set || !o.role_set)
        return keys_wrong("issue needs --device N and --role ROLE", NULL);
    o.what.name = o.name;
    o.what.valid_days = o.days;
    (void)snprintf(name, sizeof name, "%s", o.name != NULL ? o.name : "");
    if (o.name == NULL)
        (void)snprintf(name, sizeof name, "%s-%u", role_text(o.what.role), o.what.device);
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
    compartments_text(id->compartments, comps, sizeof comps);
    printf("%-20s %6u %5u  %-8s %-12s %-22s %-20s  %s%s%s\n", name, id->device, id->layer, role_text(id->role),
           classification_text(id->classification_max), comps, until, err == DBE_OK ? "ok" : dbe_err_name(err),
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
