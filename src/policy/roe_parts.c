/* SPDX-License-Identifier: Apache-2.0
 *
 * roe_parts.c - takes an ROE token apart as it travels in one piece. In: a file's bytes, or a gateway's client's
 * (hostile). Out: where its parts lie. Verifies nothing (roe.c).
 */
#include <string.h>

#include "policy/roe.h"

enum { ID_AT = 5 }; /* spec 16.2 */

dbe_err pol_roe_parts_read(const uint8_t *piece, size_t len, struct pol_roe_parts *ret, const char **ret_reason)
{
    struct base_cur c = base_cur_of(piece, len);
    const uint8_t *head = base_cur_bytes(&c, sizeof POL_ROE_MAGIC - 1);
    struct pol_roe_parts parts = {0};

    *ret_reason = "is no ROE token file";
    if (head == NULL || memcmp(head, POL_ROE_MAGIC, sizeof POL_ROE_MAGIC - 1) != 0)
        return DBE_E_MALFORMED;
    *ret_reason = "is a damaged ROE token file";
    parts.body_len = base_cur_u16(&c);
    parts.body = base_cur_bytes(&c, parts.body_len);
    parts.count = base_cur_u8(&c);
    if (parts.body == NULL || parts.body_len < ID_AT + POL_ROE_ID_BYTES || parts.body_len > POL_ROE_BODY_MAX ||
        parts.count > POL_ROE_APPROVALS_MAX)
        return DBE_E_MALFORMED;
    parts.id = parts.body + ID_AT;
    for (size_t i = 0; i < parts.count; i++)
        parts.approvals[i] = base_cur_bytes(&c, POL_ROE_APPROVAL_BYTES);
    if (parts.count < POL_ROE_APPROVALS_MAX)
        parts.asked = base_cur_bytes(&c, POL_ROE_APPROVAL_BYTES);
    if (base_cur_end(&c) != DBE_OK)
        return DBE_E_MALFORMED;
    *ret = parts;
    return DBE_OK;
}
