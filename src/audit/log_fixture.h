/* SPDX-License-Identifier: Apache-2.0
 *
 * log_fixture.h - for tests: a log in a folder of its own, records to put into it, files to damage.
 */
#ifndef AUDIT_LOG_FIXTURE_H
#define AUDIT_LOG_FIXTURE_H

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/verify.h"

#define FX_SENDER "spiffe://m/l7/router/43"
#define FX_ORIGIN "m/audit/14"
#define FX_FIRST "00000000000000000000.log"
#define FX_NOTES "00000000000000000000.checkpoints"

static char fx_dir[64];
static struct crypto_key *fx_key;
static uint8_t fx_pk[CRYPTO_MLDSA87_PK_BYTES];
static const uint8_t fx_run[AUDIT_RUN_BYTES] = {1, 2, 3};

static inline void fx_empty(const char *dir)
{
    struct dirent *e;
    char path[512];
    DIR *d = opendir(dir);

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%.250s/%.250s", dir, e->d_name);
        if (e->d_name[0] != '.' && unlink(path) != 0) {
            fx_empty(path); /* the archive */
            assert_int_equal(rmdir(path), 0);
        }
    }
    closedir(d);
}

static inline int fx_setup(void **state)
{
    (void)state;
    snprintf(fx_dir, sizeof fx_dir, "/tmp/dsmil-audit-XXXXXX");
    return crypto_init(NULL) == DBE_OK && crypto_key_generate(&fx_key) == DBE_OK &&
                   crypto_key_public(fx_key, fx_pk) == DBE_OK && mkdtemp(fx_dir) != NULL
               ? 0
               : -1;
}

static inline int fx_teardown(void **state)
{
    (void)state;
    fx_empty(fx_dir);
    crypto_key_free(fx_key);
    return rmdir(fx_dir);
}

static inline int fx_fresh(void **state)
{
    (void)state;
    audit_sys_fail_at(0, 0);
    fx_empty(fx_dir);
    return 0;
}

static inline dbe_err fx_add(struct audit_log *log, uint64_t seq)
{
    char words[32];
    uint64_t missing;
    struct audit_record r = {.kind = AUDIT_DECISION, .seq = seq, .time_ms = UINT64_C(1800000000000) + seq};

    snprintf(words, sizeof words, "record %llu", (unsigned long long)seq);
    r.detail = (struct audit_text){words, strlen(words)};
    return audit_log_add(log, FX_SENDER, fx_run, &r, UINT64_C(1800000001000) + seq, &missing);
}

static inline void fx_fill(struct audit_log *log, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        assert_int_equal(fx_add(log, i), DBE_OK);
    assert_int_equal(audit_log_commit(log, NULL), DBE_OK);
}

static inline dbe_err fx_sign(void *ctx, const char *use, const void *msg, size_t len,
                              uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    return crypto_sign(ctx, use, msg, len, sig);
}

static inline struct audit_signer fx_signer(struct crypto_key *key)
{
    struct audit_signer s = {.sign = fx_sign, .ctx = key};
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];

    assert_int_equal(crypto_key_public(key, pk), DBE_OK);
    assert_int_equal(audit_key_id(FX_ORIGIN, pk, s.key_id), DBE_OK);
    return s;
}

static inline dbe_err fx_checkpoint(struct audit_log *log, struct crypto_key *key)
{
    struct audit_signer signer = fx_signer(key);

    return audit_log_checkpoint(log, &signer, 1800000002000, NULL);
}

static inline dbe_err fx_find_key(void *ctx, const char *origin, const uint8_t id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                                  uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    uint8_t want[AUDIT_KEY_ID_BYTES];

    (void)ctx, (void)time_ms;
    assert_int_equal(audit_key_id(origin, fx_pk, want), DBE_OK);
    if (memcmp(id, want, sizeof want) != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "no certificate of this mesh has the key");
    memcpy(pk, fx_pk, sizeof fx_pk);
    return DBE_OK;
}

/* `trusting`: whoever has fx_key is believed, so that a state is. */
static inline dbe_err fx_try(uint64_t segment_max, bool trusting, struct audit_log **ret, struct audit_recovery *found,
                             struct dbe_diag *diag)
{
    struct audit_log_config c = {
        .dir = fx_dir, .origin = FX_ORIGIN, .segment_max_bytes = segment_max, .key = trusting ? fx_find_key : NULL};
    struct audit_recovery none;

    return audit_log_open(&c, ret, found != NULL ? found : &none, diag);
}

static inline struct audit_log *fx_open_as(uint64_t segment_max, bool trusting, struct audit_recovery *found)
{
    struct dbe_diag diag = {0};
    struct audit_log *log = NULL;
    dbe_err err = fx_try(segment_max, trusting, &log, found, &diag);

    if (err != DBE_OK)
        print_message("open: %s\n", diag.text);
    assert_int_equal(err, DBE_OK);
    return log;
}

static inline struct audit_log *fx_open(uint64_t segment_max, struct audit_recovery *found)
{
    return fx_open_as(segment_max, false, found);
}

static inline void fx_path(char out[256], const char *name)
{
    snprintf(out, 256, "%.60s/%.150s", fx_dir, name);
}

static inline void fx_read(const char *name, struct base_buf *out)
{
    char path[256];

    fx_path(path, name);
    *out = (struct base_buf){0};
    assert_int_equal(base_file_read(path, 1 << 26, out, NULL), DBE_OK);
}

static inline void fx_write(const char *name, const void *data, size_t len)
{
    char path[256];

    fx_path(path, name);
    assert_int_equal(base_file_write(path, data, len, 0600, NULL), DBE_OK);
}

/* Where line `n` of `text` begins. */
static inline char *fx_line(struct base_buf *text, size_t n)
{
    char *at = (char *)text->data;

    for (; n > 0; n--)
        at = (char *)memchr(at, '\n', (size_t)((char *)text->data + text->len - at)) + 1;
    return at;
}

/* The report on a log that can be read. */
static inline struct audit_report fx_verify(const struct audit_verify *what)
{
    struct audit_report r;
    struct dbe_diag diag = {0};
    dbe_err err = audit_verify(what, &r, &diag);

    if (err != DBE_OK)
        print_message("verify: %s\n", diag.text);
    assert_int_equal(err, DBE_OK);
    return r;
}

static inline void fx_found(const struct audit_report *r, enum audit_wrong what, uint64_t entry, const char *word)
{
    if (r->finding.what != what || r->finding.entry != entry || strstr(r->finding.text, word) == NULL)
        print_message("found %d at %" PRIu64 ": %s\n", r->finding.what, r->finding.entry, r->finding.text);
    assert_int_equal(r->finding.what, what);
    assert_int_equal(r->finding.entry, entry);
    assert_non_null(strstr(r->finding.text, word));
}

#endif
