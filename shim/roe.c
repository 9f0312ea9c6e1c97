/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.c - see roe.h.
 */
#include "shim/roe.h"

#include <string.h>

enum { TEXT_MAX = (POL_ROE_PIECE_MAX + 2) / 3 * 4, TLV_HEAD_BYTES = 4, TLVS = 4 };

/* base64url without padding, or base64, as the second. */
static size_t as_base64(const char *text, char *out)
{
    size_t len = strcspn(text, "=");

    for (size_t i = 0; i < len; i++)
        out[i] = text[i];
    for (size_t i = 0; i < len; i++)
        out[i] = out[i] == '-' ? '+' : out[i] == '_' ? '/' : out[i];
    while (len % 4 != 0)
        out[len++] = '=';
    return len;
}

static dbe_err refuse(struct shim_problem *p, const char *param, const char *why)
{
    return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': it %s.", param, why);
}

static dbe_err read_piece(const char *text, const char *param, struct shim_roe *roe, struct shim_problem *p)
{
    char base64[TEXT_MAX + 4];
    const char *why = NULL;
    size_t len = 0;

    if (strlen(text) > TEXT_MAX)
        return refuse(p, param, "is too long for an ROE token");
    if (base_unbase64(base64, as_base64(text, base64), roe->piece, sizeof roe->piece, &len) != DBE_OK)
        return refuse(p, param, "is no base64url");
    if (pol_roe_parts_read(roe->piece, len, &roe->parts, &why) != DBE_OK)
        return refuse(p, param, why);
    return roe->parts.count == POL_ROE_APPROVALS_MAX ? DBE_OK : refuse(p, param, "lacks one of its two approvals");
}

dbe_err shim_roe_read(const char *text, const char *param, struct shim_roe **ret, struct shim_problem *p)
{
    struct shim_roe *roe = base_alloc(1, sizeof *roe);

    if (roe == NULL) {
        shim_problem_of_mesh(p, DBE_E_NOMEM, NULL, NULL, 0);
        return DBE_E_NOMEM;
    }
    dbe_err err = read_piece(text, param, roe, p);
    if (err != DBE_OK)
        base_free(roe);
    else
        *ret = roe;
    return err;
}

size_t shim_roe_room(const struct shim_roe *roe)
{
    return roe != NULL ? sizeof roe->piece + POL_ROE_ID_BYTES + (size_t)TLVS * 2 * TLV_HEAD_BYTES : 0;
}

void shim_roe_build(struct dbe_builder *b, const struct shim_roe *roe)
{
    dbe_build_bytes(b, DBE_TLV_ROE_TOKEN, roe->parts.body, roe->parts.body_len);
    dbe_build_bytes(b, DBE_TLV_ROE_TOKEN_ID, roe->parts.id, POL_ROE_ID_BYTES);
    dbe_build_bytes(b, DBE_TLV_TWO_PERSON_SIG_A, roe->parts.approvals[0], POL_ROE_APPROVAL_BYTES);
    dbe_build_bytes(b, DBE_TLV_TWO_PERSON_SIG_B, roe->parts.approvals[1], POL_ROE_APPROVAL_BYTES);
}
