/* SPDX-License-Identifier: Apache-2.0
 *
 * state_test.c - starts that read little, and writers that are killed or fail at any step of what they do: nothing that
 * was acknowledged is lost, and no head is another than the one of all entries (spec audit 4.8, 4.9 and 10.7).
 */
#include "audit/archive_fixture.h"

#include <errno.h>
#include <sys/wait.h>

/* spec audit 4.9: what a state knows is not read again, and the head is the same */
static void starts_from_state(void **state)
{
    uint8_t before[AUDIT_HASH_BYTES], after[AUDIT_HASH_BYTES];
    struct audit_recovery r;
    uint64_t noted;

    (void)state;
    struct audit_log *log = make();
    assert_int_equal(save(log), DBE_OK);
    fx_fill(log, 20, 23);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    fx_fill(log, 23, 24);
    (void)size_of(log, before);
    uint64_t bytes = audit_log_bytes(log);
    audit_log_close(log);
    log = fx_open_as(SEGMENT, true, &r);
    assert_int_equal(r.state, 20);
    assert_int_equal(r.read, 4);
    assert_int_equal(r.entries, 24);
    assert_string_equal(r.why, "");
    assert_int_equal(size_of(log, after), 24);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 24);
    assert_int_equal(audit_log_bytes(log), bytes);
    assert_true(audit_log_note(log, &noted).len > 4000);
    assert_int_equal(noted, 23);
    fx_fill(log, 22, 26); /* two of them are known */
    audit_log_close(log);
    log = fx_open(SEGMENT, &r); /* nobody's signature counts: all is read */
    assert_int_equal(r.state, 0);
    assert_int_equal(r.read, 26);
    audit_log_close(log);
    struct audit_report v = verify(false, NULL);
    fx_found(&v, AUDIT_RIGHT, 0, "");
}

/* spec audit 4.9: a state that was changed in any byte, or signed by another, is not trusted: all is read */
static void distrusts_states(void **state)
{
    struct crypto_key *other = NULL;
    struct audit_recovery r;
    struct base_buf text;

    (void)state;
    struct audit_log *log = make();
    assert_int_equal(save(log), DBE_OK);
    audit_log_close(log);
    fx_read("state", &text);
    for (size_t at = 0; at < text.len; at += at < 800 ? 13 : 501) {
        text.data[at] ^= 1;
        fx_write("state", text.data, text.len);
        text.data[at] ^= 1;
        log = fx_open_as(SEGMENT, true, &r);
        assert_int_equal(r.state, 0);
        assert_int_equal(r.read, 20);
        assert_string_not_equal(r.why, "");
        audit_log_close(log);
    }
    for (size_t cut = 0; cut < text.len; cut += 97) {
        fx_write("state", text.data, cut);
        log = fx_open_as(SEGMENT, true, &r);
        assert_int_equal(r.state, 0);
        audit_log_close(log);
    }
    fx_write("state", text.data, text.len);
    log = fx_open_as(SEGMENT, true, &r);
    assert_int_equal(r.state, 20);
    assert_int_equal(crypto_key_generate(&other), DBE_OK);
    struct audit_signer signer = fx_signer(other);
    assert_int_equal(audit_log_save(log, &signer, 1800000002000, NULL), DBE_OK);
    audit_log_close(log);
    crypto_key_free(other);
    log = fx_open_as(SEGMENT, true, &r);
    assert_int_equal(r.state, 0);
    audit_log_close(log);
    base_buf_free(&text);
}

/* spec audit 4.4: a log that was cut behind its state, or before, is named and not added to */
static void cut_with_state(void **state)
{
    struct audit_log *log = make(), *other = NULL;
    struct audit_scan_end end = {0};
    struct audit_finding f = {0};
    const struct audit_place place = {.dir = fx_dir};
    struct dbe_diag diag = {0};
    char path[AUDIT_PATH_MAX];

    (void)state;
    assert_int_equal(save(log), DBE_OK);
    audit_log_close(log);
    assert_int_equal(audit_scan_more(&place, NULL, NULL, &end, &f, NULL), DBE_OK);
    assert_int_equal(audit_file_path(fx_dir, AUDIT_FILE_LOG, end.segment, path), DBE_OK);
    assert_int_equal(truncate(path, (off_t)end.segment_bytes / 2), 0);
    assert_int_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_E_MALFORMED);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fx_try(SEGMENT, true, &other, NULL, &diag), DBE_E_MALFORMED);
    assert_non_null(strstr(diag.text, "the log ends after"));
}

/* spec audit 4.9: what lies before the state is the verifier's: it names what was changed there */
static void changed_before_state(void **state)
{
    struct audit_recovery r;
    struct base_buf text;

    (void)state;
    struct audit_log *log = make();
    assert_int_equal(save(log), DBE_OK);
    audit_log_close(log);
    fx_read(FX_FIRST, &text);
    *strstr(fx_line(&text, 1), "record 1") = 'R';
    fx_write(FX_FIRST, text.data, text.len);
    base_buf_free(&text);
    log = fx_open_as(SEGMENT, true, &r);
    assert_int_equal(r.state, 20);
    audit_log_close(log);
    struct audit_report v = verify(false, NULL);
    fx_found(&v, AUDIT_WRONG_CHAIN, 1, "changed");
}

/* A log with its one old file of checkpoints is taken as it is. */
static void old_checkpoints(void **state)
{
    char from[256], to[256];
    struct audit_recovery r;
    uint64_t noted;

    (void)state;
    struct audit_log *log = fx_open(1 << 20, NULL);
    fx_fill(log, 0, 4);
    assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    audit_log_close(log);
    fx_path(from, FX_NOTES);
    fx_path(to, "checkpoints");
    assert_int_equal(rename(from, to), 0);
    log = fx_open(1 << 20, &r);
    (void)audit_log_note(log, &noted);
    assert_int_equal(noted, 4);
    audit_log_close(log);
}

/* ---- interruptions -------------------------------------------------------------------------------------------- */

/* All that a writer does, told to `fd` as it is acknowledged; killed at the nth operation on the disk. */
static void work(uint64_t nth, int fd)
{
    audit_sys_fail_at(nth, AUDIT_SYS_KILL);
    struct audit_log *log = NULL;
    uint64_t upto = 0, acknowledged;

    if (fx_try(SEGMENT, true, &log, NULL, NULL) != DBE_OK)
        _exit(1);
    for (uint64_t i = audit_log_next(log, FX_SENDER, fx_run); i < 16; i = acknowledged) {
        if (fx_add(log, i) != DBE_OK || fx_add(log, i + 1) != DBE_OK || audit_log_commit(log, NULL) != DBE_OK)
            _exit(2);
        acknowledged = audit_log_next(log, FX_SENDER, fx_run);
        if (write(fd, &acknowledged, sizeof acknowledged) != sizeof acknowledged)
            _exit(3);
        if (i % 4 == 0 && (fx_checkpoint(log, fx_key) != DBE_OK || save(log) != DBE_OK))
            _exit(4);
        if ((i == 8 || i == 14) && put_away(log, i, &upto) != DBE_OK)
            _exit(5);
    }
    audit_log_close(log);
    _exit(0);
}

static int run_until(uint64_t nth, uint64_t *ret_acknowledged)
{
    int fds[2], status;
    uint64_t told;

    *ret_acknowledged = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        work(nth, fds[1]);
    close(fds[1]);
    while (read(fds[0], &told, sizeof told) == sizeof told)
        *ret_acknowledged = told;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* spec audit 10.7: killed at any write, sync or rename, nothing that was acknowledged is lost, the log is right with
 * its archive and without, and the next writer goes on. */
static void killed_at_every_step(void **state)
{
    struct audit_recovery r;
    uint64_t told, upto;
    int code;

    (void)state;
    for (uint64_t nth = 1;; nth++) {
        fx_empty(fx_dir);
        code = run_until(nth, &told);
        if (code == 0)
            break;
        assert_int_equal(code, AUDIT_SYS_KILL);
        struct audit_log *log = fx_open_as(SEGMENT, true, &r);
        assert_true(audit_log_next(log, FX_SENDER, fx_run) >= told);
        audit_log_close(log);
        struct audit_report left = verify(false, NULL), both = verify(access(archive_dir, F_OK) == 0, NULL);
        fx_found(&left, AUDIT_RIGHT, 0, "");
        fx_found(&both, AUDIT_RIGHT, 0, "");
        assert_int_equal(both.archived, 0);
        assert_int_equal(run_until(0, &told), 0);
        log = fx_open_as(SEGMENT, true, NULL);
        assert_true(audit_log_next(log, FX_SENDER, fx_run) >= 16); /* one of two may have been whole */
        dbe_err err = put_away(log, 12, &upto);
        assert_true(err == DBE_OK || err == DBE_E_NOT_FOUND);
        audit_log_close(log);
        both = verify(access(archive_dir, F_OK) == 0, NULL);
        fx_found(&both, AUDIT_RIGHT, 0, "");
        assert_int_equal(both.archived, 0);
        assert_int_equal(both.missing, 0);
        assert_true(nth < 1000);
    }
}

/* spec audit 10.7: whatever fails of it, the same order may be given again */
static void fails_at_every_step(void **state)
{
    uint64_t upto;
    dbe_err err = DBE_E_IO;

    (void)state;
    for (uint64_t nth = 1; err != DBE_OK; nth++) {
        fx_empty(fx_dir);
        struct audit_log *log = make();
        audit_sys_fail_at(nth, EIO);
        err = put_away(log, 14, &upto);
        audit_sys_fail_at(0, 0);
        if (err != DBE_OK) {
            assert_int_equal(err, DBE_E_IO);
            if (audit_log_failed(log)) {
                audit_log_close(log);
                log = fx_open_as(SEGMENT, true, NULL);
            }
            dbe_err again = put_away(log, 14, &upto);
            assert_true(again == DBE_OK || again == DBE_E_NOT_FOUND);
        }
        audit_log_close(log);
        log = fx_open_as(SEGMENT, true, NULL);
        assert_int_equal(audit_log_next(log, FX_SENDER, fx_run), 20);
        assert_true(audit_log_first(log) > 4);
        audit_log_close(log);
        struct audit_report left = verify(false, NULL), both = verify(true, NULL);
        fx_found(&left, AUDIT_RIGHT, 0, "");
        fx_found(&both, AUDIT_RIGHT, 0, "");
        assert_int_equal(both.archived, 0);
    }
}

/* Without memory at any point of an opening from a state: an error, or all is well. */
static void no_memory(void **state)
{
    struct audit_log *log = make();
    uint64_t upto;

    (void)state;
    assert_int_equal(put_away(log, 9, &upto), DBE_OK);
    audit_log_close(log);
    for (uint64_t nth = 1;; nth++) {
        log = NULL;
        base_fail_alloc_at(nth);
        dbe_err err = fx_try(SEGMENT, true, &log, NULL, NULL);
        uint64_t count = base_alloc_count();
        base_fail_alloc_at(0);
        audit_log_close(log);
        if (err == DBE_OK && count < nth)
            break;
        if (err != DBE_OK)
            assert_int_equal(err, DBE_E_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(starts_from_state, fresh),   cmocka_unit_test_setup(distrusts_states, fresh),
        cmocka_unit_test_setup(cut_with_state, fresh),      cmocka_unit_test_setup(changed_before_state, fresh),
        cmocka_unit_test_setup(old_checkpoints, fresh),     cmocka_unit_test_setup(killed_at_every_step, fresh),
        cmocka_unit_test_setup(fails_at_every_step, fresh), cmocka_unit_test_setup(no_memory, fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
