/* SPDX-License-Identifier: Apache-2.0
 *
 * verify.h - is this log the one that Device 14 wrote and that its peers saw? (docs/spec/audit-v1.md, section 9)
 *
 * Reads files, writes none, needs no service. Whose key signs is the caller's to know.
 */
#ifndef AUDIT_VERIFY_H
#define AUDIT_VERIFY_H

#include "audit/log.h"

enum { AUDIT_ANCHORS_MAX = 256, AUDIT_ANCHOR_MAX_BYTES = 16384 };

struct audit_verify {
    struct audit_place place; /* with the archive: all is verified; without it: what is left, and that it may be so */
    audit_key_fn *key;
    void *ctx;
    const char *const *anchors; /* files that peers keep */
    size_t anchor_count;
};
struct audit_report {
    uint64_t entries, checkpoints, signed_entries, anchors, torn_bytes;
    uint64_t archived;         /* entries that are elsewhere: 0 to archived - 1 */
    uint64_t archived_anchors; /* anchors of these alone: they were not held against anything */
    uint64_t missing, gaps;    /* records that never came, and those of them that their sender owned up to */
    uint8_t root[AUDIT_HASH_BYTES];
    struct audit_finding finding; /* the first thing that is wrong; AUDIT_RIGHT: nothing */
};
/* DBE_OK: the log was read, and the report's finding says whether it is right. E_IO, E_NOT_FOUND, E_NOMEM,
 * E_TOO_LARGE: it could not be read. */
dbe_err audit_verify(const struct audit_verify *what, struct audit_report *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* A proof as a file (section 6): an entry's line with the checkpoint that covers it, or two checkpoints. */
struct audit_proof_file {
    bool consistency;
    uint64_t index;         /* inclusion */
    struct audit_text line; /* inclusion: the entry */
    struct audit_proof proof;
    struct audit_note older, note; /* older: consistency */
};
dbe_err audit_proof_put(const struct audit_proof_file *p, struct audit_text older_note, struct audit_text note,
                        struct base_buf *out) DBE_MUST_CHECK;
/* E_MALFORMED; diag says which line. */
dbe_err audit_proof_get(const char *text, size_t len, struct audit_proof_file *ret,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
/* The proof and the signatures that it rests on. E_AUTH. */
dbe_err audit_proof_verify(const struct audit_proof_file *p, audit_key_fn *key, void *ctx,
                           struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
