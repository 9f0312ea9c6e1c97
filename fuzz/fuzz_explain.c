/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_explain.c - any bytes explained, as text and as JSON. Both say the same of whether something is broken, their
 * length does not depend on the room, and the text holds no control character but line feeds.
 */
#include <stdlib.h>
#include <string.h>

#include "payload/explain.h"
#include "payload/json.h"

enum { INPUT_MAX = 1 << 14, ROOM = 1 << 23 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t room[ROOM];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct payload_out text = {.out = room, .cap = sizeof room}, count = {0}, json = {.out = room, .cap = sizeof room};
    struct json j = {.text = room};
    bool good;

    if (size > INPUT_MAX)
        return 0;
    good = explain_all(data, size, false, &text);
    BASE_INVARIANT(text.len <= sizeof room && base_utf8_valid(room, text.len));
    for (size_t i = 0; i < text.len; i++)
        BASE_INVARIANT(room[i] >= 0x20 || room[i] == '\n');
    (void)explain_all(data, size, false, &count);
    BASE_INVARIANT(count.len == text.len);
    BASE_INVARIANT(explain_all(data, size, true, &json) == good);
    j.len = json.len;
    BASE_INVARIANT(json.len <= sizeof room && payload_json_begin(&j) == DBE_OK);
    BASE_INVARIANT(payload_json_skip(&j, 4 * EXPLAIN_DEPTH_MAX) == DBE_OK);
    return 0;
}
