/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_api_keys.c - a file of API keys: whatever is accepted is written and read back as the same rows.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/api_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 16 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pol_api_key keys[ROWS], again[ROWS];
    struct dbe_diag diag = {0};
    struct base_buf out;
    size_t count = 0, back = 0;

    memset(keys, 0, sizeof keys);
    memset(again, 0, sizeof again);
    if (pol_api_keys_read((const char *)data, size, keys, ROWS, &count, &diag) != DBE_OK) {
        must(diag.text[0] != '\0');
        return 0;
    }
    base_buf_init(&out, POL_API_KEYS_FILE_MAX);
    pol_api_keys_write(keys, count, &out);
    must(out.err == DBE_OK);
    must(pol_api_keys_read((const char *)out.data, out.len, again, ROWS, &back, &diag) == DBE_OK);
    must(back == count);
    for (size_t i = 0; i < count; i++)
        must(strcmp(keys[i].id, again[i].id) == 0 && strcmp(keys[i].tenant, again[i].tenant) == 0 &&
             strcmp(keys[i].comment, again[i].comment) == 0 && keys[i].compartments == again[i].compartments &&
             keys[i].classification == again[i].classification && keys[i].created_unix == again[i].created_unix &&
             memcmp(keys[i].hash, again[i].hash, sizeof keys[i].hash) == 0);
    base_buf_free(&out);
    return 0;
}
