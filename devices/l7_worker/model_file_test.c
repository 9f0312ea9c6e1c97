/* SPDX-License-Identifier: Apache-2.0
 *
 * model_file_test.c - the digest of a model's file, beside its loading; and what changes meanwhile.
 */
#include "devices/l7_worker/model_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/test.h"
#include "llm/llm.h"
#include "llm/test_gguf.h"

enum { BYTES = 3 << 20 }; /* several reads */

static char folder[] = "/tmp/model_file_XXXXXX", path[64], other[64];

static void write_file(const char *to, const void *data, size_t len)
{
    FILE *file = fopen(to, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void expect_digest(const void *data, size_t len, const char *hex)
{
    uint8_t digest[CRYPTO_HASH_BYTES];
    char want[MODEL_FILE_HEX];

    assert_int_equal(crypto_sha3_512(data, len, digest), DBE_OK);
    base_hex(digest, MODEL_FILE_SHOWN_BYTES, want);
    assert_string_equal(hex, want);
}

static void test_loads_beside_the_digest(void **state)
{
    const struct tg_shape shape = tg_defaults();
    struct base_buf file;
    struct model_file f;
    struct llm_model *m = NULL;
    char hex[MODEL_FILE_HEX];

    (void)state;
    base_buf_init(&file, TG_MAX);
    tg_build(&shape, &file, NULL);
    write_file(path, file.data, file.len);
    assert_int_equal(model_file_begin(&f, path, NULL), DBE_OK);
    assert_int_equal(llm_model_load_fd(f.fd, NULL, &m, NULL), DBE_OK);
    assert_int_equal(model_file_end(&f, hex, NULL), DBE_OK);
    expect_digest(file.data, file.len, hex);
    assert_int_equal(llm_model_info(m)->n_ctx, shape.n_ctx);
    llm_model_free(m);
    base_buf_free(&file);
}

static uint8_t *some_bytes(void)
{
    uint8_t *data = base_alloc(1, BYTES);

    assert_non_null(data);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (uint8_t)(i * 7 + i / 999);
    return data;
}

static void test_changes_are_seen(void **state)
{
    uint8_t *data = some_bytes();
    struct dbe_diag diag;
    struct model_file f;
    char hex[MODEL_FILE_HEX];

    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        write_file(path, data, BYTES);
        assert_int_equal(model_file_begin(&f, path, NULL), DBE_OK);
        const int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (way == 0)
            assert_int_equal(pwrite(fd, data, 1, BYTES - 1), 1);
        else
            assert_int_equal(ftruncate(fd, way == 1 ? BYTES - 1 : BYTES + 1), 0);
        assert_int_equal(close(fd), 0);
        diag = (struct dbe_diag){0};
        assert_int_equal(model_file_end(&f, hex, &diag), DBE_E_IO);
        assert_non_null(strstr(diag.text, "changed"));
    }
    base_free(data);
}

static void test_another_file_of_the_name(void **state)
{
    uint8_t *data = some_bytes();
    struct model_file f;
    char hex[MODEL_FILE_HEX], byte;

    (void)state;
    write_file(path, data, BYTES);
    write_file(other, "other", 5);
    assert_int_equal(model_file_begin(&f, path, NULL), DBE_OK);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(pread(f.fd, &byte, 1, 5), 1);
    assert_int_equal((uint8_t)byte, data[5]);
    assert_int_equal(model_file_end(&f, hex, NULL), DBE_OK);
    expect_digest(data, BYTES, hex);
    base_free(data);
}

static void test_no_file(void **state)
{
    struct model_file f;
    struct dbe_diag diag = {0};

    (void)state;
    assert_int_equal(model_file_begin(&f, folder, &diag), DBE_E_IO);
    assert_int_equal(model_file_begin(&f, "/nonexistent/file", &diag), DBE_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_beside_the_digest),
        cmocka_unit_test(test_changes_are_seen),
        cmocka_unit_test(test_another_file_of_the_name),
        cmocka_unit_test(test_no_file),
    };
    int failed;

    if (crypto_init(NULL) != DBE_OK || !mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/model", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    (void)unlink(other);
    (void)rmdir(folder);
    return failed;
}
