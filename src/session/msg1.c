/* SPDX-License-Identifier: Apache-2.0
 *
 * msg1.c - message 1: the initiator's offer. Suites with a public value and an encapsulation key for each, nonce,
 * registry hash, policy digest; in the clear. Nothing in it says who speaks.
 *
 * Every suite comes with its shares, so that the responder's choice never costs a round trip more.
 */
#include "session/session_priv.h"

#include <string.h>

static size_t share_bytes(const struct crypto_suite *suite)
{
    return suite->ecdh->pub_bytes + suite->kem->ek_bytes;
}

static dbe_err put_share(struct sess *s, size_t i, struct base_buf *b)
{
    const struct crypto_suite *suite = s->suites[i];
    uint8_t *at;

    base_buf_u16(b, suite->id);
    base_buf_u16(b, (uint16_t)share_bytes(suite));
    at = base_buf_grow(b, share_bytes(suite));
    if (at == NULL)
        return b->err;
    DBE_TRY(suite->ecdh->keygen(&s->hs->ecdh[i], at));
    memcpy(s->hs->ecdh_pub[i], at, suite->ecdh->pub_bytes);
    return suite->kem->keygen(&s->hs->kem[i], at + suite->ecdh->pub_bytes);
}

static dbe_err put_all(struct sess *s, size_t total, struct base_buf *b)
{
    struct sess_rec_head head = {.length = (uint32_t)(total - DBE_RECORD_HEADER_BYTES), .type = SESS_REC_MSG_1};
    size_t start = b->len;
    uint8_t *p = base_buf_grow(b, DBE_RECORD_HEADER_BYTES);

    if (p == NULL)
        return b->err;
    sess_rec_head_put(p, &head);
    DBE_TRY(base_random(s->hs->nonce, sizeof s->hs->nonce));
    base_buf_u8(b, SESS_HS_VERSION);
    base_buf_u8(b, (uint8_t)s->suites_count);
    base_buf_bytes(b, s->hs->nonce, sizeof s->hs->nonce);
    base_buf_bytes(b, s->hs->registry, SESS_REGISTRY_BYTES);
    base_buf_bytes(b, s->config.policy_digest.bytes, sizeof s->config.policy_digest.bytes);
    s->policy_digest = s->config.policy_digest;
    for (size_t i = 0; i < s->suites_count; i++)
        DBE_TRY(put_share(s, i, b));
    if (b->err != DBE_OK)
        return b->err;
    BASE_INVARIANT(b->len - start == total);
    return crypto_hash_update(s->hs->transcript, b->data + start, total);
}

dbe_err sess_msg1_make(struct sess *s, struct base_buf *buf)
{
    size_t start = buf->len, total = DBE_RECORD_HEADER_BYTES + SESS_MSG1_FIXED_BYTES;
    dbe_err err;

    for (size_t i = 0; i < s->suites_count; i++)
        total += 4 + share_bytes(s->suites[i]);
    if (total > DBE_HANDSHAKE_MAX_BYTES)
        return dbe_fail(&s->diag, DBE_E_TOO_LARGE, "message 1", 0, "%zu suites do not fit", s->suites_count);
    err = put_all(s, total, buf);
    if (err != DBE_OK)
        buf->len = start;
    return err;
}

/* One offered suite and its shares. */
struct offer {
    uint16_t id;
    const uint8_t *share;
    size_t share_len;
};

/* spec 6.16: ours, or the one before it; none counts as no policy that was before. */
static dbe_err take_policy(struct sess *s, const struct dbe_policy_digest *theirs)
{
    const struct dbe_policy_digest *ours = &s->config.policy_digest, *before = &s->config.policy_digest_before;
    char their_hex[2 * sizeof theirs->bytes + 1], our_hex[sizeof their_hex];
    bool may = sess_same_policy(theirs, ours) ||
               (sess_same_policy(theirs, before) && !sess_same_policy(theirs, &sess_policy_none));

    if (!may) {
        base_hex(theirs->bytes, sizeof theirs->bytes, their_hex);
        base_hex(ours->bytes, sizeof ours->bytes, our_hex);
        return dbe_fail(&s->diag, DBE_E_POLICY, "message 1 policy digest", 0, "the peer's policy is %s, ours %s",
                        their_hex, our_hex);
    }
    s->policy_digest = *theirs;
    return DBE_OK;
}

static dbe_err parse(struct sess *s, const uint8_t *body, size_t len, struct offer offers[DBE_SUITES_MAX],
                     size_t *ret_count)
{
    struct base_cur c = base_cur_of(body, len);
    uint8_t version = base_cur_u8(&c);
    size_t count = base_cur_u8(&c);
    const uint8_t *nonce = base_cur_bytes(&c, SESS_NONCE_BYTES), *registry = base_cur_bytes(&c, SESS_REGISTRY_BYTES);
    struct dbe_policy_digest policy = {0};

    (void)nonce; /* it counts in the transcript */
    base_cur_copy(&c, policy.bytes, sizeof policy.bytes);
    if (!base_cur_ok(&c) || count == 0 || count > DBE_SUITES_MAX)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "message 1", base_cur_offset(&c), "%zu suites in %zu bytes", count,
                        len);
    if (version != SESS_HS_VERSION)
        return dbe_fail(&s->diag, DBE_E_UNSUPPORTED, "message 1 version", 0, "the peer speaks version %u", version);
    for (size_t i = 0; i < count; i++) {
        offers[i].id = base_cur_u16(&c);
        offers[i].share_len = base_cur_u16(&c);
        offers[i].share = base_cur_bytes(&c, offers[i].share_len);
        for (size_t j = 0; j < i; j++)
            if (offers[j].id == offers[i].id)
                return dbe_fail(&s->diag, DBE_E_DUPLICATE, "message 1 suites", base_cur_offset(&c), "suite %u twice",
                                offers[i].id);
    }
    if (base_cur_end(&c) != DBE_OK)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "message 1", base_cur_offset(&c), "its lengths do not add up");
    if (memcmp(registry, s->hs->registry, SESS_REGISTRY_BYTES) != 0)
        return dbe_fail(&s->diag, DBE_E_REGISTRY, "message 1 registry hash", 0,
                        "the peer was built from another schema/");
    DBE_TRY(take_policy(s, &policy));
    *ret_count = count;
    return DBE_OK;
}

/* Our best suite among those offered. */
static dbe_err choose(struct sess *s, const struct offer *offers, size_t count, const struct offer **ret)
{
    for (size_t i = 0; i < s->suites_count; i++)
        for (size_t j = 0; j < count; j++) {
            if (offers[j].id != s->suites[i]->id)
                continue;
            if (offers[j].share_len != share_bytes(s->suites[i]))
                return dbe_fail(&s->diag, DBE_E_MALFORMED, "message 1 share", 0, "%zu bytes for %s",
                                offers[j].share_len, s->suites[i]->name);
            s->suite = s->suites[i];
            *ret = &offers[j];
            return DBE_OK;
        }
    return dbe_fail(&s->diag, DBE_E_UNSUPPORTED, "message 1 suites", 0, "none of the %zu offered suites is known here",
                    count);
}

dbe_err sess_msg1_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct offer offers[DBE_SUITES_MAX] = {0};
    const struct offer *chosen = NULL;
    size_t count = 0;

    DBE_TRY(parse(s, rec + DBE_RECORD_HEADER_BYTES, len - DBE_RECORD_HEADER_BYTES, offers, &count));
    DBE_TRY(choose(s, offers, count, &chosen));
    DBE_TRY(crypto_hash_update(s->hs->transcript, rec, len));
    DBE_TRY(sess_msg2_make(s, chosen->share, chosen->share + s->suite->ecdh->pub_bytes, out->buf));
    sess_move(s, SESS_R_WAIT_3);
    out->event = SESS_HANDSHAKING;
    return DBE_OK;
}
