/* SPDX-License-Identifier: Apache-2.0
 *
 * build.c - what every message of this service carries: own source, destination, time, labels; and ERROR messages.
 *
 * Messages are built in one scratch memory of the service and sealed by the node before the call returns.
 */
#include "runtime/priv.h"

#include "dsmil.pb-c.h"

dbe_err svc_scratch(struct svc *svc, size_t tlv_bytes, size_t payload_bytes)
{
    size_t need;

    if (payload_bytes > DBE_PAYLOAD_MAX_BYTES || tlv_bytes > DBE_TLV_AREA_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    need = DBE_HEADER_BYTES + SVC_TLV_ROOM_BYTES + tlv_bytes + payload_bytes;
    if (need <= svc->scratch_cap)
        return DBE_OK;
    need = BASE_MAX(need, (size_t)65536);
    uint8_t *memory = base_realloc(svc->scratch, need, 1);
    if (memory == NULL)
        return DBE_E_NOMEM;
    svc->scratch = memory;
    svc->scratch_cap = need;
    return DBE_OK;
}

/* Prompts and answers pass through here: wiped, and given back when one message was unusually large. */
void svc_scratch_release(struct svc *svc)
{
    if (svc->scratch_cap <= SVC_SCRATCH_KEEP_BYTES)
        return;
    base_wipe(svc->scratch, svc->scratch_cap);
    base_free(svc->scratch);
    svc->scratch = NULL;
    svc->scratch_cap = 0;
}

void svc_stamp(struct svc *svc, struct dbe_builder *b, uint8_t dst_device, const struct pol_labels *labels)
{
    dbe_build_u8(b, DBE_TLV_DEVICE_ID_SRC, svc->dev->device_id);
    dbe_build_u8(b, DBE_TLV_DEVICE_ID_DST, dst_device);
    dbe_build_timestamp_ms(b, base_wall_ms());
    if (labels == NULL)
        return;
    dbe_build_text(b, DBE_TLV_TENANT_ID, labels->tenant);
    dbe_build_u32(b, DBE_TLV_COMPARTMENT_MASK, labels->compartments);
    dbe_build_u8(b, DBE_TLV_CLASSIFICATION, labels->classification);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, labels->roe_level);
}

dbe_err svc_send_error(struct svc *svc, struct dbe_peer *peer, uint64_t correlation, const uint8_t *request_id,
                       const struct pol_labels *labels, const struct svc_refusal *refusal, const uint32_t *elapsed_us)
{
    const struct dbe_identity *to = dbe_peer_identity(peer);
    Dsmil__ErrorReply payload = DSMIL__ERROR_REPLY__INIT;
    struct dbe_builder b;
    size_t len;

    payload.code = (uint32_t)refusal->code;
    payload.name = (char *)(uintptr_t)dbe_err_name(refusal->code); /* fields are not const; packing only reads */
    payload.reason = (char *)(uintptr_t)(refusal->reason != NULL ? refusal->reason : dbe_err_text(refusal->code));
    payload.rule = (char *)(uintptr_t)(refusal->rule != NULL ? refusal->rule : "");
    payload.retry_after_ms = refusal->retry_after_ms;
    payload.device_id = svc->dev->device_id;
    size_t payload_len = dsmil__error_reply__get_packed_size(&payload);
    DBE_TRY(svc_scratch(svc, 0, payload_len));
    dbe_build_begin(&b, svc->scratch, svc->scratch_cap, DBE_MSG_ERROR, DBE_FLAG_REPLAY_PROTECTED, correlation);
    svc_stamp(svc, &b, to->device, labels);
    if (request_id != NULL)
        dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, 16);
    if (elapsed_us != NULL)
        dbe_build_hops(&b, NULL, &(struct dbe_hop){svc->dev->device_id, *elapsed_us, dbe_peer_suite_id(peer)});
    uint8_t *room = dbe_build_payload_room(&b, payload_len);
    if (room != NULL)
        dsmil__error_reply__pack(&payload, room);
    DBE_TRY(dbe_build_end(&b, &len));
    return dbe_send(peer, svc->scratch, len);
}

const char *svc_msg_name(uint8_t type)
{
    const struct dbe_msg_row *row = dbe_reg_msg(type);
    return row != NULL ? row->name : "unknown";
}
