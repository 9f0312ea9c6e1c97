/* SPDX-License-Identifier: Apache-2.0
 *
 * certs.c - whose key signed: a certificate beside the log, judged by whoever knows the mesh's CA (spec audit 7.4).
 *
 * In:   <dir>/certs/<key id>.der    Out: the public key, or why there is none
 */
#include <stdio.h>
#include <string.h>

#include "audit/log.h"

enum { CERT_MAX_BYTES = 32 * 1024 };

dbe_err audit_certs_path(const char *dir, const uint8_t key_id[AUDIT_KEY_ID_BYTES], char ret[AUDIT_PATH_MAX])
{
    char hex[2 * AUDIT_KEY_ID_BYTES + 1];

    base_hex(key_id, AUDIT_KEY_ID_BYTES, hex);
    return snprintf(ret, AUDIT_PATH_MAX, "%s/certs/%s.der", dir, hex) < AUDIT_PATH_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

dbe_err audit_certs_find(void *ctx, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                         uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    const struct audit_certs *c = ctx;
    char path[AUDIT_PATH_MAX], whose[AUDIT_ORIGIN_MAX] = "";
    uint8_t found[CRYPTO_MLDSA87_PK_BYTES], id[AUDIT_KEY_ID_BYTES];
    struct base_buf der = {0};

    if (audit_certs_path(c->dir, key_id, path) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, "audit 7.4", 0, "the directory's path is too long");
    dbe_err err = base_file_read(path, CERT_MAX_BYTES, &der, diag);
    if (err == DBE_E_NOT_FOUND)
        err = dbe_fail(diag, DBE_E_NOT_FOUND, "audit 7.4", 0, "there is no certificate with the key %.8s",
                       strrchr(path, '/') + 1);
    if (err == DBE_OK)
        err = c->judge(c->ctx, der.data, der.len, time_ms, whose, found, diag);
    base_buf_free(&der);
    DBE_TRY(err);
    if (strcmp(whose, origin) != 0)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "who may sign for %.60s may not sign for %.60s", whose,
                        origin);
    DBE_TRY(audit_key_id(origin, found, id));
    if (memcmp(id, key_id, sizeof id) != 0)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "%.8s.der holds another key", strrchr(path, '/') + 1);
    memcpy(pk, found, sizeof found);
    return DBE_OK;
}
