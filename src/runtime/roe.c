/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.c - ROE tokens at the receiver: who approved, and that a token is used once.
 *
 * In:   messages that policy wants a token for; the key store; a file that remembers which tokens were used
 * Out:  verified or not, in the subject that pol_decide is asked about; a token spent before the handler sees a byte
 * Not:  no rule: that stands in policy/roe.c. A node whose policy asks for no token touches no file.
 *
 * The memory is bounded and survives a restart: records of id and end of validity, the file replaced as a whole and
 * synced before a token counts as spent. What has expired makes room; the latest end among what was forgotten is kept,
 * and no token that ends before it is taken, so that a clock that is set back brings none to life. A file that cannot
 * be read or written, or that is not whole, refuses every token. Where there is no file, whatever was used before this
 * service started is unknown: tokens that begin before are not taken, so that a file which is lost brings none to life.
 *
 * File, network byte order: magic "DRUS", number of records (u32), the floor and the beginning (u64 each), the records
 * (id, end as u64), SHA3-512 of all that precedes. It is locked through NAME.lock: two processes would not see what the
 * other lets pass.
 */
#include "runtime/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "node/keystore.h"
#include "policy/roe.h"

#define USED_MAGIC 0x44525553u /* "DRUS" */

enum {
    USED_MAX = 1024,
    ID_BYTES = 16,
    RECORD_BYTES = ID_BYTES + 8,
    HEAD_BYTES = 24,
    FILE_MAX_BYTES = HEAD_BYTES + USED_MAX * RECORD_BYTES + CRYPTO_HASH_BYTES,
};

struct used {
    uint8_t id[ID_BYTES];
    uint64_t until_ms;
};

struct svc_roe {
    char path[SVC_PATH_MAX];
    int lock_fd;
    uint64_t floor_ms; /* tokens that end by then are not taken */
    uint64_t since_ms; /* nor are those that begin before: nothing is known of that time */
    struct used used[USED_MAX];
    size_t count;
};

/* ---- memory ------------------------------------------------------------------------------------- */

static dbe_err put(const struct svc_roe *r, struct base_buf *b)
{
    uint8_t digest[CRYPTO_HASH_BYTES];

    base_buf_u32(b, USED_MAGIC);
    base_buf_u32(b, (uint32_t)r->count);
    base_buf_u64(b, r->floor_ms);
    base_buf_u64(b, r->since_ms);
    for (size_t i = 0; i < r->count; i++) {
        base_buf_bytes(b, r->used[i].id, ID_BYTES);
        base_buf_u64(b, r->used[i].until_ms);
    }
    DBE_TRY(b->err);
    DBE_TRY(crypto_sha3_512(b->data, b->len, digest));
    base_buf_bytes(b, digest, sizeof digest);
    return b->err;
}

static dbe_err save(const struct svc_roe *r, struct dbe_diag *diag)
{
    struct base_buf bytes;

    base_buf_init(&bytes, FILE_MAX_BYTES);
    dbe_err err = put(r, &bytes);
    if (err == DBE_OK)
        err = base_file_write(r->path, bytes.data, bytes.len, 0600, diag);
    base_buf_free(&bytes);
    return err;
}

static dbe_err parse(struct svc_roe *r, const struct base_buf *bytes, struct dbe_diag *diag)
{
    const size_t len = bytes->len < CRYPTO_HASH_BYTES ? 0 : bytes->len - CRYPTO_HASH_BYTES;
    struct base_cur c = base_cur_of(bytes->data, len);
    uint8_t digest[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_sha3_512(bytes->data, len, digest));
    bool whole = len >= HEAD_BYTES && memcmp(digest, bytes->data + len, sizeof digest) == 0;
    if (!whole || base_cur_u32(&c) != USED_MAGIC)
        return dbe_fail(diag, DBE_E_MALFORMED, "roe-used", 0, "%.90s is no whole memory of used ROE tokens", r->path);
    r->count = base_cur_u32(&c);
    r->floor_ms = base_cur_u64(&c);
    r->since_ms = base_cur_u64(&c);
    if (r->count > USED_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "roe-used", 4, "%.90s holds more than %d tokens", r->path, USED_MAX);
    for (size_t i = 0; i < r->count; i++) {
        base_cur_copy(&c, r->used[i].id, ID_BYTES);
        r->used[i].until_ms = base_cur_u64(&c);
    }
    return base_cur_end(&c);
}

static dbe_err load(struct svc_roe *r, struct dbe_diag *diag)
{
    struct base_buf bytes;

    base_buf_init(&bytes, FILE_MAX_BYTES);
    dbe_err err = base_file_read_private(r->path, FILE_MAX_BYTES, &bytes, diag);
    if (err == DBE_OK)
        err = parse(r, &bytes, diag);
    base_buf_free(&bytes);
    return err == DBE_E_NOT_FOUND ? save(r, diag) : err; /* the first of this node, or what was there is lost */
}

/* Ours alone, for as long as the descriptor lives. */
static dbe_err lock(struct svc_roe *r, struct dbe_diag *diag)
{
    char path[SVC_PATH_MAX + sizeof ".lock"];

    (void)snprintf(path, sizeof path, "%s.lock", r->path);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lock_fd < 0)
        return dbe_fail(diag, DBE_E_IO, "roe-used", 0, "cannot make %.90s: %s", path, strerror(errno));
    if (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return dbe_fail(diag, DBE_E_EXISTS, "roe-used", 0, "another process keeps %.90s", r->path);
    return DBE_OK;
}

static void memory_free(struct svc_roe *r)
{
    if (r == NULL)
        return;
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    base_free(r);
}

/* Open the memory, once. */
static dbe_err memory(struct svc *svc, struct dbe_diag *diag)
{
    if (svc->roe != NULL)
        return DBE_OK;
    struct svc_roe *r = base_alloc(1, sizeof *r);
    if (r == NULL)
        return DBE_E_NOMEM;
    r->lock_fd = -1;
    r->since_ms = svc->started_wall_ms;
    int n = svc->cfg.roe_used[0] != '\0' ? snprintf(r->path, sizeof r->path, "%s", svc->cfg.roe_used)
                                         : snprintf(r->path, sizeof r->path, "%s/%s.roe-used", svc->cfg.keys,
                                                    svc->cfg.name[0] != '\0' ? svc->cfg.name : svc->node_name);
    dbe_err err = n < 0 || (size_t)n >= sizeof r->path ? DBE_E_TOO_LARGE : lock(r, diag);
    if (err == DBE_OK)
        err = load(r, diag);
    if (err != DBE_OK) {
        memory_free(r);
        return err;
    }
    svc->roe = r;
    return DBE_OK;
}

static bool is_used(const struct svc_roe *r, const uint8_t id[ID_BYTES])
{
    for (size_t i = 0; i < r->count; i++)
        if (memcmp(r->used[i].id, id, ID_BYTES) == 0)
            return true;
    return false;
}

/* What has expired makes room. */
static void forget(struct svc_roe *r, uint64_t now_ms)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->count; i++) {
        if (r->used[i].until_ms <= now_ms)
            r->floor_ms = BASE_MAX(r->floor_ms, r->used[i].until_ms);
        else
            r->used[kept++] = r->used[i];
    }
    r->count = kept;
}

/* Why it may not be used, NULL if it may. A clock that was ahead when the memory began has been set right since: what
 * begins from now on is new in any case. */
static const char *spent(struct svc_roe *r, const struct pol_roe *roe)
{
    r->since_ms = BASE_MIN(r->since_ms, base_wall_ms());
    if (is_used(r, roe->id))
        return "was used already";
    if (roe->not_after_ms <= r->floor_ms)
        return "is of a time that has passed here";
    if (roe->not_before_ms < r->since_ms)
        return "begins before this node's memory of used tokens; ask for a new one";
    return NULL;
}

static dbe_err spend(struct svc *svc, const struct pol_roe *roe, struct dbe_diag *diag)
{
    struct svc_roe *r;

    DBE_TRY(memory(svc, diag));
    r = svc->roe;
    const char *why = spent(r, roe);
    if (why != NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, "roe-used", 0, "the ROE token %s", why);
    if (r->count == USED_MAX)
        forget(r, base_wall_ms());
    if (r->count == USED_MAX)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, "roe-used", 0, "%d ROE tokens were used and have not expired", USED_MAX);
    memcpy(r->used[r->count].id, roe->id, ID_BYTES);
    r->used[r->count++].until_ms = roe->not_after_ms;
    dbe_err err = save(r, diag);
    if (err != DBE_OK)
        r->count--; /* it did not become durable: it was not spent, and the message does not pass */
    return err;
}

/* ---- at the start, at a message -------------------------------------------------------------------- */

static bool may_be_needed(const struct svc *svc)
{
    for (unsigned type = 1; type < 256; type++)
        if (pol_roe_needed(&svc->policy, svc_identity(svc), NULL, (uint8_t)type))
            return true;
    return false;
}

void svc_roe_open(struct svc *svc)
{
    struct dbe_diag diag = {0};
    dbe_err err = may_be_needed(svc) ? memory(svc, &diag) : DBE_OK;

    if (err != DBE_OK)
        svc_log(svc, SVC_ERROR, NULL, "no ROE token will be taken: %s",
                diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
}

static bool find_person(void *ctx, const uint8_t fingerprint[64], struct dbe_identity *ret_id,
                        uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES])
{
    const struct svc *svc = ctx;

    return keys_find(svc->cfg.keys, svc->trust, fingerprint, ret_id, ret_pk);
}

void svc_roe_check(struct svc *svc, const struct dbe_msg *msg, struct pol_subject *subject, struct pol_roe *ret,
                   struct dbe_diag *diag)
{
    if (!pol_roe_needed(&svc->policy, subject->self, subject->peer, msg->type) ||
        dbe_tlv_find(msg, DBE_TLV_ROE_TOKEN_ID) == NULL)
        return; /* where one is needed and missing, the rule says so */
    subject->roe_err = pol_roe_verify(msg, subject->self->device, base_wall_ms(), find_person, svc, ret, diag);
    subject->roe_verified = subject->roe_err == DBE_OK;
    subject->roe_fault = diag->text[0] != '\0' ? diag->text : NULL;
}

void svc_roe_spend(struct svc *svc, const struct pol_roe *roe, struct pol_verdict *verdict)
{
    struct dbe_diag diag = {0};
    dbe_err err = spend(svc, roe, &diag);

    if (err == DBE_OK)
        return;
    verdict->code = DBE_E_ROE_TOKEN;
    verdict->rule = "roe-token";
    snprintf(verdict->reason, sizeof verdict->reason, "%.127s", diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
    verdict->labels = (struct pol_labels){0};
}

void svc_roe_free(struct svc *svc)
{
    memory_free(svc->roe);
    svc->roe = NULL;
}
