/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_key.c - whose key signed a checkpoint: a certificate beside the log, judged by the mesh's CA (spec audit 7.4).
 *
 * In:   <audit>/certs/<key id>.der, the key store's ca.crt    Out: the public key, or why there is none
 */
#include "cli/audit_key.h"

#include <stdio.h>
#include <string.h>

dbe_err audit_keys_open(struct audit_keys *k, const char *dir, const char *keys, struct dbe_diag *diag)
{
    *k = (struct audit_keys){.dir = dir};
    return dbe_trust_load(keys, &k->trust, diag);
}

void audit_keys_close(struct audit_keys *k)
{
    dbe_trust_free(k->trust);
    k->trust = NULL;
}

/* A certificate that was revoked since may have signed in good faith, or not: nobody can tell from here. */
static dbe_err judge(struct audit_keys *k, const struct base_buf *der, const char *origin, uint64_t time_ms,
                     uint8_t *pk, struct dbe_diag *diag)
{
    char want[AUDIT_ORIGIN_MAX];
    struct dbe_identity id;

    DBE_TRY(dbe_trust_verify(k->trust, der->data, der->len, time_ms, &id, pk, diag));
    snprintf(want, sizeof want, "%.120s/audit/%u", id.mesh, id.device);
    if (id.role != DBE_ROLE_AUDIT || strcmp(want, origin) != 0)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "%.80s may not sign for %.60s", id.spiffe_id, origin);
    return DBE_OK;
}

dbe_err audit_keys_find(void *ctx, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                        uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    struct audit_keys *k = ctx;
    char path[AUDIT_PATH_MAX], hex[2 * AUDIT_KEY_ID_BYTES + 1];
    uint8_t found[CRYPTO_MLDSA87_PK_BYTES], id[AUDIT_KEY_ID_BYTES];
    struct base_buf der = {0};

    base_hex(key_id, AUDIT_KEY_ID_BYTES, hex);
    if (snprintf(path, sizeof path, "%s/certs/%s.der", k->dir, hex) >= (int)sizeof path)
        return dbe_fail(diag, DBE_E_ARGUMENT, "audit 7.4", 0, "the directory's path is too long");
    dbe_err err = base_file_read(path, DBE_CERT_MAX_BYTES, &der, diag);
    if (err == DBE_E_NOT_FOUND)
        err = dbe_fail(diag, DBE_E_NOT_FOUND, "audit 7.4", 0, "there is no certificate with the key %s", hex);
    if (err == DBE_OK)
        err = judge(k, &der, origin, time_ms, found, diag);
    base_buf_free(&der);
    DBE_TRY(err);
    DBE_TRY(audit_key_id(origin, found, id));
    if (memcmp(id, key_id, sizeof id) != 0)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "%s.der holds another key", hex);
    memcpy(pk, found, sizeof found);
    return DBE_OK;
}
