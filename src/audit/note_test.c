/* SPDX-License-Identifier: Apache-2.0
 *
 * note_test.c - checkpoints, anchors and proof files: there and back, one spelling, signatures (spec audit 6 to 8).
 */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "audit/verify.h"

static struct crypto_key *key;
static uint8_t public_key[CRYPTO_MLDSA87_PK_BYTES];

static void make_note(struct base_buf *b, const char *origin, uint64_t size, const uint8_t root[AUDIT_HASH_BYTES])
{
    struct audit_checkpoint c = {.size = size, .time_ms = 1800000000000};
    uint8_t id[AUDIT_KEY_ID_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct base_buf body;

    snprintf(c.origin, sizeof c.origin, "%s", origin);
    memcpy(c.root, root, sizeof c.root);
    base_buf_init(&body, AUDIT_BODY_MAX);
    assert_int_equal(audit_checkpoint_put(&c, &body), DBE_OK);
    assert_int_equal(crypto_sign(key, AUDIT_CHECKPOINT_CTX, body.data, body.len, sig), DBE_OK);
    assert_int_equal(audit_key_id(origin, public_key, id), DBE_OK);
    assert_int_equal(audit_note_put(&c, id, sig, b), DBE_OK);
    base_buf_free(&body);
}

static dbe_err find_key(void *ctx, const char *origin, const uint8_t id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                        uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    uint8_t want[AUDIT_KEY_ID_BYTES];

    (void)ctx, (void)time_ms;
    assert_int_equal(audit_key_id(origin, public_key, want), DBE_OK);
    if (memcmp(id, want, sizeof want) != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "nobody has this key");
    memcpy(pk, public_key, sizeof public_key);
    return DBE_OK;
}

/* spec audit 7.1, 7.2 */
static void note_there_and_back(void **state)
{
    static const char front[] = "m/audit/14\n3\n";
    const uint8_t root[AUDIT_HASH_BYTES] = {9, 8, 7};
    struct audit_note n;
    struct base_buf b;
    size_t len;

    (void)state;
    base_buf_init(&b, AUDIT_NOTE_MAX);
    make_note(&b, "m/audit/14", 3, root);
    assert_memory_equal(b.data, front, sizeof front - 1);
    assert_int_equal(audit_note_get((char *)b.data, b.len, &n, &len), DBE_OK);
    assert_int_equal(len, b.len);
    assert_int_equal(n.checkpoint.size, 3);
    assert_memory_equal(n.checkpoint.root, root, sizeof root);
    assert_int_equal(audit_note_verify(&n, find_key, NULL, NULL), DBE_OK);
    for (size_t i = 0; i < b.len; i++) /* spec audit 7.3: no cut is a note */
        assert_int_equal(audit_note_get((char *)b.data, i, &n, &len), DBE_E_MALFORMED);
    base_buf_free(&b);
}

/* spec audit 7.4: no changed byte passes both reading and signature */
static void note_changed(void **state)
{
    const uint8_t root[AUDIT_HASH_BYTES] = {1};
    struct audit_note n;
    struct base_buf b;
    size_t len, read = 0;

    (void)state;
    base_buf_init(&b, AUDIT_NOTE_MAX);
    make_note(&b, "m/audit/14", 41, root);
    for (size_t i = 0; i < b.len; i += i < 200 ? 1 : 97) {
        b.data[i] ^= 1;
        if (audit_note_get((char *)b.data, b.len, &n, &len) == DBE_OK && len == b.len) {
            read++;
            assert_int_not_equal(audit_note_verify(&n, find_key, NULL, NULL), DBE_OK);
        }
        b.data[i] ^= 1;
    }
    assert_true(read > 10);
    base_buf_free(&b);
}

static void note_hostile(void **state)
{
    static const char *const bad[] = {
        "",
        "\n0\n\ntime 0\n\n",
        "m\n01\nAAAA\ntime 0\n\n\xe2\x80\x94 m AAAA\n",
        "a b\n1\nAAAA\ntime 0\n\n\xe2\x80\x94 a b AAAA\n",
        "m\n18446744073709551616\nAAAA\ntime 0\n\n",
    };
    struct audit_note n;
    size_t len;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        assert_int_equal(audit_note_get(bad[i], strlen(bad[i]), &n, &len), DBE_E_MALFORMED);
}

/* spec audit 8.1 */
static void anchor_there_and_back(void **state)
{
    struct audit_anchor a = {.size = 77, .root = {5}}, back;
    struct base_buf note, b;

    (void)state;
    base_buf_init(&b, 2 * AUDIT_NOTE_MAX);
    base_buf_init(&note, AUDIT_NOTE_MAX);
    assert_int_equal(audit_anchor_put(&a, &b), DBE_OK);
    assert_int_equal(audit_anchor_get((char *)b.data, b.len, &back), DBE_OK);
    assert_int_equal(back.size, 77);
    assert_false(back.has_note);
    make_note(&note, "m/audit/14", 70, a.root);
    a.has_note = true;
    a.note = (struct audit_text){(char *)note.data, note.len};
    base_buf_clear(&b);
    assert_int_equal(audit_anchor_put(&a, &b), DBE_OK);
    assert_int_equal(audit_anchor_get((char *)b.data, b.len, &back), DBE_OK);
    assert_true(back.has_note);
    assert_int_equal(back.note.len, note.len);
    for (size_t i = 0; i < b.len; i += 13)
        if (audit_anchor_get((char *)b.data, i, &back) == DBE_OK)
            assert_false(back.has_note); /* cut where the note would begin */
    base_buf_u8(&b, 'x');
    assert_int_equal(audit_anchor_get((char *)b.data, b.len, &back), DBE_E_MALFORMED);
    base_buf_free(&b);
    base_buf_free(&note);
}

/* spec audit 6.4: a proof as a file leads from the entry to the signature */
static void proof_file(void **state)
{
    struct audit_entry e = {.sender = "spiffe://m/l7/router/43", .record = {.kind = AUDIT_START}};
    struct audit_proof_file p = {0}, back;
    struct audit_tree tree = {0};
    struct audit_prover *prover;
    uint8_t leaf[AUDIT_HASH_BYTES], root[AUDIT_HASH_BYTES];
    struct base_buf line, note, b;
    struct audit_text t;

    (void)state;
    base_buf_init(&line, AUDIT_LINE_MAX);
    base_buf_init(&note, AUDIT_NOTE_MAX);
    base_buf_init(&b, 4 * AUDIT_NOTE_MAX);
    assert_int_equal(audit_prover_inclusion(2, 5, &prover), DBE_OK);
    for (e.index = 0; e.index < 5; e.index++) {
        base_buf_clear(&line);
        assert_int_equal(audit_line_put(&e, &line), DBE_OK);
        assert_int_equal(audit_leaf_hash(line.data, line.len, leaf), DBE_OK);
        assert_int_equal(audit_tree_add(&tree, leaf), DBE_OK);
        assert_int_equal(audit_prover_leaf(prover, leaf), DBE_OK);
    }
    assert_int_equal(audit_tree_root(&tree, root), DBE_OK);
    assert_int_equal(audit_prover_finish(prover, &p.proof), DBE_OK);
    audit_prover_free(prover);
    make_note(&note, "m/audit/14", 5, root);
    base_buf_clear(&line);
    e.index = p.index = 2;
    assert_int_equal(audit_line_put(&e, &line), DBE_OK);
    p.line = (struct audit_text){(char *)line.data, line.len};
    t = (struct audit_text){(char *)note.data, note.len};
    assert_int_equal(audit_proof_put(&p, t, t, &b), DBE_OK);
    assert_int_equal(audit_proof_get((char *)b.data, b.len, &back, NULL), DBE_OK);
    assert_int_equal(back.index, 2);
    assert_int_equal(audit_proof_verify(&back, find_key, NULL, NULL), DBE_OK);
    b.data[b.len - 4000] ^= 4; /* in the signature */
    if (audit_proof_get((char *)b.data, b.len, &back, NULL) == DBE_OK)
        assert_int_not_equal(audit_proof_verify(&back, find_key, NULL, NULL), DBE_OK);
    b.data[b.len - 4000] ^= 4;
    char *word = strstr((char *)b.data, "\"kind\":\"start\",\"count\":0");
    assert_non_null(word);
    word[strlen("\"kind\":\"start\",\"count\":")] = '1';
    assert_int_equal(audit_proof_get((char *)b.data, b.len, &back, NULL), DBE_OK);
    assert_int_equal(audit_proof_verify(&back, find_key, NULL, NULL), DBE_E_AUTH);
    for (size_t i = 0; i < b.len; i += 31)
        assert_int_equal(audit_proof_get((char *)b.data, i, &back, NULL), DBE_E_MALFORMED);
    base_buf_free(&b);
    base_buf_free(&note);
    base_buf_free(&line);
}

/* spec audit 6.5: two checkpoints of one log */
static void consistency_file(void **state)
{
    struct audit_proof_file p = {.consistency = true}, back;
    struct audit_tree tree = {0};
    struct audit_prover *prover;
    uint8_t leaf[AUDIT_HASH_BYTES], old_root[AUDIT_HASH_BYTES], root[AUDIT_HASH_BYTES];
    struct base_buf old, note, b;

    (void)state;
    base_buf_init(&old, AUDIT_NOTE_MAX);
    base_buf_init(&note, AUDIT_NOTE_MAX);
    base_buf_init(&b, 4 * AUDIT_NOTE_MAX);
    assert_int_equal(audit_prover_consistency(3, 7, &prover), DBE_OK);
    for (uint8_t i = 0; i < 7; i++) {
        assert_int_equal(audit_leaf_hash(&i, 1, leaf), DBE_OK);
        assert_int_equal(audit_tree_add(&tree, leaf), DBE_OK);
        assert_int_equal(audit_prover_leaf(prover, leaf), DBE_OK);
        if (i == 2)
            assert_int_equal(audit_tree_root(&tree, old_root), DBE_OK);
    }
    assert_int_equal(audit_tree_root(&tree, root), DBE_OK);
    assert_int_equal(audit_prover_finish(prover, &p.proof), DBE_OK);
    audit_prover_free(prover);
    make_note(&old, "m/audit/14", 3, old_root);
    make_note(&note, "m/audit/14", 7, root);
    struct audit_text a = {(char *)old.data, old.len}, c = {(char *)note.data, note.len};
    assert_int_equal(audit_proof_put(&p, a, c, &b), DBE_OK);
    assert_int_equal(audit_proof_get((char *)b.data, b.len, &back, NULL), DBE_OK);
    assert_int_equal(audit_proof_verify(&back, find_key, NULL, NULL), DBE_OK);
    base_buf_clear(&b);
    assert_int_equal(audit_proof_put(&p, c, a, &b), DBE_OK); /* the other way round */
    assert_int_equal(audit_proof_get((char *)b.data, b.len, &back, NULL), DBE_OK);
    assert_int_equal(audit_proof_verify(&back, find_key, NULL, NULL), DBE_E_AUTH);
    base_buf_free(&b);
    base_buf_free(&note);
    base_buf_free(&old);
}

static int setup(void **state)
{
    (void)state;
    return crypto_init(NULL) == DBE_OK && crypto_key_generate(&key) == DBE_OK &&
                   crypto_key_public(key, public_key) == DBE_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    crypto_key_free(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(note_there_and_back),   cmocka_unit_test(note_changed), cmocka_unit_test(note_hostile),
        cmocka_unit_test(anchor_there_and_back), cmocka_unit_test(proof_file),   cmocka_unit_test(consistency_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
