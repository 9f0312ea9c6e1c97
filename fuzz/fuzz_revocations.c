/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_revocations.c - the payload of a REVOCATIONS message, as it comes from a peer.
 *
 * In:   input: the payload
 * Finds: reads beyond it, a list that does not lie inside it, one that is empty
 */
#include <stdlib.h>

#include "node/node_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *der = NULL;
    size_t len = 0;
    dbe_err err = gossip_read(data, size, &der, &len);

    if (err != DBE_OK && (err != DBE_E_MALFORMED || der != NULL))
        abort();
    if (err == DBE_OK && (len == 0 || der < data || len > size || (size_t)(der - data) > size - len))
        abort();
    return 0;
}
