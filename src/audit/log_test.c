/* SPDX-License-Identifier: Apache-2.0
 *
 * log_test.c - the writer: what is acknowledged stays, whatever fails or is cut (spec audit 4).
 */
#include "audit/log_fixture.h"

#include <errno.h>
#include <sys/wait.h>

static uint64_t size_of(const struct audit_log *log)
{
    uint8_t root[AUDIT_HASH_BYTES];
    uint64_t size;

    audit_log_head(log, &size, root);
    return size;
}

/* spec audit 4.1: what was committed is there when the log is opened again, with the same root */
static void opens_again(void **state)
{
    uint8_t before[AUDIT_HASH_BYTES], after[AUDIT_HASH_BYTES];
    struct audit_recovery found;
    uint64_t size, again;

    (void)state;
    struct audit_log *log = fx_open(1 << 20, NULL);
    fx_fill(log, 0, 20);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    fx_fill(log, 20, 33);
    audit_log_head(log, &size, before);
    assert_int_equal(fx_add(log, 33), DBE_OK); /* never committed */
    audit_log_close(log);
    log = fx_open(1 << 20, &found);
    audit_log_head(log, &again, after);
    assert_int_equal(size, 33);
    assert_int_equal(again, 33);
    assert_int_equal(found.entries, 33);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 33);
    assert_true(audit_log_note(log, &size).len > 4000);
    assert_int_equal(size, 20);
    audit_log_close(log);
}

/* spec audit 3.3, 4.2 and 5.1: `prev` is the hash of the line before, byte for byte as it lies in the file */
static void chain_by_hand(void **state)
{
    struct audit_log *log = fx_open(1 << 20, NULL);
    uint8_t text[1 + AUDIT_LINE_MAX] = {0}, hash[AUDIT_HASH_BYTES] = {0};
    char want[2 * AUDIT_HASH_BYTES + 16], hex[2 * AUDIT_HASH_BYTES + 1];
    struct base_buf file;

    (void)state;
    fx_fill(log, 0, 4);
    audit_log_close(log);
    fx_read(FX_FIRST, &file);
    for (size_t n = 0; n < 4; n++) {
        const char *line = fx_line(&file, n);
        size_t len = (size_t)(strchr(line, '\n') - line);
        base_hex(hash, sizeof hash, hex);
        snprintf(want, sizeof want, "\"prev\":\"%s\"", hex);
        assert_non_null(memmem(line, len, want, strlen(want)));
        memcpy(text + 1, line, len);
        assert_int_equal(crypto_sha3_512(text, 1 + len, hash), DBE_OK);
    }
    base_buf_free(&file);
}

/* spec audit 4.3: small segments, each named by its first index */
static void rotates(void **state)
{
    const struct audit_place place = {.dir = fx_dir};
    struct audit_scan_end end = {0};
    struct audit_finding f = {0};

    (void)state;
    struct audit_log *log = fx_open(2000, NULL);
    for (uint64_t i = 0; i < 30; i++)
        fx_fill(log, i, i + 1);
    audit_log_close(log);
    assert_int_equal(audit_scan_more(&place, NULL, NULL, &end, &f, NULL), DBE_OK);
    assert_int_equal(end.entries, 30);
    assert_true(end.segment > 0);
    log = fx_open(2000, NULL);
    fx_fill(log, 30, 40);
    assert_int_equal(size_of(log), 40);
    audit_log_close(log);
}

/* A log that grows is followed over segments, each entry once. */
static dbe_err count_entry(void *ctx, const struct audit_line *line, const char *text, size_t len,
                           const uint8_t leaf[AUDIT_HASH_BYTES])
{
    (void)text, (void)len, (void)leaf;
    assert_int_equal(line->index, (*(uint64_t *)ctx)++);
    return DBE_OK;
}

static void follows(void **state)
{
    const struct audit_place place = {.dir = fx_dir};
    struct audit_scan_end end = {0};
    struct audit_finding f = {0};
    uint64_t seen = 0;
    char path[AUDIT_PATH_MAX];

    (void)state;
    struct audit_log *log = fx_open(1500, NULL);
    for (uint64_t i = 0; i < 20; i++) {
        fx_fill(log, 2 * i, 2 * i + 2);
        assert_int_equal(audit_scan_more(&place, count_entry, &seen, &end, &f, NULL), DBE_OK);
        assert_int_equal(seen, 2 * i + 2);
        assert_int_equal(audit_scan_more(&place, count_entry, &seen, &end, &f, NULL), DBE_OK);
    }
    audit_log_close(log);
    assert_int_equal(audit_file_path(fx_dir, AUDIT_FILE_LOG, end.segment, path), DBE_OK);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"v\":1", 6), 6); /* a line that is being written */
    assert_int_equal(audit_scan_more(&place, count_entry, &seen, &end, &f, NULL), DBE_OK);
    assert_int_equal(end.torn_bytes, 6);
    close(fd);
}

/* spec audit 4.5: a line cut at any byte costs that line alone */
static void torn(void **state)
{
    struct base_buf text;
    struct audit_recovery found;

    (void)state;
    struct audit_log *log = fx_open(1 << 20, NULL);
    fx_fill(log, 0, 5);
    audit_log_close(log);
    fx_read(FX_FIRST, &text);
    size_t last = (size_t)(fx_line(&text, 4) - (char *)text.data);
    for (size_t cut = last + 1; cut < text.len; cut += 23) {
        fx_write(FX_FIRST, text.data, cut);
        log = fx_open(1 << 20, &found);
        assert_int_equal(found.entries, 4);
        assert_int_equal(found.torn_bytes, cut - last);
        fx_fill(log, 4, 6); /* its sender sends it again */
        assert_int_equal(size_of(log), 6);
        audit_log_close(log);
        log = fx_open(1 << 20, &found);
        assert_int_equal(found.torn_bytes, 0);
        audit_log_close(log);
    }
    base_buf_free(&text);
}

/* spec audit 7.5: a checkpoint cut at any byte costs that checkpoint alone */
static void torn_checkpoint(void **state)
{
    struct base_buf text;
    struct audit_recovery found;

    (void)state;
    struct audit_log *log = fx_open(1 << 20, NULL);
    fx_fill(log, 0, 3);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    fx_fill(log, 3, 6);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    audit_log_close(log);
    fx_read(FX_NOTES, &text);
    for (size_t cut = text.len / 2 + 1; cut < text.len; cut++) {
        if (text.data[cut - 1] != '\n' && cut % 499 != 0) /* every end of a line, and some others */
            continue;
        fx_write(FX_NOTES, text.data, cut);
        log = fx_open(1 << 20, &found);
        assert_int_equal(found.torn_checkpoint_bytes, cut - text.len / 2);
        assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
        audit_log_close(log);
    }
    base_buf_free(&text);
}

/* spec audit 4.4: nothing is added to a log that is not whole */
static void refuses_damage(void **state)
{
    struct audit_log_config c = {.dir = fx_dir, .origin = FX_ORIGIN, .segment_max_bytes = 1 << 20};
    struct audit_recovery found;
    struct audit_log *log = fx_open(1 << 20, NULL), *other = NULL;
    struct dbe_diag diag = {0};
    struct base_buf text;

    (void)state;
    fx_fill(log, 0, 5);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    audit_log_close(log);
    fx_read(FX_FIRST, &text);
    fx_write(FX_FIRST, text.data, (size_t)(fx_line(&text, 4) - (char *)text.data)); /* a whole line less */
    assert_int_equal(audit_log_open(&c, &other, &found, &diag), DBE_E_MALFORMED);
    assert_non_null(strstr(diag.text, "ends after 4 entries"));
    *strstr(fx_line(&text, 2), "record 2") = 'R';
    fx_write(FX_FIRST, text.data, text.len);
    assert_int_equal(audit_log_open(&c, &other, &found, &diag), DBE_E_MALFORMED);
    assert_non_null(strstr(diag.text, "entry 2: changed"));
    base_buf_free(&text);
}

/* spec audit 4.6: whichever write, sync or cut fails, what was acknowledged stays, and the rest can be sent again */
static void every_failure(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 18; nth++) {
        fx_empty(fx_dir);
        struct audit_log *log = fx_open(1500, NULL);
        uint64_t acknowledged = 0, at = 0;
        bool failed_once = false;
        audit_sys_fail_at(nth, nth % 2 == 0 ? ENOSPC : EIO);
        while (acknowledged < 12) {
            for (at = acknowledged; at < acknowledged + 2; at++)
                if (!audit_log_failed(log))
                    assert_int_equal(fx_add(log, at), DBE_OK);
            if (audit_log_commit(log, NULL) == DBE_OK) {
                acknowledged = at;
            } else {
                failed_once = true;
                assert_int_equal(size_of(log), acknowledged);
                if (audit_log_failed(log)) { /* a new look at the files finds all of it */
                    audit_log_close(log);
                    log = fx_open(1500, NULL);
                    assert_true(size_of(log) >= acknowledged);
                    acknowledged = size_of(log);
                }
            }
            if (acknowledged == 6 && fx_checkpoint(log, fx_key) != DBE_OK)
                failed_once = true;
            if (audit_log_failed(log)) {
                audit_log_close(log);
                log = fx_open(1500, NULL);
                assert_int_equal(size_of(log), acknowledged);
            }
        }
        assert_true(failed_once || nth > 17);
        audit_log_close(log);
        audit_sys_fail_at(0, 0);
        struct audit_recovery found;
        log = fx_open(1500, &found);
        assert_int_equal(found.entries, 12);
        assert_int_equal(found.torn_bytes, 0);
        assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 12);
        audit_log_close(log);
    }
}

/* spec audit 4.7: what comes twice is kept once; what never came is missed */
static void numbers(void **state)
{
    struct audit_log *log = fx_open(1 << 20, NULL);
    struct audit_record r = {.kind = AUDIT_DECISION};
    uint64_t missing;

    (void)state;
    fx_fill(log, 0, 5);
    fx_fill(log, 2, 7); /* sent again after a lost acknowledgement */
    assert_int_equal(size_of(log), 7);
    r.seq = 10;
    assert_int_equal(audit_log_add(log, FX_SENDER, fx_run, &r, 0, &missing), DBE_OK);
    assert_int_equal(missing, 3);
    r = (struct audit_record){.kind = AUDIT_GAP, .seq = 15, .count = 5};
    assert_int_equal(audit_log_add(log, FX_SENDER, fx_run, &r, 0, &missing), DBE_OK);
    assert_int_equal(missing, 0);
    r.seq = 30;
    assert_int_equal(audit_log_add(log, FX_SENDER, fx_run, &r, 0, &missing), DBE_OK);
    assert_int_equal(missing, 10);
    assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 7); /* of what is on the disk */
    assert_int_equal(audit_log_commit(log, NULL), DBE_OK);
    assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 31);
    audit_log_close(log);
}

static void one_writer(void **state)
{
    struct audit_log_config c = {.dir = fx_dir, .origin = FX_ORIGIN, .segment_max_bytes = 1 << 20};
    struct audit_log *log = fx_open(1 << 20, NULL), *other = NULL;
    int status;

    (void)state;
    pid_t pid = fork(); /* a lock is a process's */
    if (pid == 0) {
        struct audit_recovery found;
        _exit(audit_log_open(&c, &other, &found, NULL) == DBE_E_EXISTS ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    audit_log_close(log);
}

/* Without memory at any point: an error, and the log as it was. */
static void no_memory(void **state)
{
    struct audit_log_config c = {.dir = fx_dir, .origin = FX_ORIGIN, .segment_max_bytes = 1 << 20};
    struct audit_log *log = fx_open(1 << 20, NULL);
    struct audit_recovery found;

    (void)state;
    fx_fill(log, 0, 4);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    audit_log_close(log);
    for (uint64_t nth = 1;; nth++) {
        base_fail_alloc_at(nth);
        log = NULL;
        dbe_err err = audit_log_open(&c, &log, &found, NULL);
        uint64_t count = base_alloc_count();
        base_fail_alloc_at(0);
        if (err == DBE_OK) {
            assert_true(count < nth);
            break;
        }
        assert_null(log);
        assert_int_equal(err, DBE_E_NOMEM);
    }
    assert_int_equal(size_of(log), 4);
    audit_log_close(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(chain_by_hand, fx_fresh),  cmocka_unit_test_setup(opens_again, fx_fresh),
        cmocka_unit_test_setup(rotates, fx_fresh),        cmocka_unit_test_setup(follows, fx_fresh),
        cmocka_unit_test_setup(torn, fx_fresh),           cmocka_unit_test_setup(torn_checkpoint, fx_fresh),
        cmocka_unit_test_setup(refuses_damage, fx_fresh), cmocka_unit_test_setup(every_failure, fx_fresh),
        cmocka_unit_test_setup(numbers, fx_fresh),        cmocka_unit_test_setup(one_writer, fx_fresh),
        cmocka_unit_test_setup(no_memory, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
