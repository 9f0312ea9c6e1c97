/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_renew.c - `dsmil keys renew | revoke | verify | seal`: identities that end, begin again, are asked about, and
 * keys that are sealed another way.
 *
 * In:   a name, a serial number or a file    Out: files of the key store, words for people, JSON for programs
 * Does not: tell running services: they watch the key store's revocation list themselves.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/keys_priv.h"

/* --reason as a number; `fallback` where it is not given. */
static int read_reason(const struct keys_opts *o, enum dbe_revoke_reason fallback, enum dbe_revoke_reason *ret)
{
    *ret = fallback;
    if (o->reason != NULL && dbe_revoke_reason_named(o->reason, ret) != DBE_OK)
        return keys_wrong("there is no reason", o->reason);
    return CLI_OK;
}

int keys_renew(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct dbe_renew what = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    int rc = keys_options(argc, argv, true, &o);

    if (rc == CLI_OK)
        rc = read_reason(&o, DBE_REVOKE_SUPERSEDED, &what.reason);
    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("renew needs the NAME of a node: dsmil keys list", NULL);
    what.valid_days = o.days;
    what.revoke_old = o.revoke || o.reason != NULL;
    dbe_err err = dbe_keys_renew(o.dir, o.name, &what, &diag);
    if (err == DBE_OK)
        err = dbe_credential_load(o.dir, o.name, &cred, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys renew", err, &diag);
    if (o.json) {
        json_t *made = keys_identity_json(o.name, dbe_credential_identity(cred));
        (void)json_object_set_new(made, "old_revoked", json_boolean(what.revoke_old));
        dbe_credential_free(cred);
        return cli_print_json(made);
    }
    keys_print_identity(o.name, dbe_credential_identity(cred));
    printf("  new           key and certificate%s\n",
           what.revoke_old ? "; the old certificate is on the revocation list" : "");
    printf("  next          dsmil channels renew, for services that are up\n");
    dbe_credential_free(cred);
    return CLI_OK;
}

int keys_revoke(int argc, char **argv)
{
    struct keys_opts o = {0};
    enum dbe_revoke_reason reason;
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    uint64_t number = 0;
    int rc = keys_options(argc, argv, true, &o);

    if (rc == CLI_OK)
        rc = read_reason(&o, DBE_REVOKE_UNSPECIFIED, &reason);
    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("revoke needs the NAME of a node or the SERIAL number of a certificate", NULL);
    dbe_err err = dbe_keys_revoke(o.dir, o.name, reason, &diag);
    if (err == DBE_OK)
        err = dbe_trust_load(o.dir, &trust, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys revoke", err, &diag);
    dbe_trust_revocations(trust, NULL, NULL, &number);
    if (o.json) {
        rc = cli_print_json(json_pack("{s:s,s:s,s:s,s:I,s:I}", "name", o.name, "reason", dbe_revoke_reason_name(reason),
                                      "mesh", dbe_trust_mesh(trust), "revocation_list", (json_int_t)number, "revoked",
                                      (json_int_t)dbe_trust_revoked_count(trust)));
        dbe_trust_free(trust);
        return rc;
    }
    printf("%s is revoked (%s): list %llu of mesh %s now names %zu\n", o.name, dbe_revoke_reason_name(reason),
           (unsigned long long)number, dbe_trust_mesh(trust), dbe_trust_revoked_count(trust));
    printf("  list          %s/ca.crl\n", o.dir);
    dbe_trust_free(trust);
    return CLI_OK;
}

int keys_verify(int argc, char **argv)
{
    struct keys_opts o = {0};
    struct dbe_identity id;
    struct dbe_diag diag = {0};
    int rc = keys_options(argc, argv, true, &o);

    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("verify needs the NAME of a node or a certificate's FILE", NULL);
    dbe_err err = dbe_keys_verify(o.dir, o.name, &id, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys verify", err, &diag);
    if (o.json)
        return cli_print_json(keys_identity_json(o.name, &id));
    keys_print_identity(o.name, &id);
    printf("  verified      signed by this mesh's CA, valid now, not revoked\n");
    return CLI_OK;
}

int keys_seal(int argc, char **argv)
{
    static const char *const words[] = {
        [DBE_SEAL_AUTO] = "unknown",
        [DBE_SEAL_PLAIN] = "plain, for whoever can read the file",
        [DBE_SEAL_PASSPHRASE] = "under a passphrase",
        [DBE_SEAL_TPM] = "by this machine's TPM",
    };
    struct keys_opts o = {0};
    enum dbe_seal_kind kind = DBE_SEAL_AUTO;
    struct dbe_diag diag = {0};
    int rc = keys_options(argc, argv, true, &o);

    if (rc != CLI_OK)
        return rc;
    if (o.name == NULL)
        return keys_wrong("seal needs the NAME of a key (ca for the authority's)", NULL);
    if (o.seal.kind == DBE_SEAL_AUTO && getenv("DSMIL_PASSPHRASE_FILE") == NULL && getenv("DSMIL_TPM") == NULL)
        return keys_wrong("seal needs --passphrase-file FILE, --tpm or --plain", NULL);
    dbe_err err = dbe_keys_seal(o.dir, o.name, &diag);
    if (err == DBE_OK)
        err = dbe_keys_seal_kind(o.dir, o.name, &kind, &diag);
    if (err != DBE_OK)
        return cli_fail(keys_code(err), "keys seal", err, &diag);
    if (o.json)
        return cli_print_json(json_pack("{s:s,s:s}", "name", o.name, "sealed",
                                        kind == DBE_SEAL_PLAIN        ? "plain"
                                        : kind == DBE_SEAL_PASSPHRASE ? "passphrase"
                                        : kind == DBE_SEAL_TPM        ? "tpm"
                                                                      : "unknown"));
    printf("%s/%s.key is sealed now: %s\n", o.dir, o.name, words[kind]);
    return CLI_OK;
}
