/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_sealed.c - bytes of cards, sealed prompts and pieces of answers through their readers.
 *
 * In:   input: first byte chooses; the rest is what is read
 * Finds: reads beyond the bytes, parts that do not lie within them, a prompt or a piece that opens and was never sealed
 */
#include <stdlib.h>
#include <string.h>

#include "e2e/sealed_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_card(const uint8_t *data, size_t size)
{
    struct e2e_card_parts p;
    struct dbe_diag diag = {0};

    if (e2e_card_read(data, size, &p, &diag) != DBE_OK) {
        if (diag.clause == NULL || diag.text[0] == '\0')
            abort();
    } else if (E2E_CARD_BODY_BYTES + CRYPTO_MLDSA87_SIG_BYTES + 2 + p.certificate_len != size ||
               p.signature != data + E2E_CARD_BODY_BYTES || p.certificate + p.certificate_len != data + size)
        abort();
}

static void fuzz_head(const uint8_t *data, size_t size)
{
    struct e2e_head head;

    if (e2e_head_read(data, size, &head) == DBE_OK &&
        (head.ct != data + 24 || head.pub + CRYPTO_P384_PUB_BYTES != data + E2E_SEALED_HEAD_BYTES ||
         size < E2E_SEALED_OVERHEAD_BYTES))
        abort();
}

static void fuzz_piece(const uint8_t *data, size_t size)
{
    static const uint8_t key[CRYPTO_AEAD_KEY_BYTES] = {7};
    struct e2e_talk *talk = NULL;
    struct base_buf out;
    bool last = false;

    if (e2e_talk_new(key, false, &talk) != DBE_OK)
        abort();
    base_buf_init(&out, 1 << 20);
    if (e2e_open_piece(talk, data, size, &out, &last) == DBE_OK || out.len != 0)
        abort(); /* a forgery of the tag */
    e2e_talk_free(talk);
    base_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;

    if (!ready && crypto_init(NULL) != DBE_OK)
        abort();
    ready = true;
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0: fuzz_card(data + 1, size - 1); break;
    case 1: fuzz_head(data + 1, size - 1); break;
    default: fuzz_piece(data + 1, size - 1); break;
    }
    return 0;
}
