/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.c - ROE tokens at the receiver: who approved, and that a token is used once.
 *
 * In:   messages that policy wants a token for; the key store; a file that remembers which tokens were used
 * Out:  verified or not, in the subject that pol_decide is asked about; a token spent before the handler sees a byte
 * Not:  no rule: that stands in policy/roe.c. A node that never gets such a message touches no file.
 *
 * The memory is bounded and survives a restart: records of id and end of validity, the file replaced as a whole and
 * synced before a token counts as spent. What has expired makes room; the latest end among what was forgotten is kept,
 * and no token that ends before it is taken, so that a clock that is set back brings none to life. A file that cannot
 * be read or written refuses every token.
 */
#include "runtime/priv.h"

#include <stdio.h>
#include <string.h>

#include "node/keystore.h"
#include "policy/roe.h"

enum { USED_MAX = 1024, ID_BYTES = 16, RECORD_BYTES = ID_BYTES + 8, FILE_MAX_BYTES = (USED_MAX + 1) * RECORD_BYTES };

struct used {
    uint8_t id[ID_BYTES];
    uint64_t until_ms;
};

struct svc_roe {
    char path[SVC_PATH_MAX];
    uint64_t floor_ms; /* tokens that end by then are not taken */
    struct used used[USED_MAX];
    size_t count;
};

/* ---- memory ------------------------------------------------------------------------------------- */

static void put(struct base_buf *b, const uint8_t id[ID_BYTES], uint64_t until_ms)
{
    base_buf_bytes(b, id, ID_BYTES);
    base_buf_u64(b, until_ms);
}

/* The first record is the floor, under an id that no token has. */
static dbe_err save(const struct svc_roe *r, struct dbe_diag *diag)
{
    static const uint8_t none[ID_BYTES];
    struct base_buf bytes;

    base_buf_init(&bytes, FILE_MAX_BYTES);
    put(&bytes, none, r->floor_ms);
    for (size_t i = 0; i < r->count; i++)
        put(&bytes, r->used[i].id, r->used[i].until_ms);
    dbe_err err = bytes.err != DBE_OK ? bytes.err : base_file_write(r->path, bytes.data, bytes.len, 0600, diag);
    base_buf_free(&bytes);
    return err;
}

static dbe_err parse(struct svc_roe *r, const struct base_buf *bytes, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(bytes->data, bytes->len);

    if (bytes->len == 0 || bytes->len % RECORD_BYTES != 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "roe-used", 0, "%.100s is no memory of used ROE tokens", r->path);
    (void)base_cur_bytes(&c, ID_BYTES);
    r->floor_ms = base_cur_u64(&c);
    while (base_cur_left(&c) > 0 && r->count < USED_MAX) {
        base_cur_copy(&c, r->used[r->count].id, ID_BYTES);
        r->used[r->count++].until_ms = base_cur_u64(&c);
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
    return err == DBE_E_NOT_FOUND ? save(r, diag) : err; /* the first token of this node */
}

/* Open the memory at the first use. */
static dbe_err memory(struct svc *svc, struct dbe_diag *diag)
{
    if (svc->roe != NULL)
        return DBE_OK;
    struct svc_roe *r = base_alloc(1, sizeof *r);
    if (r == NULL)
        return DBE_E_NOMEM;
    int n = svc->cfg.roe_used[0] != '\0' ? snprintf(r->path, sizeof r->path, "%s", svc->cfg.roe_used)
                                         : snprintf(r->path, sizeof r->path, "%s/%s.roe-used", svc->cfg.keys,
                                                    svc->cfg.name[0] != '\0' ? svc->cfg.name : svc->node_name);
    dbe_err err = n < 0 || (size_t)n >= sizeof r->path ? DBE_E_TOO_LARGE : load(r, diag);
    if (err != DBE_OK) {
        base_free(r);
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

static dbe_err spend(struct svc *svc, const struct pol_roe *roe, struct dbe_diag *diag)
{
    struct svc_roe *r;

    DBE_TRY(memory(svc, diag));
    r = svc->roe;
    if (is_used(r, roe->id))
        return dbe_fail(diag, DBE_E_ROE_TOKEN, "roe-used", 0, "the ROE token was used already");
    if (roe->not_after_ms <= r->floor_ms)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, "roe-used", 0, "the ROE token is of a time that has passed here");
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

/* ---- at a message --------------------------------------------------------------------------------- */

static bool find_person(void *ctx, const uint8_t fingerprint[64], struct dbe_identity *ret_id,
                        uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES])
{
    const struct svc *svc = ctx;

    return keys_find(svc->cfg.keys, svc->trust, fingerprint, ret_id, ret_pk);
}

void svc_roe_check(struct svc *svc, const struct dbe_msg *msg, struct pol_subject *subject, struct pol_roe *ret,
                   struct dbe_diag *diag)
{
    if (!pol_roe_needed(&svc->policy, subject->self, msg->type) || dbe_tlv_find(msg, DBE_TLV_ROE_TOKEN_ID) == NULL)
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
    base_free(svc->roe);
    svc->roe = NULL;
}
