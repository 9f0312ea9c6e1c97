/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_payload.c - any bytes as a payload of any type, and any text as its JSON. In: the first byte is the message
 * type, its neighbour chooses the direction. What one side takes the other gives back, and what is taken protobuf-c
 * takes as well.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "dbe/payload.h"
#include "payload/wire.h"

enum { TEXT_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char text[TEXT_MAX], again[TEXT_MAX];
static uint8_t bytes[TEXT_MAX];

/* JSON that we wrote is read, gives bytes in protobuf-c's own form, and is written the same again. */
static void round_trip(uint8_t type, const char *json, size_t len)
{
    const payload_desc *desc = payload_desc_of(type);
    struct dbe_diag diag = {0};
    size_t bytes_len = 0, again_len = 0;
    ProtobufCMessage *m;
    uint8_t *packed;

    BASE_INVARIANT(dbe_payload_from_json(type, json, len, bytes, sizeof bytes, &bytes_len, &diag) == DBE_OK);
    BASE_INVARIANT(dbe_payload_to_json(type, bytes, bytes_len, again, sizeof again, &again_len, &diag) == DBE_OK);
    BASE_INVARIANT(again_len == len && memcmp(again, json, len) == 0);
    m = protobuf_c_message_unpack(desc, NULL, bytes_len, bytes);
    BASE_INVARIANT(m != NULL && protobuf_c_message_get_packed_size(m) == bytes_len);
    packed = malloc(bytes_len + 1);
    if (packed != NULL) {
        BASE_INVARIANT(protobuf_c_message_pack(m, packed) == bytes_len && memcmp(packed, bytes, bytes_len) == 0);
        free(packed);
    }
    protobuf_c_message_free_unpacked(m, NULL);
}

static void from_bytes(uint8_t type, const uint8_t *data, size_t size)
{
    struct dbe_diag diag = {0};
    size_t len = 0;
    dbe_err err = dbe_payload_to_json(type, data, size, text, sizeof text, &len, &diag);
    ProtobufCMessage *m = protobuf_c_message_unpack(payload_desc_of(type), NULL, size, data);

    /* -0.0 where zero is as good as absent comes back as 0.0: the second text is the one that stays */
    BASE_INVARIANT(err == DBE_OK || (diag.text[0] != '\0' && diag.offset <= size));
    BASE_INVARIANT(m != NULL || err != DBE_OK); /* which error depends on what stands first */
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
    if (err != DBE_OK) {
        BASE_INVARIANT(dbe_payload_check(type, data, size, NULL) != DBE_OK || err == DBE_E_TOO_LARGE);
        return;
    }
    BASE_INVARIANT(dbe_payload_from_json(type, text, len, bytes, sizeof bytes, &len, &diag) == DBE_OK);
    BASE_INVARIANT(dbe_payload_to_json(type, bytes, len, text, sizeof text, &len, &diag) == DBE_OK);
    round_trip(type, text, len);
}

static void from_text(uint8_t type, const uint8_t *data, size_t size)
{
    struct dbe_diag diag = {0};
    size_t len = 0, need = 0, text_len = 0;
    dbe_err err = dbe_payload_from_json(type, (const char *)data, size, bytes, sizeof bytes, &len, &diag);

    BASE_INVARIANT(err == DBE_OK || (diag.text[0] != '\0' && diag.offset <= size));
    if (err != DBE_OK)
        return;
    BASE_INVARIANT(dbe_payload_from_json(type, (const char *)data, size, NULL, 0, &need, NULL) ==
                   (len > 0 ? DBE_E_TOO_LARGE : DBE_OK));
    BASE_INVARIANT(need == len);
    BASE_INVARIANT(dbe_payload_to_json(type, bytes, len, text, sizeof text, &text_len, &diag) == DBE_OK);
    round_trip(type, text, text_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t type;

    if (size < 2 || size > TEXT_MAX / 64) /* two bytes of an empty element can become sixty */
        return 0;
    type = data[0];
    if (payload_desc_of(type) == NULL)
        type = DBE_MSG_SOC_EVENT; /* it has a map, texts and numbers */
    if ((data[1] & 1) != 0)
        from_text(type, data + 2, size - 2);
    else
        from_bytes(type, data + 2, size - 2);
    return 0;
}
