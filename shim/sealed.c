/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.c - see sealed.h.
 */
#include "shim/sealed.h"

#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "policy/policy.h"

/* ---- cards ------------------------------------------------------------------------------------------------------ */

/* The row of that worker: its own, a free one, or that of the card which ends first. */
static struct shim_card *row_for(struct shim_cards *cards, uint8_t device)
{
    struct shim_card *row = &cards->list[0];

    for (size_t i = 0; i < cards->count; i++) {
        if (cards->list[i].card.worker.device == device)
            return &cards->list[i];
        if (cards->list[i].card.not_after_ms < row->card.not_after_ms)
            row = &cards->list[i];
    }
    return cards->count < SHIM_CARDS_MAX ? &cards->list[cards->count++] : row;
}

dbe_err shim_cards_take(struct shim_cards *cards, const void *bytes, size_t len, const struct dbe_trust *trust,
                        uint64_t now_ms, struct dbe_diag *diag)
{
    uint8_t seen[CRYPTO_HASH_BYTES];
    struct e2e_card card;

    DBE_TRY(crypto_sha3_512(bytes, len, seen));
    for (size_t i = 0; i < cards->count; i++)
        if (memcmp(cards->list[i].seen, seen, sizeof seen) == 0)
            return DBE_OK;
    DBE_TRY(e2e_card_verify(bytes, len, trust, now_ms, &card, diag));
    struct shim_card *row = row_for(cards, card.worker.device);
    row->card = card;
    memcpy(row->seen, seen, sizeof seen);
    return DBE_OK;
}

dbe_err shim_cards_find(const struct shim_cards *cards, uint8_t device, const struct e2e_labels *labels,
                        const struct dbe_trust *trust, uint64_t now_ms, const struct e2e_card **ret,
                        const char **ret_reason)
{
    struct pol_labels say = {
        .compartments = labels->compartments, .classification = labels->classification, .roe_level = labels->roe_level};
    struct pol_verdict verdict;

    *ret_reason = "no key of the worker is known that the prompt could be sealed to, and it is not sent in clear";
    for (size_t i = 0; i < cards->count; i++) {
        const struct e2e_card *card = &cards->list[i].card;
        if (card->worker.device != device)
            continue;
        if (now_ms >= card->not_after_ms || dbe_trust_check(trust, &card->worker, now_ms, NULL) != DBE_OK)
            return DBE_E_UNAVAILABLE;
        pol_decide_send(&card->worker, &say, &verdict);
        *ret_reason = "the worker's certificate does not take these labels";
        DBE_TRY(verdict.code);
        *ret = card;
        return DBE_OK;
    }
    return DBE_E_UNAVAILABLE;
}

/* ---- request and answer ----------------------------------------------------------------------------------------- */

dbe_err shim_seal(const struct e2e_card *card, const struct e2e_labels *labels, uint32_t answers,
                  const struct base_buf *plain, uint64_t now_ms, struct base_buf *out, struct e2e_talk **ret)
{
    Dsmil__L7ChatRequest chat = DSMIL__L7_CHAT_REQUEST__INIT;
    Dsmil__L7EmbedRequest embed = DSMIL__L7_EMBED_REQUEST__INIT;
    const ProtobufCMessage *outer = labels->type == DBE_MSG_L7_EMBED_REQ ? &embed.base : &chat.base;
    struct e2e_talk *talk = NULL;
    struct base_buf sealed;

    base_buf_init(&sealed, DBE_PAYLOAD_MAX_BYTES);
    dbe_err err = e2e_seal_request(card, labels, plain->data, plain->len, now_ms, &sealed, &talk);
    if (err == DBE_OK) {
        chat.answers = answers > 1 ? answers : 0;
        chat.sealed = embed.sealed = (ProtobufCBinaryData){sealed.len, sealed.data};
        void *room = base_buf_grow(out, protobuf_c_message_get_packed_size(outer));
        if (room != NULL)
            (void)protobuf_c_message_pack(outer, room);
        err = out->err;
    }
    base_buf_free(&sealed);
    if (err != DBE_OK)
        e2e_talk_free(talk);
    else
        *ret = talk;
    return err;
}

static dbe_err open_piece(struct e2e_talk *talk, const ProtobufCBinaryData *sealed, struct base_buf *out,
                          bool *ret_ends)
{
    return sealed->len > 0 ? e2e_open_piece(talk, sealed->data, sealed->len, out, ret_ends) : DBE_E_AUTH;
}

dbe_err shim_open(struct e2e_talk *talk, const struct dbe_msg *msg, bool last, struct base_buf *out)
{
    dbe_err err = DBE_E_MALFORMED;
    bool ends = false;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) != DBE_OK)
        return err;
    if (msg->type == DBE_MSG_L7_EMBED_RESP) {
        Dsmil__L7EmbedResponse *embed = dsmil__l7_embed_response__unpack(NULL, msg->payload_len, msg->payload);
        if (embed != NULL)
            err = open_piece(talk, &embed->sealed, out, &ends);
        dsmil__l7_embed_response__free_unpacked(embed, NULL);
    } else {
        Dsmil__L7ChatResponse *chat = dsmil__l7_chat_response__unpack(NULL, msg->payload_len, msg->payload);
        if (chat != NULL)
            err = open_piece(talk, &chat->sealed, out, &ends);
        dsmil__l7_chat_response__free_unpacked(chat, NULL);
    }
    return err == DBE_OK && ends != last ? DBE_E_AUTH : err;
}
