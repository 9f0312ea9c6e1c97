/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_test.c - a model file is hostile: truncated, mutated, lying and unsupported files are refused, and the diag
 * says which field.
 */
#include "test_gguf.h"

static const struct llm_model_params one_thread = {.threads = 1};

static dbe_err try_load(const void *data, size_t len, struct dbe_diag *diag)
{
    struct llm_model *m;
    const dbe_err err = llm_model_load_mem(data, len, &one_thread, &m, diag);

    if (err == DBE_OK)
        llm_model_free(m);
    return err;
}

static struct tg_shape small(void)
{
    struct tg_shape s = tg_defaults();

    s.n_layers = 1;
    s.type = GGUF_TENSOR_Q8_0;
    s.n_ff = 32;
    return s;
}

static void both_versions_load(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct tg_shape s = small();
        struct llm_model *m;
        s.version = version;
        m = tg_load(&s, NULL);
        assert_string_equal(llm_model_info(m)->name, "tiny");
        assert_string_equal(llm_model_info(m)->quantisation, "Q8_0");
        assert_int_equal(llm_model_info(m)->n_vocab, TG_SPM_COUNT);
        llm_model_free(m);
    }
}

/* It is shown on terminals. */
static void a_models_name_is_one_line(void **state)
{
    struct tg_shape s = small();
    struct base_buf file;
    struct llm_model *m;
    size_t meta;

    (void)state;
    tg_build(&s, &file, &meta);
    char *name = memmem(file.data, meta, "tiny", 4);
    assert_non_null(name);
    memcpy(name, "t\x1b\ny", 4);
    assert_int_equal(llm_model_load_mem(file.data, file.len, &one_thread, &m, NULL), DBE_OK);
    assert_string_equal(llm_model_info(m)->name, "t??y");
    llm_model_free(m);
    base_buf_free(&file);
}

/* Each prefix lies in a block of its own size, so that a sanitizer sees any byte read beyond it. */
static void every_truncation_is_refused(void **state)
{
    struct tg_shape s = small();
    struct base_buf file;
    size_t meta;

    (void)state;
    tg_build(&s, &file, &meta);
    assert_int_equal(try_load(file.data, file.len, NULL), DBE_OK);
    for (size_t len = 0; len < file.len - s.alignment; len += len < meta + 64 ? 1 : 61) {
        struct dbe_diag diag = {0};
        uint8_t *copy = base_alloc(len + 1, 1);
        memcpy(copy, file.data, len);
        assert_int_equal(try_load(copy, len, &diag), DBE_E_MODEL);
        assert_true(diag.text[0] != '\0');
        base_free(copy);
    }
    base_buf_free(&file);
}

static void every_mutated_byte_is_survived(void **state)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct tg_shape s = small();
    struct base_buf file;
    size_t meta, refused = 0;

    (void)state;
    tg_build(&s, &file, &meta);
    for (size_t i = 0; i < meta; i++)
        for (size_t k = 0; k < sizeof masks; k++) {
            struct dbe_diag diag = {0};
            file.data[i] ^= masks[k];
            const dbe_err err = try_load(file.data, file.len, &diag);
            if (err != DBE_OK) {
                assert_true(err == DBE_E_MODEL || err == DBE_E_NOMEM || err == DBE_E_TOO_LARGE);
                assert_true(diag.text[0] != '\0');
                refused++;
            }
            file.data[i] ^= masks[k];
        }
    assert_true(refused > meta); /* most bytes matter */
    base_buf_free(&file);
}

/* Where `needle` is in the file. */
static uint8_t *find(const struct base_buf *file, const char *needle)
{
    uint8_t *p = memmem(file->data, file->len, needle, strlen(needle));

    assert_non_null(p);
    return p;
}

static void expect_refused(struct base_buf *file, const char *text)
{
    struct dbe_diag diag = {0};

    assert_int_equal(try_load(file->data, file->len, &diag), DBE_E_MODEL);
    if (!strstr(diag.text, text))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, text);
    base_buf_free(file);
}

static void lies_are_named(void **state)
{
    struct tg_shape s = small();
    struct base_buf f;

    (void)state;
    tg_build(&s, &f, NULL);
    f.data[4] = 9;
    expect_refused(&f, "version 9");

    tg_build(&s, &f, NULL);
    uint8_t *t = find(&f, "blk.0.attn_q.weight");
    memset(t + 19 + 4 + 16 + 4 + 5, 0x7f, 1); /* a high byte of the offset */
    expect_refused(&f, "tensor blk.0.attn_q.weight: offset");

    tg_build(&s, &f, NULL);
    t = find(&f, "blk.0.attn_q.weight");
    t[19 + 4 + 16 + 4] ^= 1;
    expect_refused(&f, "tensor blk.0.attn_q.weight: offset");

    tg_build(&s, &f, NULL);
    find(&f, "blk.0.attn_k.weight")[11] = 'q';
    expect_refused(&f, "tensor blk.0.attn_q.weight: occurs twice");

    tg_build(&s, &f, NULL);
    t = find(&f, "blk.0.attn_q.weight");
    t[19 + 4 + 16] = 11; /* type */
    expect_refused(&f, "tensor blk.0.attn_q.weight: type Q3_K");

    tg_build(&s, &f, NULL);
    t = find(&f, "blk.0.attn_q.weight");
    t[19 + 4 + 16] = 12;
    expect_refused(&f, "tensor blk.0.attn_q.weight: Q4_K rows of 32 values, not a multiple of 256");

    tg_build(&s, &f, NULL);
    t = find(&f, "blk.0.attn_q.weight");
    t[19 + 4] = 64; /* columns 32 -> 64 */
    expect_refused(&f, "tensor");

    tg_build(&s, &f, NULL);
    memcpy(find(&f, "llama.block_count"), "llama.block_c0unt", 17);
    expect_refused(&f, "key llama.block_count: missing");

    tg_build(&s, &f, NULL);
    memcpy(find(&f, "llama.rope.freq_base"), "llama.context_length", 20);
    expect_refused(&f, "key llama.context_length: occurs twice");
}

static void overlap_is_refused(void **state)
{
    struct tg_shape s = small();
    struct base_buf f;

    (void)state;
    tg_build(&s, &f, NULL);
    uint8_t *q = find(&f, "blk.0.attn_q.weight"), *o = find(&f, "blk.0.attn_output.weight");
    memcpy(o + 24 + 4 + 16 + 4, q + 19 + 4 + 16 + 4, 8);
    expect_refused(&f, "overlap");
}

static void what_is_not_supported_is_said(void **state)
{
    struct tg_shape s = small();
    struct base_buf f;

    (void)state;
    s.arch = "mamba";
    tg_build(&s, &f, NULL);
    expect_refused(&f, "\"mamba\" is not supported; llama, qwen2");
    s = small();
    s.extra_tensor = "blk.0.attn_q_norm.weight";
    tg_build(&s, &f, NULL);
    expect_refused(&f, "tensor blk.0.attn_q_norm.weight: unknown");
}

static void weights_must_be_finite(void **state)
{
    static const uint32_t types[] = {GGUF_TENSOR_F32, GGUF_TENSOR_F16, GGUF_TENSOR_Q8_0};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++) {
        struct tg_shape s = small();
        struct base_buf f;
        size_t meta;
        s.type = types[i];
        tg_build(&s, &f, &meta);
        memset(f.data + meta, 0xff, 4); /* the first value or scale of token_embd becomes a NaN */
        expect_refused(&f, "tensor token_embd.weight: row 0 holds a value that is not finite");
    }
}

static void files_that_are_none(void **state)
{
    struct llm_model *m;
    struct dbe_diag diag;

    (void)state;
    assert_int_equal(llm_model_load("/nonexistent/model.gguf", NULL, &m, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(llm_model_load("/", NULL, &m, &diag), DBE_E_IO);
    assert_int_equal(llm_model_load("/dev/null", NULL, &m, &diag), DBE_E_IO);
    const struct llm_model_params params = {.kernel = "abacus"};
    struct tg_shape s = small();
    struct base_buf f;
    tg_build(&s, &f, NULL);
    assert_int_equal(llm_model_load_mem(f.data, f.len, &params, &m, &diag), DBE_E_ARGUMENT);
    base_buf_free(&f);
}

/* The n-th allocation fails, for all n: an error, no leak, no crash. */
static void no_memory_is_an_answer(void **state)
{
    struct tg_shape s = small();
    struct base_buf f;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    tg_build(&s, &f, NULL);
    for (uint64_t n = 1; err != DBE_OK; n++) {
        base_fail_alloc_at(n);
        err = try_load(f.data, f.len, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        assert_true(n < 10000);
    }
    base_buf_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_load),
        cmocka_unit_test(a_models_name_is_one_line),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_mutated_byte_is_survived),
        cmocka_unit_test(lies_are_named),
        cmocka_unit_test(overlap_is_refused),
        cmocka_unit_test(what_is_not_supported_is_said),
        cmocka_unit_test(weights_must_be_finite),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
