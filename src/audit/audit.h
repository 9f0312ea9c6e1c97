/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.h - Device 14's log: records as services send them, lines as they are kept, the tree over the lines, signed
 * checkpoints, proofs, the writer and the verifier (docs/spec/audit-v1.md).
 *
 * Reading order: record, line, tree, proof, note; then log (writes) and verify (reads). All but log and scan are pure:
 * no file, no clock. Threads: an object belongs to one thread.
 */
#ifndef AUDIT_AUDIT_H
#define AUDIT_AUDIT_H

#include "base/base.h"
#include "crypto/crypto.h"

enum {
    AUDIT_VERSION = 1,
    AUDIT_HASH_BYTES = CRYPTO_HASH_BYTES, /* SHA3-512 everywhere */
    AUDIT_RUN_BYTES = 8,
    AUDIT_CHANNEL_BYTES = 16,
    AUDIT_TAG_BYTES = CRYPTO_AEAD_IV_BYTES + CRYPTO_AEAD_TAG_BYTES,
    AUDIT_RULE_MAX = 64,
    AUDIT_TENANT_MAX = 64,
    AUDIT_PEER_MAX = 255,
    AUDIT_DETAIL_MAX = 255,
    AUDIT_RECORD_FIXED = 72, /* bytes of a record before its texts */
    AUDIT_RECORD_MAX = AUDIT_RECORD_FIXED + 4 + AUDIT_RULE_MAX + AUDIT_TENANT_MAX + AUDIT_PEER_MAX + AUDIT_DETAIL_MAX,
    AUDIT_LINE_MAX = 8192,              /* without its line feed */
    AUDIT_BATCH_MAX_BYTES = 256 * 1024, /* records of one message */
    AUDIT_SENDERS_MAX = 1024,           /* runs of senders that the log follows */
};

enum audit_kind {
#define KIND(name, number, text, security, doc) AUDIT_##name = (number),
#include "audit/kinds.def"
#undef KIND
};
const char *audit_kind_name(uint8_t kind); /* NULL: no such kind */
bool audit_kind_security(uint8_t kind);
bool audit_kind_own(uint8_t kind); /* what Device 14 alone can know: from another sender it is malformed */

/* ---- records (record.c) ------------------------------------------------------------------------------------- */

/* One thing that happened, as its sender saw it. Texts are borrowed slices of UTF-8, and may be empty. */
struct audit_text {
    const char *at;
    size_t len;
};
struct audit_record {
    uint8_t kind;     /* enum audit_kind */
    uint64_t seq;     /* the sender's own running number; of a gap: that of the last record that is missing */
    uint64_t time_ms; /* Unix, by the sender's clock */
    uint32_t count;   /* gap: how many; others: 0, or a number that the kind gives a meaning */
    uint16_t code;    /* dbe_err; 0: allowed, or done */
    uint8_t msg_type; /* 0: none */
    bool labelled;    /* the three labels below count */
    uint8_t classification, roe_level;
    uint32_t compartments;
    bool has_request, has_channel;
    uint8_t request_id[16], channel[AUDIT_CHANNEL_BYTES];
    struct audit_text rule, tenant, peer, detail;
};
/* Write the record's bytes and return how many. Texts that are too long are cut at a character's border, and what is
 * not UTF-8 is left out: a record is never lost for its words. */
size_t audit_record_write(const struct audit_record *r, uint8_t out[AUDIT_RECORD_MAX]);
/* The same, appended to `out`. The error is that of the buffer. */
dbe_err audit_record_put(const struct audit_record *r, struct base_buf *out) DBE_MUST_CHECK;
/* Read one record from the front of hostile bytes; its texts point into them. E_MALFORMED, E_UNSUPPORTED (version),
 * E_RANGE (kind), E_UTF8. */
dbe_err audit_record_get(const void *bytes, size_t len, struct audit_record *ret, size_t *ret_len) DBE_MUST_CHECK;
/* Which channel: 16 bytes that both ends of a channel compute from K_log, and nobody else can. */
dbe_err audit_channel_id(const uint8_t k_log[32], uint8_t ret[AUDIT_CHANNEL_BYTES]) DBE_MUST_CHECK;
/* The tag of a batch under K_log of the channel that it is sent over: the nonce, then AES-256-GCM's tag over run and
 * records. A hash of them would cost a busy sender more than all the rest of a record. */
dbe_err audit_batch_tag(const uint8_t k_log[32], const uint8_t run[AUDIT_RUN_BYTES],
                        const uint8_t nonce[CRYPTO_AEAD_IV_BYTES], const void *records, size_t len,
                        uint8_t ret[AUDIT_TAG_BYTES]) DBE_MUST_CHECK;

/* ---- lines (line.c) ----------------------------------------------------------------------------------------- */

/* What the log adds to a record. */
struct audit_entry {
    uint64_t index, stored_ms;
    uint8_t prev[AUDIT_HASH_BYTES]; /* leaf hash of the line before; zeros for the first */
    const char *sender;             /* SPIFFE id */
    uint8_t run[AUDIT_RUN_BYTES];
    struct audit_record record;
};
/* The line, without a line feed. E_TOO_LARGE. */
dbe_err audit_line_put(const struct audit_entry *e, struct base_buf *out) DBE_MUST_CHECK;
/* What a reader of the log must know of a line. */
struct audit_line {
    uint64_t index, seq, count;
    uint8_t prev[AUDIT_HASH_BYTES], run[AUDIT_RUN_BYTES];
    uint8_t kind;
    struct audit_text sender;
};
/* Read the fixed front of a line strictly. E_MALFORMED; diag says at which byte. */
dbe_err audit_line_get(const char *line, size_t len, struct audit_line *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* "2026-11-28T16:00:36.123Z". */
enum { AUDIT_TIME_CHARS = 24 };
void audit_time_text(uint64_t unix_ms, char out[32]);

/* ---- the tree (tree.c): RFC 9162, section 2.1, with SHA3-512 -------------------------------------------------- */

struct audit_tree { /* the roots of its perfect subtrees: node[k] of 2^k leaves counts where bit k of size is set */
    uint64_t size;
    uint8_t node[64][AUDIT_HASH_BYTES];
};
/* SHA3-512(0x00 || line). */
dbe_err audit_leaf_hash(const void *line, size_t len, uint8_t ret[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;
/* SHA3-512(0x01 || left || right). */
dbe_err audit_node_hash(const uint8_t left[AUDIT_HASH_BYTES], const uint8_t right[AUDIT_HASH_BYTES],
                        uint8_t ret[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;
dbe_err audit_tree_add(struct audit_tree *t, const uint8_t leaf[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;
/* Of an empty tree: SHA3-512 of nothing. */
dbe_err audit_tree_root(const struct audit_tree *t, uint8_t ret[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;

/* ---- proofs (proof.c) ------------------------------------------------------------------------------------------ */

enum { AUDIT_PROOF_MAX = 66 };
struct audit_proof {
    size_t count;
    uint8_t hash[AUDIT_PROOF_MAX][AUDIT_HASH_BYTES];
};
/* A proof is made in one pass over the leaves, in memory that does not grow with the log: plan, feed each leaf hash
 * from 0 on, finish. */
struct audit_prover;
/* That leaf `index` is in the tree of `size` leaves. E_RANGE: it is not that large. */
dbe_err audit_prover_inclusion(uint64_t index, uint64_t size, struct audit_prover **ret) DBE_MUST_CHECK;
/* That the tree of `size` leaves begins with the tree of `old` leaves. E_RANGE: old is 0 or above size. */
dbe_err audit_prover_consistency(uint64_t old, uint64_t size, struct audit_prover **ret) DBE_MUST_CHECK;
/* Instead of the first leaves, the tree of them: they are elsewhere. E_RANGE: what is to be proved lies among them. */
dbe_err audit_prover_begin(struct audit_prover *p, const struct audit_tree *base) DBE_MUST_CHECK;
dbe_err audit_prover_leaf(struct audit_prover *p, const uint8_t leaf[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;
/* E_STATE: not all leaves were fed. */
dbe_err audit_prover_finish(const struct audit_prover *p, struct audit_proof *ret) DBE_MUST_CHECK;
void audit_prover_free(struct audit_prover *p); /* takes NULL */
/* RFC 9162, sections 2.1.3.2 and 2.1.4.2. E_AUTH: it proves nothing; E_MALFORMED: it has another length. */
dbe_err audit_verify_inclusion(uint64_t index, uint64_t size, const uint8_t leaf[AUDIT_HASH_BYTES],
                               const struct audit_proof *proof, const uint8_t root[AUDIT_HASH_BYTES]) DBE_MUST_CHECK;
dbe_err audit_verify_consistency(uint64_t old, const uint8_t old_root[AUDIT_HASH_BYTES], uint64_t size,
                                 const uint8_t root[AUDIT_HASH_BYTES], const struct audit_proof *proof) DBE_MUST_CHECK;

/* ---- checkpoints (note.c) --------------------------------------------------------------------------------------- */

enum {
    AUDIT_ORIGIN_MAX = 160,
    AUDIT_KEY_ID_BYTES = 4,
    AUDIT_BODY_MAX = 512,  /* the signed text */
    AUDIT_NOTE_MAX = 8192, /* with its signature */
};
/* FIPS 204 context string of a checkpoint's signature. */
#define AUDIT_CHECKPOINT_CTX "DSMIL audit checkpoint v1"
#define AUDIT_ARCHIVE_CTX    "DSMIL audit archive v1" /* of a statement that entries were put away */
#define AUDIT_STATE_CTX      "DSMIL audit state v1"   /* of the writer's memory */

struct audit_checkpoint {
    char origin[AUDIT_ORIGIN_MAX]; /* "dsmil.local/audit/14" */
    uint64_t size, time_ms;
    uint8_t root[AUDIT_HASH_BYTES];
};
/* The text that is signed, with its last line feed. */
dbe_err audit_checkpoint_put(const struct audit_checkpoint *c, struct base_buf *out) DBE_MUST_CHECK;
/* First 4 bytes of SHA3-512(origin || LF || 0xFF || "ML-DSA-87" || public key). */
dbe_err audit_key_id(const char *origin, const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES],
                     uint8_t ret[AUDIT_KEY_ID_BYTES]) DBE_MUST_CHECK;
/* Text, blank line, signature line. */
dbe_err audit_note_put(const struct audit_checkpoint *c, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                       const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], struct base_buf *out) DBE_MUST_CHECK;
struct audit_note {
    struct audit_checkpoint checkpoint;
    struct audit_text body; /* what is signed */
    uint8_t key_id[AUDIT_KEY_ID_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
};
/* Read one note from the front of hostile text, strictly. E_MALFORMED. */
dbe_err audit_note_get(const char *text, size_t len, struct audit_note *ret, size_t *ret_len) DBE_MUST_CHECK;

/* Who signs: `use` is the context string. */
typedef dbe_err audit_sign_fn(void *ctx, const char *use, const void *msg, size_t len,
                              uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]);
struct audit_signer {
    uint8_t key_id[AUDIT_KEY_ID_BYTES];
    audit_sign_fn *sign;
    void *ctx;
};
/* The public key with this id that may sign for `origin` at `time_ms`. Any error: there is none; diag says why. */
typedef dbe_err audit_key_fn(void *ctx, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                             uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag);
/* Was `text` signed by such a key? E_AUTH, or what `key` says. */
dbe_err audit_signed(const char *use, const char *origin, uint64_t time_ms, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                     const void *text, size_t len, const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], audit_key_fn *key,
                     void *ctx, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same of a note. */
dbe_err audit_note_verify(const struct audit_note *note, audit_key_fn *key, void *ctx,
                          struct dbe_diag *diag) DBE_MUST_CHECK;

/* What a peer keeps of the log, so that it can be held against it: the last head that was acknowledged to it, and the
 * last checkpoint. */
struct audit_anchor {
    uint64_t size; /* 0: none yet */
    uint8_t root[AUDIT_HASH_BYTES];
    bool has_note;
    struct audit_text note;
};
dbe_err audit_anchor_put(const struct audit_anchor *a, struct base_buf *out) DBE_MUST_CHECK;
dbe_err audit_anchor_get(const char *text, size_t len, struct audit_anchor *ret) DBE_MUST_CHECK;

#endif
