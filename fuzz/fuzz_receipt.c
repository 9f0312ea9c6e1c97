/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_receipt.c - bytes of a receipt through the reader.
 *
 * In:   input: a receipt from anywhere
 * Finds: reads beyond the bytes, parts that do not lie within them, texts without an end, values that cannot stand
 */
#include <stdlib.h>
#include <string.h>

#include "e2e/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct e2e_receipt_parts p;
    struct dbe_diag diag = {0};

    if (e2e_receipt_read(data, size, &p, &diag) != DBE_OK) {
        if (diag.clause == NULL || diag.text[0] == '\0')
            abort();
        return 0;
    }
    if (p.body_len + CRYPTO_MLDSA87_SIG_BYTES + 2 + p.certificate_len != size || p.signature != data + p.body_len ||
        p.certificate + p.certificate_len != data + size)
        abort();
    if (p.says.finish > E2E_FINISH_TOOL || p.says.cached_tokens > p.says.prompt_tokens ||
        strlen(p.says.worker) + strlen(p.says.model) + strlen(p.says.quantisation) + 303 != p.body_len)
        abort();
    return 0;
}
