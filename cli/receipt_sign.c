/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt_sign.c - for tests of `dsmil receipt`: a receipt over two files, signed with the key of a store.
 *
 * In:   DIR NAME REQUEST ANSWER. Out: the receipt on standard output.
 */
#include <stdio.h>

#include "e2e/receipt.h"

static dbe_err digest(const char *path, uint8_t ret[CRYPTO_HASH_BYTES], struct dbe_diag *diag)
{
    struct base_buf file = {0};

    DBE_TRY(base_file_read(path, 65536, &file, diag));
    dbe_err err = crypto_sha3_512(file.data, file.len, ret);
    base_buf_free(&file);
    return err;
}

int main(int argc, char **argv)
{
    struct e2e_receipt r = {.prompt_tokens = 3,
                            .completion_tokens = 2,
                            .model = "tiny",
                            .quantisation = "Q8_0",
                            .request_id = {1, 2, 3},
                            .model_digest = {1},
                            .policy_digest = {2}};
    struct dbe_credential *worker = NULL;
    struct dbe_diag diag = {0};
    struct base_buf out;

    if (argc != 5 || crypto_init(&diag) != DBE_OK)
        return 2;
    base_buf_init(&out, E2E_RECEIPT_MAX_BYTES);
    r.time_ms = base_wall_ms();
    dbe_err err = dbe_credential_load(argv[1], argv[2], &worker, &diag);
    if (err == DBE_OK)
        err = digest(argv[3], r.request_digest, &diag);
    if (err == DBE_OK)
        err = digest(argv[4], r.answer_digest, &diag);
    if (err == DBE_OK)
        err = e2e_receipt_issue(&r, worker, &out);
    if (err == DBE_OK && fwrite(out.data, 1, out.len, stdout) != out.len)
        err = DBE_E_IO;
    if (err != DBE_OK)
        fprintf(stderr, "%s: %s\n", dbe_err_name(err), diag.text);
    dbe_credential_free(worker);
    base_buf_free(&out);
    return err == DBE_OK ? 0 : 1;
}
