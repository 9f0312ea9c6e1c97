/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize_test.c - the converter: the same blocks as the format defines, a file that loads, nothing left on failure.
 */
#include "test_gguf.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

static const struct llm_quantize_params keep_all = {.threads = 1};
static char dir[] = "/tmp/llm-quantize-XXXXXX";

static const char *path_in(const char *name)
{
    static char paths[4][128];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[0], "%s/%s", dir, name);
    return paths[next];
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static size_t files(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"in.gguf", "out.gguf", "bad.gguf"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        unlink(path_in(names[i]));
    return rmdir(dir);
}

static void write_model(const struct tg_shape *s, const char *name)
{
    struct base_buf f;

    tg_build(s, &f, NULL);
    assert_int_equal(base_file_write(path_in(name), f.data, f.len, 0600, NULL), DBE_OK);
    base_buf_free(&f);
}

/* What it writes is, tensor for tensor, what the test's own Q8_0 writer makes of the same weights. */
static void blocks_are_the_formats(void **state)
{
    struct tg_shape s = tg_defaults(), q = s;
    struct base_buf want_file, got_file;
    struct gguf *want, *got;

    (void)state;
    write_model(&s, "in.gguf");
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &keep_all, NULL, NULL), DBE_OK);
    assert_int_equal(files(), 2);
    q.type = GGUF_TENSOR_Q8_0;
    tg_build(&q, &want_file, NULL);
    base_buf_init(&got_file, TG_MAX);
    assert_int_equal(base_file_read(path_in("out.gguf"), TG_MAX, &got_file, NULL), DBE_OK);
    assert_int_equal(gguf_open_mem(want_file.data, want_file.len, &want, NULL), DBE_OK);
    assert_int_equal(gguf_open_mem(got_file.data, got_file.len, &got, NULL), DBE_OK);
    assert_int_equal(got->tensor_count, want->tensor_count);
    for (size_t i = 0; i < want->tensor_count; i++) {
        const struct gguf_tensor *a = &want->tensors[i], *b = gguf_tensor_find(got, a->name);
        assert_non_null(b);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(want_file.data + a->offset, got_file.data + b->offset, (size_t)a->bytes);
    }
    uint32_t file_type;
    assert_int_equal(gguf_get_u32(got, "general.file_type", &file_type, NULL), DBE_OK);
    assert_int_equal(file_type, 7);
    gguf_close(want);
    gguf_close(got);
    base_buf_free(&want_file);
    base_buf_free(&got_file);
}

static void result_runs(void **state)
{
    struct tg_shape s = tg_defaults();
    struct llm_model *m;
    struct dbe_diag diag;
    const struct llm_model_params one = {.threads = 1};

    (void)state;
    s.type = GGUF_TENSOR_F16;
    write_model(&s, "in.gguf");
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &keep_all, NULL, &diag), DBE_OK);
    assert_int_equal(llm_model_load(path_in("out.gguf"), &one, &m, &diag), DBE_OK);
    assert_string_equal(llm_model_info(m)->quantisation, "Q8_0");
    llm_model_free(m);
    /* again: what is Q8_0 already stays to the byte */
    assert_int_equal(llm_quantize_file(path_in("out.gguf"), path_in("bad.gguf"), &keep_all, NULL, &diag), DBE_OK);
    struct base_buf a, b;
    base_buf_init(&a, TG_MAX);
    base_buf_init(&b, TG_MAX);
    assert_int_equal(base_file_read(path_in("out.gguf"), TG_MAX, &a, NULL), DBE_OK);
    assert_int_equal(base_file_read(path_in("bad.gguf"), TG_MAX, &b, NULL), DBE_OK);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    base_buf_free(&a);
    base_buf_free(&b);
    unlink(path_in("bad.gguf"));
}

static float not_finite(const void *ctx, const char *name, size_t row, size_t column)
{
    return strcmp(name, "blk.1.ffn_up.weight") == 0 && row == 3 ? INFINITY : tg_random(ctx, name, row, column);
}

static void failure_leaves_nothing(void **state)
{
    struct tg_shape s = tg_defaults();
    struct dbe_diag diag = {0};

    (void)state;
    s.value = not_finite;
    write_model(&s, "in.gguf");
    unlink(path_in("out.gguf"));
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &keep_all, NULL, &diag), DBE_E_MODEL);
    assert_non_null(strstr(diag.text, "blk.1.ffn_up.weight: row 3"));
    assert_int_equal(files(), 1);
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("in.gguf"), &keep_all, NULL, &diag), DBE_E_ARGUMENT);
    assert_int_equal(llm_quantize_file(path_in("none.gguf"), path_in("out.gguf"), &keep_all, NULL, &diag),
                     DBE_E_NOT_FOUND);
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("none/out.gguf"), &keep_all, NULL, &diag), DBE_E_IO);
    assert_int_equal(files(), 1);
}

/* What was measured is told, and stands in the file, and a copy of the file keeps it. */
static void retention_is_measured(void **state)
{
    const struct llm_quantize_params p = {.min_top1 = LLM_RETENTION_MIN, .threads = 1};
    const struct llm_model_params one = {.threads = 1};
    struct tg_shape s = tg_defaults();
    struct llm_retention kept = {0}, again = {.tokens = 9};
    struct dbe_diag diag = {0};
    struct llm_model *m;

    (void)state;
    write_model(&s, "in.gguf");
    if (llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &p, &kept, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    assert_in_range(kept.tokens, 500, 1024);
    assert_true(kept.top1 >= 0.95 && kept.top1 <= 1);
    assert_true(kept.kl > 0 && kept.kl < 0.05);
    assert_true(kept.ppl_ratio > 0.95 && kept.ppl_ratio < 1.05 && kept.ppl_original > 1);
    assert_int_equal(llm_model_load(path_in("out.gguf"), &one, &m, &diag), DBE_OK);
    assert_true(llm_model_info(m)->retention_top1 == (float)kept.top1);
    llm_model_free(m);
    assert_int_equal(llm_quantize_file(path_in("out.gguf"), path_in("bad.gguf"), &p, &again, &diag), DBE_OK);
    assert_int_equal(again.tokens, 0);
    assert_int_equal(llm_model_load(path_in("bad.gguf"), &one, &m, &diag), DBE_OK);
    assert_true(llm_model_info(m)->retention_top1 == (float)kept.top1);
    llm_model_free(m);
    unlink(path_in("bad.gguf"));
}

static void from_every_plain_type(void **state)
{
    static const uint32_t types[] = {GGUF_TENSOR_F32, GGUF_TENSOR_F16, GGUF_TENSOR_BF16};
    const struct llm_quantize_params p = {.min_top1 = LLM_RETENTION_MIN, .threads = 1};
    struct tg_shape s = tg_defaults();

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++) {
        struct llm_retention kept = {0};
        struct dbe_diag diag = {0};
        s.type = types[i];
        write_model(&s, "in.gguf");
        if (llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &p, &kept, &diag) != DBE_OK)
            fail_msg("type %u: %s", types[i], diag.text);
        assert_true(kept.top1 >= 0.95);
    }
}

/* One huge value in each block of 32: the scale that it asks for rounds the others to nothing. */
static float outliers(const void *ctx, const char *name, size_t row, size_t column)
{
    const float f = tg_random(ctx, name, row, column);

    return !strstr(name, "norm") && (row * 7 + column) % 32 == 5 ? 2000 * f : f;
}

static void outliers_are_refused(void **state)
{
    const struct llm_quantize_params p = {.min_top1 = LLM_RETENTION_MIN, .threads = 1};
    struct tg_shape s = tg_defaults();
    struct llm_retention kept = {0};
    struct dbe_diag diag = {0};

    (void)state;
    s.value = outliers;
    write_model(&s, "in.gguf");
    unlink(path_in("out.gguf"));
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &p, &kept, &diag), DBE_E_RANGE);
    char verb[] = "quantize", in[128], out[128];
    snprintf(in, sizeof in, "%s", path_in("in.gguf"));
    snprintf(out, sizeof out, "%s", path_in("out.gguf"));
    assert_int_equal(llm_tool_main(3, (char *[]){verb, in, out}), 3); /* for scripts */
    assert_int_equal(files(), 1);
    assert_true(kept.tokens > 0 && kept.top1 < 0.95);
    assert_non_null(strstr(diag.text, "95.00 % are asked for"));
    /* whoever insists gets the file, and the file says what it is worth */
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &keep_all, &kept, &diag), DBE_OK);
    assert_int_equal(files(), 2);
}

static void text_of_ones_own(void **state)
{
    const struct llm_quantize_params p = {.text = "hello world", .text_len = 11, .threads = 1},
                                     none = {.text = "", .threads = 1};
    struct tg_shape s = tg_defaults();
    struct llm_retention kept = {0};

    (void)state;
    s.no_space_prefix = true;
    write_model(&s, "in.gguf");
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &p, &kept, NULL), DBE_OK);
    assert_in_range(kept.tokens, 2, 12);
    assert_int_equal(llm_quantize_file(path_in("in.gguf"), path_in("out.gguf"), &none, &kept, NULL), DBE_E_ARGUMENT);
    assert_int_equal(files(), 2); /* the file of before is still there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_the_formats), cmocka_unit_test(result_runs),
        cmocka_unit_test(failure_leaves_nothing), cmocka_unit_test(retention_is_measured),
        cmocka_unit_test(outliers_are_refused),   cmocka_unit_test(text_of_ones_own),
        cmocka_unit_test(from_every_plain_type),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
