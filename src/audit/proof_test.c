/* SPDX-License-Identifier: Apache-2.0
 *
 * proof_test.c - tree and proofs held against RFC 9162's definitions written down naively, for every index and size up
 * to a bound; and no altered proof is taken (spec audit 5 and 6).
 */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#include "audit/audit.h"

enum { LEAVES = 70, H = AUDIT_HASH_BYTES };

static uint8_t leaves[LEAVES][H];

static size_t split(size_t n)
{
    size_t k = 1;

    while (2 * k < n)
        k *= 2;
    return k;
}

/* MTH(D[n]), section 2.1.1 */
static void naive_root(const uint8_t (*d)[H], size_t n, uint8_t out[H])
{
    uint8_t l[H], r[H];

    if (n == 0) {
        assert_int_equal(crypto_sha3_512("", 0, out), DBE_OK);
    } else if (n == 1) {
        memcpy(out, d[0], H);
    } else {
        naive_root(d, split(n), l);
        naive_root(d + split(n), n - split(n), r);
        assert_int_equal(audit_node_hash(l, r, out), DBE_OK);
    }
}

/* PATH(m, D[n]), section 2.1.3.1 */
static size_t naive_path(size_t m, const uint8_t (*d)[H], size_t n, uint8_t (*out)[H])
{
    if (n == 1)
        return 0;
    size_t k = split(n), count;
    if (m < k) {
        count = naive_path(m, d, k, out);
        naive_root(d + k, n - k, out[count]);
    } else {
        count = naive_path(m - k, d + k, n - k, out);
        naive_root(d, k, out[count]);
    }
    return count + 1;
}

/* SUBPROOF(m, D[n], b), section 2.1.4.1 */
static size_t naive_subproof(size_t m, const uint8_t (*d)[H], size_t n, bool b, uint8_t (*out)[H])
{
    if (m == n) {
        if (b)
            return 0;
        naive_root(d, n, out[0]);
        return 1;
    }
    size_t k = split(n), count;
    if (m <= k) {
        count = naive_subproof(m, d, k, b, out);
        naive_root(d + k, n - k, out[count]);
    } else {
        count = naive_subproof(m - k, d + k, n - k, false, out);
        naive_root(d, k, out[count]);
    }
    return count + 1;
}

static void prove(struct audit_prover *p, size_t size, struct audit_proof *out)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(audit_prover_leaf(p, leaves[i]), DBE_OK);
    assert_int_equal(audit_prover_leaf(p, leaves[0]), DBE_E_STATE);
    assert_int_equal(audit_prover_finish(p, out), DBE_OK);
    audit_prover_free(p);
}

/* spec audit 5.2 */
static void roots(void **state)
{
    struct audit_tree t = {0};
    uint8_t want[H], got[H];

    (void)state;
    for (size_t n = 0; n <= LEAVES; n++) {
        naive_root(leaves, n, want);
        assert_int_equal(audit_tree_root(&t, got), DBE_OK);
        assert_memory_equal(want, got, H);
        if (n < LEAVES)
            assert_int_equal(audit_tree_add(&t, leaves[n]), DBE_OK);
    }
}

/* spec audit 6.1 */
static void inclusion(void **state)
{
    uint8_t want[AUDIT_PROOF_MAX][H], root[H];

    (void)state;
    for (size_t n = 1; n <= LEAVES; n += n > 34 ? 7 : 1) {
        naive_root(leaves, n, root);
        for (size_t m = 0; m < n; m++) {
            struct audit_prover *p;
            struct audit_proof got;
            assert_int_equal(audit_prover_inclusion(m, n, &p), DBE_OK);
            prove(p, n, &got);
            assert_int_equal(got.count, naive_path(m, leaves, n, want));
            assert_memory_equal(got.hash, want, got.count * H);
            assert_int_equal(audit_verify_inclusion(m, n, leaves[m], &got, root), DBE_OK);
            assert_int_not_equal(audit_verify_inclusion(m, n, leaves[(m + 1) % LEAVES], &got, root), DBE_OK);
            if (n > 1)
                assert_int_not_equal(audit_verify_inclusion((m + 1) % n, n, leaves[m], &got, root), DBE_OK);
            for (size_t i = 0; i < got.count; i++) {
                got.hash[i][i % H] ^= 1;
                assert_int_equal(audit_verify_inclusion(m, n, leaves[m], &got, root), DBE_E_AUTH);
                got.hash[i][i % H] ^= 1;
            }
            got.count++;
            assert_int_not_equal(audit_verify_inclusion(m, n, leaves[m], &got, root), DBE_OK);
        }
    }
}

/* spec audit 6.2 */
static void consistency(void **state)
{
    uint8_t want[AUDIT_PROOF_MAX][H], old_root[H], root[H], wrong[H] = {0};

    (void)state;
    for (size_t n = 1; n <= LEAVES; n += n > 34 ? 7 : 1) {
        naive_root(leaves, n, root);
        for (size_t m = 1; m <= n; m++) {
            struct audit_prover *p;
            struct audit_proof got;
            naive_root(leaves, m, old_root);
            assert_int_equal(audit_prover_consistency(m, n, &p), DBE_OK);
            prove(p, n, &got);
            assert_int_equal(got.count, naive_subproof(m, leaves, n, true, want));
            assert_memory_equal(got.hash, want, got.count * H);
            assert_int_equal(audit_verify_consistency(m, old_root, n, root, &got), DBE_OK);
            assert_int_not_equal(audit_verify_consistency(m, wrong, n, root, &got), DBE_OK);
            assert_int_not_equal(audit_verify_consistency(m, old_root, n, wrong, &got), DBE_OK);
            for (size_t i = 0; i < got.count; i++) {
                got.hash[i][i % H] ^= 1;
                assert_int_equal(audit_verify_consistency(m, old_root, n, root, &got), DBE_E_AUTH);
                got.hash[i][i % H] ^= 1;
            }
            got.count++;
            assert_int_not_equal(audit_verify_consistency(m, old_root, n, root, &got), DBE_OK);
        }
    }
}

/* spec audit 10.6: the first leaves are elsewhere, and their tree's subtrees prove as much of the rest */
static void without_the_beginning(void **state)
{
    struct audit_tree base = {0};
    struct audit_proof proof, whole;
    struct audit_prover *p = NULL;

    (void)state;
    for (uint64_t n = 1; n <= 40; n++) {
        base = (struct audit_tree){0};
        for (uint64_t cut = 0; cut < n; cut++) {
            for (uint64_t i = 0; i < 2 * n; i++) { /* inclusion of i, then consistency from i - n + 1 */
                bool inclusion = i < n;
                uint64_t what = inclusion ? i : i - n + 1;
                for (int from_base = 0; from_base < 2; from_base++) {
                    assert_int_equal(inclusion ? audit_prover_inclusion(what, n, &p)
                                               : audit_prover_consistency(what, n, &p),
                                     DBE_OK);
                    dbe_err err = from_base ? audit_prover_begin(p, &base) : DBE_OK;
                    if (what >= cut)
                        assert_int_equal(err, DBE_OK);
                    for (uint64_t k = from_base ? cut : 0; k < n && err == DBE_OK; k++)
                        assert_int_equal(audit_prover_leaf(p, leaves[k]), DBE_OK);
                    if (err == DBE_OK)
                        assert_int_equal(audit_prover_finish(p, from_base ? &proof : &whole), DBE_OK);
                    audit_prover_free(p);
                    if (err != DBE_OK) {
                        assert_int_equal(err, DBE_E_RANGE);
                        proof = whole;
                    }
                }
                assert_int_equal(proof.count, whole.count);
                assert_memory_equal(proof.hash, whole.hash, proof.count * sizeof proof.hash[0]);
            }
            assert_int_equal(audit_tree_add(&base, leaves[cut]), DBE_OK);
        }
    }
}

/* spec audit 6.3: one hash more or less than the numbers ask for */
static void lengths(void **state)
{
    struct audit_prover *p = NULL;
    struct audit_proof proof;
    uint8_t root[H], old_root[H];

    (void)state;
    for (uint64_t n = 2; n <= 20; n++) {
        naive_root((const uint8_t(*)[H])leaves, n, root);
        naive_root((const uint8_t(*)[H])leaves, n - 1, old_root);
        assert_int_equal(audit_prover_inclusion(n / 2, n, &p), DBE_OK);
        prove(p, n, &proof);
        for (size_t count = 0; count <= proof.count + 1; count++) {
            struct audit_proof other = proof;
            other.count = count;
            dbe_err want = count == proof.count ? DBE_OK : DBE_E_MALFORMED;
            assert_int_equal(audit_verify_inclusion(n / 2, n, leaves[n / 2], &other, root), want);
        }
        assert_int_equal(audit_prover_consistency(n - 1, n, &p), DBE_OK);
        prove(p, n, &proof);
        for (size_t count = 0; count <= proof.count + 1; count++) {
            struct audit_proof other = proof;
            other.count = count;
            dbe_err want = count == proof.count ? DBE_OK : DBE_E_MALFORMED;
            assert_int_equal(audit_verify_consistency(n - 1, old_root, n, root, &other), want);
        }
    }
}

static void bounds(void **state)
{
    struct audit_prover *p = NULL;
    struct audit_proof proof = {0};

    (void)state;
    assert_int_equal(audit_prover_inclusion(3, 3, &p), DBE_E_RANGE);
    assert_int_equal(audit_prover_consistency(0, 3, &p), DBE_E_RANGE);
    assert_int_equal(audit_prover_consistency(4, 3, &p), DBE_E_RANGE);
    assert_int_equal(audit_prover_inclusion(UINT64_MAX - 1, UINT64_MAX, &p), DBE_OK); /* fits the proof */
    assert_int_equal(audit_prover_finish(p, &proof), DBE_E_STATE);
    audit_prover_free(p);
    assert_int_equal(audit_prover_consistency(UINT64_MAX - 1, UINT64_MAX, &p), DBE_OK);
    audit_prover_free(p);
    assert_int_equal(audit_verify_inclusion(0, 0, leaves[0], &proof, leaves[0]), DBE_E_MALFORMED);
    assert_int_equal(audit_verify_consistency(0, leaves[0], 0, leaves[0], &proof), DBE_E_MALFORMED);
}

static int setup(void **state)
{
    (void)state;
    if (crypto_init(NULL) != DBE_OK)
        return -1;
    for (size_t i = 0; i < LEAVES; i++)
        if (audit_leaf_hash(&i, sizeof i, leaves[i]) != DBE_OK)
            return -1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots),       cmocka_unit_test(inclusion),
        cmocka_unit_test(consistency), cmocka_unit_test(without_the_beginning),
        cmocka_unit_test(lengths),     cmocka_unit_test(bounds),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
