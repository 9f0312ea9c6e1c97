/* SPDX-License-Identifier: Apache-2.0
 *
 * proof.c - inclusion and consistency proofs (spec audit 6): RFC 9162, sections 2.1.3 and 2.1.4.
 *
 * A proof is a list of roots of subtrees that do not overlap. Which they are follows from the numbers alone, so one
 * pass over the leaves fills them all: memory grows with the proof, not with the log.
 */
#include <string.h>

#include "audit/audit.h"

struct range { /* leaves [lo, hi) */
    uint64_t lo, hi;
    struct audit_tree tree;
};

struct audit_prover {
    uint64_t next, size; /* the leaf that comes next */
    size_t count;
    struct range ranges[AUDIT_PROOF_MAX]; /* in the order of the proof */
};

/* The largest power of two below n, n > 1. */
static uint64_t split(uint64_t n)
{
    uint64_t k = 1;

    while (k < n - k) /* n may be above 2^63 */
        k *= 2;
    return k;
}

static void take(struct audit_prover *p, uint64_t lo, uint64_t hi)
{
    p->ranges[p->count].lo = lo;
    p->ranges[p->count].hi = hi;
    p->count++;
}

/* Both proofs run from the root down and are written from the leaf up. */
static void reverse(struct audit_prover *p)
{
    for (size_t i = 0, j = p->count; i + 1 < j; i++) {
        j--;
        uint64_t lo = p->ranges[i].lo, hi = p->ranges[i].hi;
        p->ranges[i].lo = p->ranges[j].lo;
        p->ranges[i].hi = p->ranges[j].hi;
        p->ranges[j].lo = lo;
        p->ranges[j].hi = hi;
    }
}

dbe_err audit_prover_inclusion(uint64_t index, uint64_t size, struct audit_prover **ret)
{
    uint64_t lo = 0, hi = size;

    if (index >= size)
        return DBE_E_RANGE;
    struct audit_prover *p = base_alloc(1, sizeof *p);
    if (p == NULL)
        return DBE_E_NOMEM;
    p->size = size;
    while (hi - lo > 1) {
        uint64_t mid = lo + split(hi - lo);
        if (index < mid) {
            take(p, mid, hi);
            hi = mid;
        } else {
            take(p, lo, mid);
            lo = mid;
        }
    }
    reverse(p);
    *ret = p;
    return DBE_OK;
}

/* SUBPROOF(m, D[lo:hi], whole): `whole` says that D[0:m] of this call is a subtree whose root the verifier has. */
dbe_err audit_prover_consistency(uint64_t old, uint64_t size, struct audit_prover **ret)
{
    uint64_t lo = 0, hi = size;
    bool whole = true;

    if (old == 0 || old > size)
        return DBE_E_RANGE;
    struct audit_prover *p = base_alloc(1, sizeof *p);
    if (p == NULL)
        return DBE_E_NOMEM;
    p->size = size;
    while (old != hi) { /* old lies in (lo, hi] */
        uint64_t mid = lo + split(hi - lo);
        if (old <= mid) {
            take(p, mid, hi);
            hi = mid;
        } else {
            take(p, lo, mid);
            lo = mid;
            whole = false;
        }
    }
    if (!whole)
        take(p, lo, hi);
    reverse(p);
    *ret = p;
    return DBE_OK;
}

/* The perfect subtrees of `base`, largest first, go whole into the range that they lie in. */
dbe_err audit_prover_begin(struct audit_prover *p, const struct audit_tree *base)
{
    uint64_t at = 0;

    if (p->next != 0 || base->size > p->size)
        return DBE_E_STATE;
    for (unsigned k = 64; k-- > 0;) {
        uint64_t len = UINT64_C(1) << k;
        if ((base->size & len) == 0)
            continue;
        for (size_t i = 0; i < p->count; i++) {
            struct range *r = &p->ranges[i];
            if (r->hi <= at || r->lo >= at + len)
                continue;
            if (r->lo > at || r->hi < at + len)
                return DBE_E_RANGE;
            memcpy(r->tree.node[k], base->node[k], AUDIT_HASH_BYTES);
            r->tree.size += len;
        }
        at += len;
    }
    p->next = base->size;
    return DBE_OK;
}

dbe_err audit_prover_leaf(struct audit_prover *p, const uint8_t leaf[AUDIT_HASH_BYTES])
{
    if (p->next >= p->size)
        return DBE_E_STATE;
    for (size_t i = 0; i < p->count; i++)
        if (p->next >= p->ranges[i].lo && p->next < p->ranges[i].hi) {
            DBE_TRY(audit_tree_add(&p->ranges[i].tree, leaf));
            break;
        }
    p->next++;
    return DBE_OK;
}

dbe_err audit_prover_finish(const struct audit_prover *p, struct audit_proof *ret)
{
    if (p->next != p->size)
        return DBE_E_STATE;
    ret->count = p->count;
    for (size_t i = 0; i < p->count; i++)
        DBE_TRY(audit_tree_root(&p->ranges[i].tree, ret->hash[i]));
    return DBE_OK;
}

void audit_prover_free(struct audit_prover *p)
{
    base_free(p);
}

/* ---- verifying ---------------------------------------------------------------------------------------------- */

dbe_err audit_verify_inclusion(uint64_t index, uint64_t size, const uint8_t leaf[AUDIT_HASH_BYTES],
                               const struct audit_proof *proof, const uint8_t root[AUDIT_HASH_BYTES])
{
    uint64_t fn = index, sn = size - 1;
    uint8_t r[AUDIT_HASH_BYTES];

    if (index >= size)
        return DBE_E_MALFORMED;
    memcpy(r, leaf, sizeof r);
    for (size_t i = 0; i < proof->count; i++) {
        if (sn == 0)
            return DBE_E_MALFORMED;
        if ((fn & 1) != 0 || fn == sn) {
            DBE_TRY(audit_node_hash(proof->hash[i], r, r));
            while ((fn & 1) == 0 && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            DBE_TRY(audit_node_hash(r, proof->hash[i], r));
        }
        fn >>= 1;
        sn >>= 1;
    }
    if (sn != 0)
        return DBE_E_MALFORMED;
    return memcmp(r, root, sizeof r) == 0 ? DBE_OK : DBE_E_AUTH;
}

/* One step up for both trees. */
static dbe_err climb(uint64_t *fn, uint64_t *sn, const uint8_t *hash, uint8_t *fr, uint8_t *sr)
{
    if ((*fn & 1) != 0 || *fn == *sn) {
        DBE_TRY(audit_node_hash(hash, fr, fr));
        DBE_TRY(audit_node_hash(hash, sr, sr));
        while ((*fn & 1) == 0 && *fn != 0) {
            *fn >>= 1;
            *sn >>= 1;
        }
    } else {
        DBE_TRY(audit_node_hash(sr, hash, sr));
    }
    *fn >>= 1;
    *sn >>= 1;
    return DBE_OK;
}

dbe_err audit_verify_consistency(uint64_t old, const uint8_t old_root[AUDIT_HASH_BYTES], uint64_t size,
                                 const uint8_t root[AUDIT_HASH_BYTES], const struct audit_proof *proof)
{
    uint64_t fn = old - 1, sn = size - 1;
    uint8_t fr[AUDIT_HASH_BYTES], sr[AUDIT_HASH_BYTES];
    size_t at = 0;

    if (old == 0 || old > size)
        return DBE_E_MALFORMED;
    if (old == size)
        return proof->count != 0                               ? DBE_E_MALFORMED
               : memcmp(old_root, root, AUDIT_HASH_BYTES) == 0 ? DBE_OK
                                                               : DBE_E_AUTH;
    if (proof->count == 0)
        return DBE_E_MALFORMED;
    while ((fn & 1) != 0) {
        fn >>= 1;
        sn >>= 1;
    }
    /* Where old is a power of two its root begins the climb and does not stand in the proof. */
    const uint8_t *first = fn == 0 ? old_root : proof->hash[at++];
    memcpy(fr, first, sizeof fr);
    memcpy(sr, first, sizeof sr);
    for (; at < proof->count; at++) {
        if (sn == 0)
            return DBE_E_MALFORMED;
        DBE_TRY(climb(&fn, &sn, proof->hash[at], fr, sr));
    }
    if (sn != 0)
        return DBE_E_MALFORMED;
    return memcmp(fr, old_root, sizeof fr) == 0 && memcmp(sr, root, sizeof sr) == 0 ? DBE_OK : DBE_E_AUTH;
}
