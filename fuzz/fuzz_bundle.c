/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_bundle.c - bundles of a mesh, as a file from anywhere could be.
 *
 * First byte: 0 the parts of one, which written again must be the same text; 1 text and signature.
 */
#include <stdlib.h>
#include <string.h>

#include "node/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void parts(const uint8_t *data, size_t size)
{
    struct base_cur c = base_cur_of(data, size);
    struct bundle_head head;
    struct base_buf again;
    char name[KEYS_NAME_MAX_BYTES + 1];

    bundle_head_init(&head);
    base_buf_init(&again, DBE_BUNDLE_MAX_BYTES);
    dbe_err err = bundle_take_head(&c, &head);
    if (err == DBE_OK)
        bundle_put_head(&again, &head);
    while (err == DBE_OK && base_cur_left(&c) > 0) {
        struct base_buf der;
        base_buf_init(&der, DBE_CERT_MAX_BYTES);
        err = bundle_take_node(&c, name, &der);
        if (err == DBE_OK)
            bundle_put_node(&again, name, &der);
        base_buf_free(&der);
    }
    require(again.err == DBE_OK && again.len <= size && (again.len == 0 || memcmp(again.data, data, again.len) == 0));
    require(err != DBE_OK || again.len == size);
    bundle_head_fini(&head);
    base_buf_free(&again);
}

static void halves(const uint8_t *data, size_t size)
{
    struct bundle_halves h;
    struct base_buf again;

    if (bundle_split(data, size, &h) != DBE_OK)
        return;
    base_buf_init(&again, DBE_BUNDLE_MAX_BYTES);
    bundle_put_signature(&again, h.signature);
    require(h.text == data && h.signed_len + again.len == size &&
            memcmp(again.data, data + h.signed_len, again.len) == 0);
    base_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {parts, halves};

    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
