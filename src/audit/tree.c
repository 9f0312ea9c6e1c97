/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.c - the Merkle tree over the lines of the log (spec audit 5): RFC 9162, section 2.1.1, with SHA3-512.
 *
 * Kept is only what growing needs: the roots of the perfect subtrees, largest first, as the bits of the size say.
 */
#include <string.h>

#include "audit/audit.h"

dbe_err audit_leaf_hash(const void *line, size_t len, uint8_t ret[AUDIT_HASH_BYTES])
{
    uint8_t text[1 + AUDIT_LINE_MAX];

    if (len > AUDIT_LINE_MAX)
        return DBE_E_TOO_LARGE;
    text[0] = 0;
    memcpy(text + 1, line, len);
    return crypto_sha3_512(text, 1 + len, ret);
}

dbe_err audit_node_hash(const uint8_t left[AUDIT_HASH_BYTES], const uint8_t right[AUDIT_HASH_BYTES],
                        uint8_t ret[AUDIT_HASH_BYTES])
{
    uint8_t text[1 + 2 * AUDIT_HASH_BYTES];

    text[0] = 1;
    memcpy(text + 1, left, AUDIT_HASH_BYTES);
    memcpy(text + 1 + AUDIT_HASH_BYTES, right, AUDIT_HASH_BYTES);
    return crypto_sha3_512(text, sizeof text, ret);
}

/* Like adding one to a binary number: each carry joins two subtrees of one size. The size changes last, so that a
 * failure on the way leaves the tree as it was. */
dbe_err audit_tree_add(struct audit_tree *t, const uint8_t leaf[AUDIT_HASH_BYTES])
{
    uint8_t sum[AUDIT_HASH_BYTES];
    unsigned k = 0;

    memcpy(sum, leaf, sizeof sum);
    for (; (t->size >> k & 1) != 0; k++)
        DBE_TRY(audit_node_hash(t->node[k], sum, sum));
    memcpy(t->node[k], sum, sizeof sum);
    t->size++;
    return DBE_OK;
}

dbe_err audit_tree_root(const struct audit_tree *t, uint8_t ret[AUDIT_HASH_BYTES])
{
    uint8_t sum[AUDIT_HASH_BYTES];
    bool have = false;

    if (t->size == 0)
        return crypto_sha3_512("", 0, ret);
    for (unsigned k = 0; k < 64 && t->size >> k != 0; k++) {
        if ((t->size >> k & 1) == 0)
            continue;
        if (have)
            DBE_TRY(audit_node_hash(t->node[k], sum, sum));
        else
            memcpy(sum, t->node[k], sizeof sum);
        have = true;
    }
    memcpy(ret, sum, sizeof sum);
    return DBE_OK;
}
