/* SPDX-License-Identifier: Apache-2.0
 *
 * archive_fixture.h - for tests: a log of many small segments, with states and archives.
 */
#ifndef AUDIT_ARCHIVE_FIXTURE_H
#define AUDIT_ARCHIVE_FIXTURE_H

#include "audit/log_fixture.h"

#include <inttypes.h>

#define FX_DEVICE "spiffe://m/l0/audit/14"
enum { SEGMENT = 1500 };

static char archive_dir[80];

static inline int fresh(void **state)
{
    snprintf(archive_dir, sizeof archive_dir, "%s/archive", fx_dir);
    return fx_fresh(state);
}

static inline dbe_err save(struct audit_log *log)
{
    struct audit_signer signer = fx_signer(fx_key);

    return audit_log_save(log, &signer, 1800000002000, NULL);
}

static inline uint64_t size_of(const struct audit_log *log, uint8_t root[AUDIT_HASH_BYTES])
{
    uint64_t size;

    audit_log_head(log, &size, root);
    return size;
}

static inline dbe_err put_away(struct audit_log *log, uint64_t before, uint64_t *ret_upto)
{
    const struct audit_before what = {.value = before};
    struct audit_signer signer = fx_signer(fx_key);
    struct dbe_diag diag = {0};

    DBE_TRY(audit_log_archivable(log, &what, ret_upto, &diag));
    return audit_log_archive(log, *ret_upto, FX_DEVICE, &signer, 1800000003000, &diag);
}

static inline struct audit_report verify(bool with_archive, const char *anchor)
{
    const char *const anchors[] = {anchor};
    struct audit_verify what = {.place = {.dir = fx_dir, .archive = with_archive ? archive_dir : NULL},
                                .key = fx_find_key,
                                .anchors = anchors,
                                .anchor_count = anchor != NULL};

    return fx_verify(&what);
}

/* 20 entries in segments of a few, a checkpoint after each commit. */
static inline struct audit_log *make(void)
{
    struct audit_log *log = fx_open_as(SEGMENT, true, NULL);

    for (uint64_t i = 0; i < 20; i++) {
        fx_fill(log, i, i + 1);
        assert_int_equal(fx_checkpoint(log, fx_key), DBE_OK);
    }
    return log;
}

#endif
