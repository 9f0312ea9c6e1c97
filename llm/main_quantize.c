/* SPDX-License-Identifier: Apache-2.0
 *
 * main_quantize.c - `dsmil-quantize IN.gguf OUT.gguf`: F16 or F32 to Q8_0.
 */
#include <stdio.h>

#include "llm.h"

int main(int argc, char **argv)
{
    struct dbe_diag diag = {0};
    dbe_err err;

    if (argc != 3) {
        fputs("usage: dsmil-quantize IN.gguf OUT.gguf\n", stderr);
        return 2;
    }
    err = llm_quantize_file(argv[1], argv[2], &diag);
    if (err != DBE_OK) {
        fprintf(stderr, "dsmil-quantize: %s: %s\n", dbe_err_name(err), diag.text);
        return 1;
    }
    return 0;
}
