/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_test.c - attacks on a log: changed, removed, moved, cut, rolled back, written anew, signed by another. Each is
 * found and named (spec audit 9).
 */
#include "audit/log_fixture.h"

static struct audit_report verify(const char *const *anchors, size_t count)
{
    struct audit_verify what = {
        .place = {.dir = fx_dir}, .key = fx_find_key, .anchors = anchors, .anchor_count = count};

    return fx_verify(&what);
}

/* 12 entries, checkpoints after 5 and 10, an anchor "seen" of 11. */
static void make(char anchor[256])
{
    struct audit_log *log = fx_open(1 << 20, NULL);
    struct audit_anchor a = {0};
    struct base_buf b;

    fx_fill(log, 0, 5);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    fx_fill(log, 5, 10);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    fx_fill(log, 10, 11);
    audit_log_head(log, &a.size, a.root);
    a.has_note = true;
    uint64_t size;
    a.note = audit_log_note(log, &size);
    base_buf_init(&b, AUDIT_ANCHOR_MAX_BYTES);
    assert_int_equal(audit_anchor_put(&a, &b), DBE_OK);
    fx_write("seen", b.data, b.len);
    fx_path(anchor, "seen");
    base_buf_free(&b);
    fx_fill(log, 11, 12);
    audit_log_close(log);
}

/* spec audit 9.1 */
static void whole(void **state)
{
    char path[256];
    const char *anchor = path;

    (void)state;
    make(path);
    struct audit_report r = verify(&anchor, 1);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    assert_int_equal(r.entries, 12);
    assert_int_equal(r.checkpoints, 2);
    assert_int_equal(r.signed_entries, 10);
    assert_int_equal(r.anchors, 1);
    assert_int_equal(r.missing, 0);
}

/* spec audit 9.2: any one byte of any entry; the entry is named */
static void changed(void **state)
{
    char path[256];
    const char *anchor = path;
    struct base_buf text;

    (void)state;
    make(path);
    fx_read(FX_FIRST, &text);
    for (size_t n = 0; n < 11; n++) {
        char *at = strstr(fx_line(&text, n), "record ");
        at[0] ^= 0x20;
        fx_write(FX_FIRST, text.data, text.len);
        struct audit_report r = verify(&anchor, 1);
        fx_found(&r, AUDIT_WRONG_CHAIN, n, "changed");
        at[0] ^= 0x20;
    }
    base_buf_free(&text);
}

/* spec audit 9.2: removed, moved, inserted, garbage */
static void reordered(void **state)
{
    char path[256];
    struct base_buf text, other;

    (void)state;
    make(path);
    fx_read(FX_FIRST, &text);
    char *four = fx_line(&text, 4), *five = fx_line(&text, 5), *six = fx_line(&text, 6);
    size_t a = (size_t)(five - four), b = (size_t)(six - five), at = (size_t)(four - (char *)text.data);
    base_buf_init(&other, 1 << 20);

    base_buf_bytes(&other, text.data, at); /* 4 and 5 change places */
    base_buf_bytes(&other, five, b);
    base_buf_bytes(&other, four, a);
    base_buf_bytes(&other, six, text.len - at - a - b);
    fx_write(FX_FIRST, other.data, other.len);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_CHAIN, 4, "entry 5 stands here");

    base_buf_clear(&other); /* 4 is gone */
    base_buf_bytes(&other, text.data, at);
    base_buf_bytes(&other, five, text.len - at - a);
    fx_write(FX_FIRST, other.data, other.len);
    r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_CHAIN, 4, "entry 5 stands here");

    base_buf_clear(&other); /* 4 stands twice */
    base_buf_bytes(&other, text.data, at + a);
    base_buf_bytes(&other, four, text.len - at);
    fx_write(FX_FIRST, other.data, other.len);
    r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_CHAIN, 5, "entry 4 stands here");

    base_buf_clear(&other); /* something else between them */
    base_buf_bytes(&other, text.data, at);
    base_buf_str(&other, "nothing\n");
    fx_write(FX_FIRST, other.data, other.len);
    r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_CHAIN, 4, "no line");
    base_buf_free(&other);
    base_buf_free(&text);
}

/* spec audit 9.3: cut behind a whole line: checkpoints tell, and anchors what no checkpoint covers */
static void truncated(void **state)
{
    char path[256];
    const char *anchor = path;
    struct base_buf text;

    (void)state;
    make(path);
    fx_read(FX_FIRST, &text);
    fx_write(FX_FIRST, text.data, (size_t)(fx_line(&text, 8) - (char *)text.data));
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 8, "a checkpoint");
    fx_write(FX_FIRST, text.data, (size_t)(fx_line(&text, 10) - (char *)text.data));
    r = verify(NULL, 0);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    r = verify(&anchor, 1);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 10, "seen");
    base_buf_free(&text);
}

/* spec audit 9.3: the whole directory set back to what it was */
static void rolled_back(void **state)
{
    char path[256];
    const char *anchor = path;
    struct base_buf text, notes;

    (void)state;
    make(path);
    fx_read(FX_FIRST, &text);
    fx_read(FX_NOTES, &notes);
    fx_write(FX_FIRST, text.data, (size_t)(fx_line(&text, 6) - (char *)text.data));
    fx_write(FX_NOTES, notes.data, notes.len / 2); /* both notes have one length, but for a digit */
    char *end = memmem(notes.data, notes.len, FX_ORIGIN "\n10\n", strlen(FX_ORIGIN) + 4);
    fx_write(FX_NOTES, notes.data, (size_t)(end - (char *)notes.data));
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    r = verify(&anchor, 1);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 6, "missing");
    base_buf_free(&text);
    base_buf_free(&notes);
}

/* A log of other records, chain and tree all right. */
static void write_anew(struct crypto_key *key)
{
    char first[256], notes[256];

    fx_path(first, FX_FIRST);
    fx_path(notes, FX_NOTES);
    assert_int_equal(unlink(first), 0);
    assert_int_equal(unlink(notes), 0);
    struct audit_log *log = fx_open(1 << 20, NULL);
    for (uint64_t i = 0; i < 13; i++) {
        struct audit_record r = {.kind = AUDIT_DECISION, .seq = i, .time_ms = i == 7 ? 1 : 0};
        uint64_t missing;
        assert_int_equal(audit_log_add(log, FX_SENDER, fx_run, &r, 0, &missing), DBE_OK);
        assert_int_equal(audit_log_commit(log, NULL), DBE_OK);
        if (i == 9 && key != NULL)
            assert_int_equal(fx_checkpoint(log, key), DBE_OK);
    }
    audit_log_close(log);
}

/* spec audit 9.4: written anew and signed by another key */
static void signed_by_another(void **state)
{
    struct crypto_key *stranger = NULL;
    char path[256];

    (void)state;
    make(path);
    assert_int_equal(crypto_key_generate(&stranger), DBE_OK);
    write_anew(stranger);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_SIGNATURE, 10, "no certificate");
    crypto_key_free(stranger);
}

/* spec audit 9.5: written anew with the stolen key: an anchor does not agree */
static void signed_with_stolen_key(void **state)
{
    char path[256];
    const char *anchor = path;

    (void)state;
    make(path);
    write_anew(fx_key);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    r = verify(&anchor, 1);
    assert_int_equal(r.finding.what, AUDIT_WRONG_ANCHOR);
    assert_non_null(strstr(r.finding.text, "seen"));
}

/* spec audit 9.2: the chain computed anew, the checkpoints left: the range is named */
static void chain_anew(void **state)
{
    char path[256];
    struct base_buf notes;

    (void)state;
    make(path);
    fx_read(FX_NOTES, &notes);
    write_anew(NULL);
    fx_write(FX_NOTES, notes.data, notes.len);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_CHAIN, 0, "entries 0 to 4");
    base_buf_free(&notes);
}

/* A note damaged in its signature, and one in the middle. */
static void damaged_notes(void **state)
{
    char path[256];
    struct base_buf notes;

    (void)state;
    make(path);
    fx_read(FX_NOTES, &notes);
    notes.data[600] = notes.data[600] == 'A' ? 'B' : 'A';
    fx_write(FX_NOTES, notes.data, notes.len);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_SIGNATURE, 5, "signature");
    notes.data[600] = '!';
    fx_write(FX_NOTES, notes.data, notes.len);
    r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_SIGNATURE, 0, "damaged");
    base_buf_free(&notes);
}

/* spec audit 7.5: checkpoints that changed places */
static void falling_notes(void **state)
{
    char path[256];
    struct base_buf notes, other;

    (void)state;
    make(path);
    fx_read(FX_NOTES, &notes);
    struct audit_note n;
    size_t first = 0;
    assert_int_equal(audit_note_get((char *)notes.data, notes.len, &n, &first), DBE_OK);
    base_buf_init(&other, notes.len);
    base_buf_bytes(&other, notes.data + first, notes.len - first);
    base_buf_bytes(&other, notes.data, first);
    fx_write(FX_NOTES, other.data, other.len);
    struct audit_report r = verify(NULL, 0);
    fx_found(&r, AUDIT_WRONG_SIGNATURE, 5, "stands behind one of 10");
    base_buf_free(&notes);
    base_buf_free(&other);
}

/* spec audit 4.3: a segment that is gone */
static void segment_gone(void **state)
{
    struct audit_log *log = fx_open(1500, NULL);
    struct dirent **names;
    char path[256];

    (void)state;
    for (uint64_t i = 0; i < 12; i++)
        fx_fill(log, i, i + 1);
    audit_log_close(log);
    int n = scandir(fx_dir, &names, NULL, alphasort), seen = 0;
    for (int i = 0; i < n; i++) {
        if (strstr(names[i]->d_name, ".log") != NULL && ++seen == 2) {
            uint64_t first = strtoull(names[i]->d_name, NULL, 10);
            fx_path(path, names[i]->d_name);
            assert_int_equal(unlink(path), 0);
            struct audit_report r = verify(NULL, 0);
            fx_found(&r, AUDIT_WRONG_CHAIN, first, "missing");
        }
    }
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    assert_true(seen > 2);
}

/* Records that a sender lost are counted, and told from those that it owned up to. */
static void missing_records(void **state)
{
    struct audit_log *log = fx_open(1 << 20, NULL);
    struct audit_record r = {.kind = AUDIT_GAP, .seq = 9, .count = 4};
    uint64_t missing;

    (void)state;
    fx_fill(log, 0, 3);
    fx_fill(log, 5, 6);
    assert_int_equal(audit_log_add(log, FX_SENDER, fx_run, &r, 0, &missing), DBE_OK);
    assert_int_equal(audit_log_commit(log, NULL), DBE_OK);
    audit_log_close(log);
    struct audit_report v = verify(NULL, 0);
    fx_found(&v, AUDIT_RIGHT, 0, "");
    assert_int_equal(v.missing, 2);
    assert_int_equal(v.gaps, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whole, fx_fresh),
        cmocka_unit_test_setup(changed, fx_fresh),
        cmocka_unit_test_setup(reordered, fx_fresh),
        cmocka_unit_test_setup(truncated, fx_fresh),
        cmocka_unit_test_setup(rolled_back, fx_fresh),
        cmocka_unit_test_setup(signed_by_another, fx_fresh),
        cmocka_unit_test_setup(signed_with_stolen_key, fx_fresh),
        cmocka_unit_test_setup(chain_anew, fx_fresh),
        cmocka_unit_test_setup(damaged_notes, fx_fresh),
        cmocka_unit_test_setup(falling_notes, fx_fresh),
        cmocka_unit_test_setup(segment_gone, fx_fresh),
        cmocka_unit_test_setup(missing_records, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
