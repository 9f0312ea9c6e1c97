/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_key.c - whose key signed a checkpoint: a certificate beside the log, judged by the mesh's CA (spec audit 7.4).
 *
 * In:   <audit>/certs/<key id>.der, the key store's ca.crt    Out: the public key, or why there is none
 */
#include "cli/audit_key.h"

#include <stdio.h>
#include <string.h>

/* A certificate that was revoked since may have signed in good faith, or not: nobody can tell from here. */
static dbe_err judge(void *ctx, const uint8_t *der, size_t len, uint64_t time_ms, char ret_origin[AUDIT_ORIGIN_MAX],
                     uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    const struct audit_keys *k = ctx;
    struct dbe_identity id;

    DBE_TRY(dbe_trust_verify(k->trust, der, len, time_ms, &id, ret_pk, diag));
    if (id.role != DBE_ROLE_AUDIT)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "%.80s may not sign for an audit log", id.spiffe_id);
    (void)snprintf(ret_origin, AUDIT_ORIGIN_MAX, "%.120s/audit/%u", id.mesh, id.device);
    return DBE_OK;
}

dbe_err audit_keys_open(struct audit_keys *k, const char *dir, const char *keys, struct dbe_diag *diag)
{
    *k = (struct audit_keys){.certs = {.dir = dir, .judge = judge, .ctx = k}};
    return dbe_trust_load(keys, &k->trust, diag);
}

void audit_keys_close(struct audit_keys *k)
{
    dbe_trust_free(k->trust);
    k->trust = NULL;
}
