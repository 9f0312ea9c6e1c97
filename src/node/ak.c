/* SPDX-License-Identifier: Apache-2.0
 *
 * ak.c - the attestation key of a node in the store, <dir>/<name>.ak.
 *
 * In:   the file; or a TPM that makes a key    Out: struct node_ak
 *
 *   version u8 = 1 | registers u32 | public u16 + bytes | private u16 + bytes | point 65, in armour
 *
 * The private part is wrapped by the TPM: the file is no secret, but it is kept like one.
 * Does not: quote (evidence.c).
 */
#include <limits.h>
#include <string.h>

#include "armour.h"
#include "evidence.h"
#include "issue.h"
#include "seal.h"

static const char clause[] = "attestation key";
static const char label[] = "DSMIL TPM ATTESTATION KEY";

enum { AK_VERSION = 1, AK_FILE_MAX_BYTES = 8192, POINT_UNCOMPRESSED = 4 };

dbe_err ak_parse(const uint8_t *bytes, size_t len, struct node_ak *ret)
{
    struct base_cur c = base_cur_of(bytes, len);
    struct node_ak ak = {0};

    if (base_cur_u8(&c) != AK_VERSION)
        return DBE_E_MALFORMED;
    ak.pcrs = base_cur_u32(&c);
    ak.blob.pub_len = base_cur_u16(&c);
    if (ak.blob.pub_len == 0 || ak.blob.pub_len > sizeof ak.blob.pub)
        return DBE_E_MALFORMED;
    base_cur_copy(&c, ak.blob.pub, ak.blob.pub_len);
    ak.blob.priv_len = base_cur_u16(&c);
    if (ak.blob.priv_len == 0 || ak.blob.priv_len > sizeof ak.blob.priv)
        return DBE_E_MALFORMED;
    base_cur_copy(&c, ak.blob.priv, ak.blob.priv_len);
    base_cur_copy(&c, ak.point, sizeof ak.point);
    DBE_TRY(base_cur_end(&c));
    if (ak.point[0] != POINT_UNCOMPRESSED || ak.pcrs == 0 || (ak.pcrs & ~(uint32_t)SEAL_TPM_PCRS_ALL) != 0)
        return DBE_E_MALFORMED;
    *ret = ak;
    return DBE_OK;
}

dbe_err ak_read(const char *dir, const char *name, struct node_ak *ret, struct dbe_diag *diag)
{
    struct base_buf text, bytes;

    base_buf_init(&text, AK_FILE_MAX_BYTES);
    base_buf_init(&bytes, AK_FILE_MAX_BYTES);
    dbe_err err = keys_read_key_text(dir, name, "ak", &text, diag);
    if (err == DBE_OK) {
        struct base_cur c = base_cur_of(text.data, text.len);
        err = armour_take(&c, label, &bytes);
        if (err == DBE_OK)
            err = base_cur_end(&c);
        if (err == DBE_OK)
            err = ak_parse(bytes.data, bytes.len, ret);
        if (err != DBE_OK)
            err = dbe_fail(diag, err == DBE_E_NOMEM ? err : DBE_E_CONFIG, clause, 0,
                           "%.60s.ak is damaged: remove it and issue the identity again", name);
    }
    base_buf_free(&text);
    base_buf_free(&bytes);
    return err;
}

static dbe_err ak_write(const char *dir, const char *name, const struct node_ak *ak, struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct base_buf bytes, text;

    DBE_TRY(dbe_keys_path(dir, name, "ak", path, sizeof path));
    base_buf_init(&bytes, AK_FILE_MAX_BYTES);
    base_buf_init(&text, AK_FILE_MAX_BYTES);
    base_buf_u8(&bytes, AK_VERSION);
    base_buf_u32(&bytes, ak->pcrs);
    base_buf_u16(&bytes, (uint16_t)ak->blob.pub_len);
    base_buf_bytes(&bytes, ak->blob.pub, ak->blob.pub_len);
    base_buf_u16(&bytes, (uint16_t)ak->blob.priv_len);
    base_buf_bytes(&bytes, ak->blob.priv, ak->blob.priv_len);
    base_buf_bytes(&bytes, ak->point, sizeof ak->point);
    armour_put(&text, label, bytes.data, bytes.len);
    dbe_err err = bytes.err != DBE_OK ? bytes.err : text.err;
    if (err == DBE_OK)
        err = base_file_write(path, text.data, text.len, 0600, diag);
    base_buf_free(&bytes);
    base_buf_free(&text);
    return err;
}

dbe_err ak_of(const char *dir, const char *name, uint32_t pcrs, struct node_ak *ret, struct dbe_diag *diag)
{
    struct node_ak ak = {.pcrs = pcrs != 0 ? pcrs : EVIDENCE_PCRS_DEFAULT};
    struct tpm *tpm = NULL;

    if (keys_file_there(dir, name, "ak"))
        return ak_read(dir, name, ret, diag);
    DBE_TRY(tpm_open(seal_tcti(), &tpm, diag));
    dbe_err err = tpm_ak_make(tpm, &ak.blob, ak.point, diag);
    tpm_close(tpm);
    DBE_TRY(err);
    DBE_TRY(ak_write(dir, name, &ak, diag));
    *ret = ak;
    return DBE_OK;
}
