/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.c - see sealed.h.
 */
#include "devices/l7_worker/sealed.h"

#include <string.h>

#include "dbe/payload.h"
#include "devices/l7_worker/tools.h"
#include "dsmil.pb-c.h"

/* ---- keys ------------------------------------------------------------------------------------------------------- */

dbe_err worker_keys_tick(struct worker_keys *keys, const struct dbe_credential *self, uint64_t now_ms)
{
    struct e2e_key *next = NULL;

    if (keys->before != NULL && e2e_key_expired(keys->before, now_ms)) { /* from now on nobody can open what it did */
        e2e_key_free(keys->before);
        keys->before = NULL;
    }
    /* The clock was set back: the card would be refused as of the future, or the key take what it has seen for old. */
    const bool back = now_ms < keys->made_ms || now_ms + E2E_WINDOW_MS / 2 < keys->last_ms;
    keys->last_ms = now_ms;
    if (keys->current != NULL && !back && now_ms - keys->made_ms < WORKER_KEY_ROTATE_MS)
        return DBE_OK;
    DBE_TRY(e2e_key_new(self, now_ms, WORKER_KEY_ROTATE_MS + WORKER_KEY_OVERLAP_MS, &next));
    e2e_key_free(keys->before);
    keys->before = keys->current;
    keys->current = next;
    keys->made_ms = now_ms;
    return DBE_OK;
}

void worker_keys_free(struct worker_keys *keys)
{
    e2e_key_free(keys->current);
    e2e_key_free(keys->before);
    keys->current = keys->before = NULL;
}

/* ---- opening and sealing ---------------------------------------------------------------------------------------- */

void worker_private_free(struct worker_private *p)
{
    e2e_talk_free(p->talk);
    crypto_hash_free(p->answer);
    *p = (struct worker_private){0};
}

bool worker_is_sealed(const struct dbe_msg *msg)
{
    uint8_t device;

    return dbe_tlv_u8(msg, DBE_TLV_SEALED_TO, &device) != DBE_E_NOT_FOUND;
}

static const char *reason_of(dbe_err err)
{
    switch (err) {
    case DBE_E_AUTH: return "the sealed prompt does not open: it is for another key, or its labels were changed";
    case DBE_E_REPLAY: return "this sealed prompt was opened before";
    case DBE_E_EXPIRED: return "the sealed prompt, or the key it is sealed to, is too old";
    case DBE_E_LIMIT: return "too many sealed prompts within two minutes";
    default: return "the sealed prompt cannot be read";
    }
}

static dbe_err open_with(struct worker_keys *keys, const struct e2e_labels *labels, const ProtobufCBinaryData *sealed,
                         uint64_t now_ms, struct base_buf *plain, struct worker_private *ret)
{
    struct e2e_key *key =
        keys->before != NULL && e2e_key_is(keys->before, sealed->data, sealed->len) ? keys->before : keys->current;

    return e2e_open_request(key, labels, sealed->data, sealed->len, now_ms, plain, &ret->talk);
}

/* From the field `sealed` and from nowhere else. */
static dbe_err open_payload(struct worker_keys *keys, const struct e2e_labels *l, const struct dbe_msg *msg,
                            uint64_t now_ms, struct base_buf *plain, struct worker_private *ret)
{
    dbe_err err = DBE_E_MALFORMED;

    ret->answers = 1;
    if (msg->type == DBE_MSG_L7_EMBED_REQ) {
        Dsmil__L7EmbedRequest *embed = dsmil__l7_embed_request__unpack(NULL, msg->payload_len, msg->payload);
        if (embed != NULL)
            err = open_with(keys, l, &embed->sealed, now_ms, plain, ret);
        dsmil__l7_embed_request__free_unpacked(embed, NULL);
        return err;
    }
    Dsmil__L7ChatRequest *chat = dsmil__l7_chat_request__unpack(NULL, msg->payload_len, msg->payload);
    if (chat != NULL) {
        ret->answers = BASE_MAX(chat->answers, 1U);
        err = open_with(keys, l, &chat->sealed, now_ms, plain, ret);
    }
    dsmil__l7_chat_request__free_unpacked(chat, NULL);
    return err;
}

dbe_err worker_open(struct worker_keys *keys, const struct dbe_msg *msg, const struct pol_labels *labels,
                    uint8_t device, const uint8_t request_id[16], uint64_t now_ms, struct base_buf *plain,
                    struct worker_private *ret, const char **ret_reason)
{
    char profile[E2E_PROFILE_MAX + 1] = "";
    struct e2e_labels l = {.tenant = labels->tenant,
                           .profile = profile,
                           .compartments = labels->compartments,
                           .classification = labels->classification,
                           .roe_level = labels->roe_level,
                           .type = msg->type,
                           .device = device};

    *ret_reason = "only chats and texts to embed can be sealed";
    if (msg->type != DBE_MSG_L7_CHAT_REQ && msg->type != DBE_MSG_L7_EMBED_REQ)
        return DBE_E_UNSUPPORTED;
    *ret_reason = reason_of(DBE_E_MALFORMED);
    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) != DBE_OK)
        return DBE_E_MALFORMED;
    dbe_err err = dbe_tlv_text(msg, DBE_TLV_L7_PROFILE, profile, sizeof profile);
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        return err;
    memcpy(l.request_id, request_id, sizeof l.request_id);
    err = open_payload(keys, &l, msg, now_ms, plain, ret);
    *ret_reason = reason_of(err);
    return err;
}

dbe_err worker_seal(struct worker_private *p, uint8_t type, const struct engine_result *totals, struct base_buf *packed)
{
    Dsmil__L7ChatResponse chat = DSMIL__L7_CHAT_RESPONSE__INIT;
    Dsmil__L7EmbedResponse embed = DSMIL__L7_EMBED_RESPONSE__INIT;
    const ProtobufCMessage *outer = type == DBE_MSG_L7_EMBED_RESP ? &embed.base : &chat.base;
    Dsmil__Usage usage = DSMIL__USAGE__INIT;
    struct base_buf piece;

    if (p->talk == NULL)
        return DBE_OK;
    base_buf_init(&piece, DBE_PAYLOAD_MAX_BYTES);
    dbe_err err = e2e_seal_piece(p->talk, packed->data, packed->len, totals != NULL, &piece);
    base_wipe(packed->data, packed->len);
    base_buf_clear(packed);
    chat.sealed = embed.sealed = (ProtobufCBinaryData){piece.len, piece.data};
    if (totals != NULL) {
        usage.prompt_tokens = totals->prompt_tokens;
        usage.completion_tokens = totals->answer_tokens;
        usage.total_tokens = totals->prompt_tokens + totals->answer_tokens;
        chat.usage = embed.usage = &usage;
    }
    void *room = err == DBE_OK ? base_buf_grow(packed, protobuf_c_message_get_packed_size(outer)) : NULL;
    if (room != NULL)
        (void)protobuf_c_message_pack(outer, room);
    else if (err == DBE_OK)
        err = packed->err;
    base_buf_free(&piece);
    return err;
}

/* ---- receipts --------------------------------------------------------------------------------------------------- */

dbe_err worker_receipt_begin(struct worker_private *p, const void *payload, size_t len)
{
    DBE_TRY(crypto_sha3_512(payload, len, p->request_digest));
    return crypto_hash_new(&p->answer);
}

/* NULs are left out of what is sent (answer.h), so of the digest too. */
dbe_err worker_receipt_text(struct worker_private *p, const struct base_buf *text)
{
    for (size_t at = 0; p->answer != NULL && at < text->len;) {
        const uint8_t *nul = memchr(text->data + at, 0, text->len - at);
        const size_t n = nul != NULL ? (size_t)(nul - text->data) - at : text->len - at;
        DBE_TRY(crypto_hash_update(p->answer, text->data + at, n));
        at += n + 1;
    }
    return DBE_OK;
}

dbe_err worker_receipt_end(struct worker_private *p, struct e2e_receipt *r, const struct engine_result *result,
                           const struct base_buf *call, const struct dbe_credential *self, struct base_buf *out)
{
    struct worker_calls read = {0};

    if (p->answer == NULL)
        return DBE_OK;
    DBE_TRY(worker_calls_read((const char *)call->data, call->len, &read));
    r->finish = result->finish == LLM_FINISH_LENGTH ? E2E_FINISH_LENGTH
                : read.count > 0                    ? E2E_FINISH_TOOL
                                                    : E2E_FINISH_STOP;
    r->prompt_tokens = result->prompt_tokens;
    r->cached_tokens = result->cached_tokens;
    r->completion_tokens = result->answer_tokens;
    memcpy(r->request_digest, p->request_digest, sizeof r->request_digest);
    dbe_err err = e2e_answer_end(p->answer, NULL, NULL, r->answer_digest);
    for (size_t i = 0; i < read.count && err == DBE_OK; i++)
        err = e2e_answer_end(p->answer, read.list[i].name, read.list[i].arguments, r->answer_digest);
    if (err == DBE_OK)
        err = e2e_receipt_issue(r, self, out);
    worker_calls_free(&read);
    return err;
}
