/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_options.c - the options of `dsmil keys`.
 *
 * In:   arguments, the environment    Out: struct keys_opts, or what is wrong with which option
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/keys_priv.h"
#include "node/keystore.h"

static int wrong_number(const char *option, const char *text, uint32_t max)
{
    char what[80];

    (void)snprintf(what, sizeof what, "%s takes a number from 0 to %u, not", option, max);
    return keys_wrong(what, text);
}

static int number(const char *option, const char *text, uint32_t max, uint32_t *ret)
{
    char *end = NULL;

    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || v > max)
        return wrong_number(option, text, max);
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

int keys_ceilings(struct keys_opts *o)
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
