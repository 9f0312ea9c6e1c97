/* SPDX-License-Identifier: Apache-2.0
 *
 * archive_test.c - entries that were put away: what is there holds without what is not, and nothing that was not put
 * away may lack (spec audit 10).
 */
#include "audit/archive_fixture.h"

/* spec audit 10.1, 10.4 and 10.5: both together are the whole log; what is left says what is elsewhere */
static void puts_away(void **state)
{
    struct audit_log *log = make();
    struct audit_recovery r;
    uint64_t upto, again;

    (void)state;
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    assert_true(upto > 2 && upto <= 9);
    assert_int_equal(audit_log_first(log), upto);
    struct audit_report both = verify(true, NULL), left = verify(false, NULL);
    fx_found(&both, AUDIT_RIGHT, 0, "");
    assert_int_equal(both.archived, 0);
    assert_int_equal(both.entries, 21); /* and the record of it */
    assert_int_equal(both.missing, 0);
    fx_found(&left, AUDIT_RIGHT, 0, "");
    assert_int_equal(left.archived, upto);
    assert_int_equal(left.entries, 21);
    assert_int_equal(left.missing, 0);
    assert_memory_equal(both.root, left.root, sizeof left.root);
    assert_int_equal(put_away(log, 9, &again), DBE_E_NOT_FOUND);
    audit_log_close(log);

    log = fx_open_as(SEGMENT, true, &r); /* it starts, and goes on, with a state and without */
    assert_int_equal(r.state, 21);
    audit_log_close(log);
    char path[256];
    fx_path(path, "state");
    assert_int_equal(unlink(path), 0);
    log = fx_open_as(SEGMENT, true, &r);
    assert_int_equal(r.entries, 21);
    assert_int_equal(r.read, 21 - upto);
    fx_fill(log, 20, 30);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    assert_int_equal(put_away(log, 18, &again), DBE_OK);
    assert_true(again > upto);
    audit_log_close(log);
    both = verify(true, NULL);
    left = verify(false, NULL);
    fx_found(&both, AUDIT_RIGHT, 0, "");
    fx_found(&left, AUDIT_RIGHT, 0, "");
    assert_int_equal(left.archived, again);
    assert_memory_equal(both.root, left.root, sizeof left.root);
}

/* spec audit 10.1: by time; and never what no checkpoint covers, nor the file that is written to */
static void chooses(void **state)
{
    struct audit_before before = {.by_time = true, .value = 1};
    uint64_t upto = 0, all = 0;

    (void)state;
    struct audit_log *log = fx_open_as(SEGMENT, true, NULL);
    for (uint64_t i = 0; i < 20; i++)
        fx_fill(log, i, i + 1);
    before.value = UINT64_C(2000000000000);
    assert_int_equal(audit_log_archivable(log, &before, &upto, NULL), DBE_E_NOT_FOUND); /* no checkpoint */
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    assert_int_equal(audit_log_archivable(log, &before, &all, NULL), DBE_OK);
    assert_true(all > 10 && all < 20);
    before.value = 1800000001000 + 8; /* entry n is stored at that plus n */
    assert_int_equal(audit_log_archivable(log, &before, &upto, NULL), DBE_OK);
    assert_true(upto > 0 && upto < 8);
    before.value = 1800000001000;
    assert_int_equal(audit_log_archivable(log, &before, &upto, NULL), DBE_E_NOT_FOUND);
    audit_log_close(log);
}

static void remove_file(enum audit_file kind, uint64_t first)
{
    char path[AUDIT_PATH_MAX];

    assert_int_equal(audit_file_path(fx_dir, kind, first, path), DBE_OK);
    assert_int_equal(unlink(path), 0);
}

static uint64_t second_segment(void)
{
    const struct audit_place place = {.dir = fx_dir};
    struct audit_list list;

    assert_int_equal(audit_list(&place, AUDIT_FILE_LOG, &list, NULL), DBE_OK);
    assert_true(list.count > 2);
    uint64_t first = list.files[1].first;
    audit_list_free(&list);
    return first;
}

/* spec audit 10.5: an attacker's cutting is none, with or without an archive before it */
static void cuts_are_no_archives(void **state)
{
    struct audit_log *log = make(), *other = NULL;
    struct dbe_diag diag = {0};
    struct base_buf text;
    uint64_t upto, second = second_segment();

    (void)state;
    audit_log_close(log);
    remove_file(AUDIT_FILE_LOG, 0);
    struct audit_report r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 0, "did not archive them");
    assert_int_equal(r.archived, second);
    assert_int_not_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_OK);
    remove_file(AUDIT_FILE_BASE, second);
    r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_CHAIN, 0, "is not known");
    assert_int_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_E_MALFORMED);

    fx_empty(fx_dir);
    log = make();
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    audit_log_close(log);
    remove_file(AUDIT_FILE_LOG, upto); /* more than was put away */
    r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_ANCHOR, upto, "archived alone");
    assert_int_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_E_MALFORMED);
    assert_non_null(strstr(diag.text, "were not archived"));

    fx_empty(fx_dir);
    log = make();
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    audit_log_close(log);
    fx_read("archived", &text);
    for (size_t at = 0; at < text.len; at += 41) { /* the statement changed */
        text.data[at] ^= 1;
        fx_write("archived", text.data, text.len);
        text.data[at] ^= 1;
        r = verify(false, NULL);
        fx_found(&r, AUDIT_WRONG_SIGNATURE, 0, "said to be archived");
        assert_int_not_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_OK);
    }
    base_buf_free(&text);
}

/* Sign a statement anew, with changes. */
static void state_again(uint64_t size, uint64_t record, struct crypto_key *key)
{
    struct audit_signer signer = fx_signer(key);
    struct audit_archived a;
    struct base_buf text;

    assert_int_equal(audit_archived_read(fx_dir, fx_find_key, NULL, &a, NULL), DBE_OK);
    a.size = size != 0 ? size : a.size;
    a.record = record != 0 ? record : a.record;
    base_buf_init(&text, AUDIT_NOTE_MAX);
    assert_int_equal(audit_archived_put(&a, &signer, &text), DBE_OK);
    fx_write("archived", text.data, text.len);
    base_buf_free(&text);
}

/* spec audit 10.2 and 10.3: the record of it stands in the log, and the statement names it */
static void needs_its_record(void **state)
{
    struct audit_log *log = make();
    uint64_t upto;

    (void)state;
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    audit_log_close(log);
    struct audit_report r = verify(false, NULL);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    state_again(0, 19, fx_key); /* another entry than the record: not even its key's owner may say so */
    r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 19, "not the record");
    state_again(0, 25, fx_key); /* one that is not there */
    r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 21, "the archive saw them");
}

/* spec audit 10.3: the statement can be signed again by a newer key, and is what it was */
static void signed_again(void **state)
{
    struct audit_log *log = make();
    struct crypto_key *old = fx_key;
    struct audit_signer signer = fx_signer(fx_key);
    struct base_buf before, after;
    uint64_t upto;

    (void)state;
    assert_int_equal(audit_log_restate(log, &signer, 1, NULL), DBE_OK); /* nothing was put away */
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    fx_read("archived", &before);
    assert_int_equal(audit_log_restate(log, &signer, 1, NULL), DBE_OK); /* the same key */
    fx_read("archived", &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    base_buf_free(&before);
    base_buf_free(&after);
    assert_int_equal(crypto_key_generate(&fx_key), DBE_OK);
    signer = fx_signer(fx_key);
    assert_int_equal(audit_log_restate(log, &signer, 1800000004000, NULL), DBE_OK);
    audit_log_close(log);
    assert_int_equal(crypto_key_public(fx_key, fx_pk), DBE_OK); /* from now on the new one alone counts */
    log = fx_open_as(SEGMENT, true, NULL);
    assert_int_equal(audit_log_first(log), upto);
    audit_log_close(log);
    crypto_key_free(fx_key);
    fx_key = old;
    assert_int_equal(crypto_key_public(fx_key, fx_pk), DBE_OK);
}

/* Only Device 14 itself puts away; a sender that says so changes nothing. */
static void whose_record(void **state)
{
    (void)state;
    assert_true(audit_is_own("m/audit/14", (struct audit_text){FX_DEVICE, strlen(FX_DEVICE)}));
    static const char *const others[] = {
        "spiffe://m/l7/router/43", "spiffe://n/l0/audit/14",  "spiffe://m/l0/audit/144",     "spiffe://m/l0/x/audit/14",
        "spiffe://m/audit/14",     "spiffe://mm/l0/audit/14", "spiffe://m/l0/audit/14/more", "m/audit/14"};
    for (size_t i = 0; i < BASE_ARRAY_LEN(others); i++)
        assert_false(audit_is_own("m/audit/14", (struct audit_text){others[i], strlen(others[i])}));
}

/* spec audit 10.5: every attack on the archive or on what is left is named as it is on a whole log */
static void attacks(void **state)
{
    struct audit_log *log = make();
    struct base_buf text;
    char name[64], path[256];
    uint64_t upto;

    (void)state;
    assert_int_equal(put_away(log, 14, &upto), DBE_OK);
    audit_log_close(log);
    snprintf(name, sizeof name, "archive/%s", FX_FIRST);
    fx_read(name, &text);
    *strstr(fx_line(&text, 1), "record 1") = 'R'; /* in the archive */
    fx_write(name, text.data, text.len);
    struct audit_report r = verify(true, NULL);
    fx_found(&r, AUDIT_WRONG_CHAIN, 1, "changed");
    r = verify(false, NULL);
    fx_found(&r, AUDIT_RIGHT, 0, ""); /* nobody asked for it */
    *strstr(fx_line(&text, 1), "Record 1") = 'r';
    fx_write(name, text.data, text.len);
    base_buf_free(&text);

    const struct audit_place place = {.dir = archive_dir};
    struct audit_list list;
    assert_int_equal(audit_list(&place, AUDIT_FILE_LOG, &list, NULL), DBE_OK);
    assert_true(list.count >= 3);
    uint64_t gone = list.files[1].first;
    audit_list_free(&list);
    snprintf(name, sizeof name, "archive/%020" PRIu64 ".log", gone); /* a hole in the archive */
    fx_read(name, &text);
    fx_path(path, name);
    assert_int_equal(unlink(path), 0);
    r = verify(true, NULL);
    fx_found(&r, AUDIT_WRONG_CHAIN, gone, "missing");
    fx_write(name, text.data, text.len);
    base_buf_free(&text);
    r = verify(true, NULL);
    fx_found(&r, AUDIT_RIGHT, 0, "");

    snprintf(name, sizeof name, "%020" PRIu64 ".base", upto); /* the tree of what was put away */
    fx_read(name, &text);
    char *hash = fx_line(&text, 3);
    *hash = *hash == 'A' ? 'B' : 'A';
    fx_write(name, text.data, text.len);
    r = verify(false, NULL);
    fx_found(&r, AUDIT_WRONG_ANCHOR, upto, "the archive");
    base_buf_free(&text);
}

struct reading {
    struct audit_log *log;
    uint64_t seen, upto;
};

/* While somebody reads the first entries, they are put away. */
static dbe_err put_away_meanwhile(void *ctx, const struct audit_line *line, const char *text, size_t len,
                                  const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct reading *r = ctx;

    (void)text, (void)len, (void)leaf;
    if (r->seen++ == 0)
        assert_int_equal(put_away(r->log, 14, &r->upto), DBE_OK);
    assert_int_equal(line->index, r->seen - 1);
    return DBE_OK;
}

/* A reader is not mistaken by an archive that is made while it reads, before its first entry or behind it. */
static void put_away_under_a_reader(void **state)
{
    const struct audit_place place = {.dir = fx_dir};
    struct reading r = {.log = make()};
    struct audit_scan_end end;
    struct audit_base base;
    struct audit_finding f = {0};
    uint64_t again;

    (void)state;
    assert_int_equal(audit_scan_begin(&place, &end, &base, &f, NULL), DBE_OK);
    assert_int_equal(audit_scan_more(&place, put_away_meanwhile, &r, &end, &f, NULL), DBE_OK);
    assert_true(r.seen >= 20);
    assert_int_equal(audit_scan_begin(&place, &end, &base, &f, NULL), DBE_OK);
    assert_int_equal(base.tree.size, r.upto);
    fx_fill(r.log, 20, 30);
    assert_int_equal(fx_checkpoint(r.log, fx_key), DBE_OK);
    assert_int_equal(put_away(r.log, 22, &again), DBE_OK);
    assert_true(again > r.upto);
    assert_int_equal(audit_scan_more(&place, NULL, NULL, &end, &f, NULL), DBE_OK);
    assert_true(end.entries >= 31);
    assert_int_equal(f.what, AUDIT_RIGHT);
    audit_log_close(r.log);
}

static void write_anchor(const struct audit_log *log, const char *name)
{
    struct audit_anchor a = {0};
    struct base_buf b;

    audit_log_head(log, &a.size, a.root);
    base_buf_init(&b, AUDIT_ANCHOR_MAX_BYTES);
    assert_int_equal(audit_anchor_put(&a, &b), DBE_OK);
    fx_write(name, b.data, b.len);
    base_buf_free(&b);
}

/* spec audit 10.5: an anchor of archived entries alone is counted, and held against the archive where there is one */
static void anchors(void **state)
{
    struct audit_log *log = fx_open_as(SEGMENT, true, NULL);
    struct base_buf text;
    char early[256], late[256];
    uint64_t upto;

    (void)state;
    fx_fill(log, 0, 3);
    write_anchor(log, "early");
    for (uint64_t i = 3; i < 20; i++)
        fx_fill(log, i, i + 1);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    write_anchor(log, "late");
    assert_int_equal(put_away(log, 15, &upto), DBE_OK);
    audit_log_close(log);
    fx_path(early, "early");
    fx_path(late, "late");
    struct audit_report r = verify(false, early);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    assert_int_equal(r.archived_anchors, 1);
    r = verify(false, late);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    assert_int_equal(r.archived_anchors, 0);
    r = verify(true, early);
    fx_found(&r, AUDIT_RIGHT, 0, "");
    assert_int_equal(r.archived_anchors, 0);
    fx_read("early", &text);
    text.data[30] = text.data[30] == 'A' ? 'B' : 'A';
    fx_write("early", text.data, text.len);
    base_buf_free(&text);
    r = verify(true, early);
    fx_found(&r, AUDIT_WRONG_ANCHOR, 0, "early");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(puts_away, fresh),
        cmocka_unit_test_setup(chooses, fresh),
        cmocka_unit_test_setup(cuts_are_no_archives, fresh),
        cmocka_unit_test_setup(needs_its_record, fresh),
        cmocka_unit_test_setup(whose_record, fresh),
        cmocka_unit_test_setup(signed_again, fresh),
        cmocka_unit_test_setup(put_away_under_a_reader, fresh),
        cmocka_unit_test_setup(attacks, fresh),
        cmocka_unit_test_setup(anchors, fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
