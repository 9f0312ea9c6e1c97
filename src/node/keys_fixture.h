/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_fixture.h - a key store of its own under /tmp and a clock that stands still, for the tests of this folder.
 */
#ifndef NODE_KEYS_FIXTURE_H
#define NODE_KEYS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cert.h"
#include "issue.h"
#include "keystore.h"
#include "profile.h"

#define KF_DAY_MS UINT64_C(86400000)

struct kf {
    char dir[64];
    struct dbe_trust *trust; /* as it was when the store was made */
    struct crypto_key *ca_key;
};

static uint64_t kf_now_ms;

static uint64_t kf_mono(void *ctx)
{
    (void)ctx;
    return kf_now_ms * BASE_NS_PER_MS;
}

static uint64_t kf_wall(void *ctx)
{
    (void)ctx;
    return kf_now_ms;
}

static const struct dbe_issue kf_router = {.device = DBE_DEV_EXTENDED_ANALYTICS, .role = DBE_ROLE_ROUTER};

static inline int kf_setup(void **state)
{
    static const struct base_clock_ops clock = {kf_mono, kf_wall, NULL};
    struct kf *f = calloc(1, sizeof *f);
    struct dbe_diag diag = {0};

    assert_non_null(f);
    kf_now_ms = UINT64_C(1800000000000);
    base_clock_set(&clock);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-kf-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(dbe_keys_init(f->dir, "mesh.test", 0, &diag), DBE_OK);
    assert_int_equal(dbe_trust_load(f->dir, &f->trust, &diag), DBE_OK);
    assert_int_equal(keys_read_key(f->dir, "ca", "key", &f->ca_key, &diag), DBE_OK);
    *state = f;
    return 0;
}

static int kf_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline int kf_teardown(void **state)
{
    struct kf *f = *state;

    dbe_trust_free(f->trust);
    crypto_key_free(f->ca_key);
    assert_int_equal(nftw(f->dir, kf_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    base_clock_set(NULL);
    free(f);
    return 0;
}

static inline void kf_path(const struct kf *f, const char *file, char ret[PATH_MAX])
{
    (void)snprintf(ret, PATH_MAX, "%s/%s", f->dir, file);
}

static inline bool kf_there(const struct kf *f, const char *file)
{
    char path[PATH_MAX];

    kf_path(f, file, path);
    return access(path, F_OK) == 0;
}

/* The file's bytes; freed by the caller. */
static inline struct base_buf kf_slurp(const struct kf *f, const char *file)
{
    char path[PATH_MAX];
    struct base_buf b;

    kf_path(f, file, path);
    base_buf_init(&b, DBE_CRL_MAX_BYTES);
    assert_int_equal(base_file_read(path, DBE_CRL_MAX_BYTES, &b, NULL), DBE_OK);
    return b;
}

static inline void kf_write(const struct kf *f, const char *file, const void *data, size_t len)
{
    char path[PATH_MAX];

    kf_path(f, file, path);
    assert_int_equal(base_file_write(path, data, len, 0600, NULL), DBE_OK);
}

#define KF(name) cmocka_unit_test_setup_teardown(name, kf_setup, kf_teardown)

#endif
