/* SPDX-License-Identifier: Apache-2.0
 *
 * device47_test.c - device 47 refuses what is no INT8 and what does not fit, charges what it holds, and unloads the
 * right one; believes no context and no number but the measured one.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "dsmil/dsmil_layer7_llm.h"
#include "llm/test_gguf.h"

#define MIB (UINT64_C(1) << 20)

static char dir[] = "/tmp/device47-XXXXXX";

static const char *make(const char *name, uint32_t type, float retention)
{
    static char path[128];
    struct tg_shape s = tg_defaults();
    struct base_buf f;

    s.type = type;
    s.retention = retention;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    tg_build(&s, &f, NULL);
    assert_int_equal(base_file_write(path, f.data, f.len, 0600, NULL), DBE_OK);
    base_buf_free(&f);
    return path;
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"int8.gguf", "half.gguf", "low.gguf", "silent.gguf"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

/* Runs first: nothing has been initialised. */
static void refuses_before_init(void **state)
{
    dsmil_device47_llm_ctx_t ctx = {.device_id = 1};

    (void)state;
    assert_int_equal(dsmil_device47_llm_load(make("int8.gguf", GGUF_TENSOR_Q8_0, 0), &ctx), -DBE_E_STATE);
    assert_int_equal(ctx.device_id, 1); /* untouched */
    assert_int_equal(dsmil_device47_llm_init(40960 * MIB + 1), -DBE_E_RANGE);
    assert_int_equal(dsmil_device47_llm_load(make("int8.gguf", GGUF_TENSOR_Q8_0, 0), &ctx), -DBE_E_STATE);
}

static void charges_what_it_holds(void **state)
{
    dsmil_device47_llm_ctx_t ctx = {0};

    (void)state;
    assert_int_equal(dsmil_device47_llm_init(0), 0);
    assert_int_equal(dsmil_device47_llm_load(make("int8.gguf", GGUF_TENSOR_Q8_0, 0.97f), &ctx), 0);
    assert_int_equal(ctx.device_id, 47);
    assert_int_equal(ctx.layer, 7);
    assert_int_equal(ctx.memory_budget_bytes, 20480 * MIB);
    assert_int_equal(ctx.kv_cache_size_bytes, 10240 * MIB);
    assert_int_equal(ctx.context_length, 64);
    assert_true(ctx.int8_quantized);
    assert_string_equal(ctx.model_name, "tiny");
    assert_true(ctx.quantization_accuracy == 0.97f);
    assert_true(dsmil_device47_get_memory_usage(&ctx) > ctx.kv_cache_size_bytes);
    assert_int_equal(dsmil_device47_get_memory_usage(&ctx), ctx.memory_used_bytes);
    assert_true(dsmil_device47_check_memory_budget(&ctx));
    /* a smaller budget makes the same model exceed it */
    assert_int_equal(dsmil_device47_llm_init(10240 * MIB), 0);
    assert_false(dsmil_device47_check_memory_budget(&ctx));
    assert_int_equal(dsmil_device47_llm_unload(&ctx), 0);
    assert_int_equal(dsmil_device47_get_memory_usage(&ctx), 0);
    assert_false(dsmil_device47_check_memory_budget(&ctx));
}

static void only_int8(void **state)
{
    dsmil_device47_llm_ctx_t ctx = {0};

    (void)state;
    assert_int_equal(dsmil_device47_llm_init(0), 0);
    assert_int_equal(dsmil_device47_llm_load(make("half.gguf", GGUF_TENSOR_F16, 0.99f), &ctx), -DBE_E_MODEL);
    assert_int_equal(dsmil_device47_llm_load("/nowhere/at.gguf", &ctx), -DBE_E_NOT_FOUND);
    assert_int_equal(dsmil_device47_llm_load(NULL, &ctx), -DBE_E_ARGUMENT);
    assert_int_equal(dsmil_device47_llm_load("x", NULL), -DBE_E_ARGUMENT);
    assert_int_equal(ctx.model_id, 0);
}

static void accuracy_is_measured_or_not_there(void **state)
{
    static const struct {
        const char *name;
        float retention;
        bool verified;
    } rows[] = {
        {"int8.gguf", 0.97f, true}, {"low.gguf", 0.95f, false}, {"silent.gguf", 0, false}, {"low.gguf", 7.0f, false}};

    (void)state;
    assert_int_equal(dsmil_device47_llm_init(64 * MIB), 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        dsmil_device47_llm_ctx_t ctx = {0};
        assert_int_equal(dsmil_device47_llm_load(make(rows[i].name, GGUF_TENSOR_Q8_0, rows[i].retention), &ctx), 0);
        assert_int_equal(dsmil_device47_verify_int8_quantization(&ctx), rows[i].verified);
        ctx.quantization_accuracy = 1.0f; /* a holder's claim counts for nothing */
        assert_int_equal(dsmil_device47_verify_int8_quantization(&ctx), rows[i].verified);
        assert_int_equal(dsmil_device47_llm_unload(&ctx), 0);
        assert_false(dsmil_device47_verify_int8_quantization(&ctx));
    }
    assert_false(dsmil_device47_verify_int8_quantization(NULL));
}

static void budget_and_unload(void **state)
{
    dsmil_device47_llm_ctx_t a = {0}, b = {0}, c = {0};
    const char *path = make("int8.gguf", GGUF_TENSOR_Q8_0, 0.97f);

    (void)state;
    assert_int_equal(dsmil_device47_llm_init(4096), 0);
    assert_int_equal(dsmil_device47_llm_load(path, &a), -DBE_E_LIMIT);
    assert_int_equal(dsmil_device47_llm_init(64 * MIB), 0);
    assert_int_equal(dsmil_device47_llm_load(path, &a), 0);
    assert_int_equal(dsmil_device47_llm_load(path, &b), 0);
    assert_int_not_equal(a.model_id, b.model_id);
    assert_true(a.memory_used_bytes + b.memory_used_bytes <= 64 * MIB);
    /* the KV reservations of both leave too little for many more */
    int err = 0;
    for (int i = 0; i < 16 && err == 0; i++)
        err = dsmil_device47_llm_load(path, &c);
    assert_int_equal(err, -DBE_E_LIMIT);
    const dsmil_device47_llm_ctx_t gone = a;
    const uint64_t other = dsmil_device47_get_memory_usage(&b);
    assert_int_equal(dsmil_device47_llm_unload(&a), 0);
    assert_int_equal(dsmil_device47_get_memory_usage(&b), other);
    assert_string_equal(b.model_name, "tiny");
    assert_int_equal(a.model_id, 0);
    a = gone;
    assert_int_equal(dsmil_device47_llm_unload(&a), -DBE_E_NOT_FOUND);
    assert_int_equal(dsmil_device47_llm_unload(NULL), -DBE_E_ARGUMENT);
    assert_int_equal(dsmil_device47_llm_load(path, &a), 0); /* in the room that became free */
    assert_true(a.model_id > gone.model_id);
    for (uint32_t id = 1; id <= a.model_id; id++) {
        c.model_id = id;
        (void)dsmil_device47_llm_unload(&c);
    }
}

static void no_memory_is_an_error(void **state)
{
    dsmil_device47_llm_ctx_t ctx = {0};
    const char *path = make("int8.gguf", GGUF_TENSOR_Q8_0, 0.97f);

    (void)state;
    assert_int_equal(dsmil_device47_llm_init(64 * MIB), 0);
    for (uint64_t n = 1; n < 40; n++) {
        base_fail_alloc_at(n);
        assert_int_equal(dsmil_device47_llm_load(path, &ctx), -DBE_E_NOMEM);
    }
    base_fail_alloc_at(0);
    assert_int_equal(dsmil_device47_llm_load(path, &ctx), 0);
    assert_int_equal(dsmil_device47_llm_unload(&ctx), 0);
}

static void *load_and_unload(void *arg)
{
    for (int i = 0; i < 8; i++) {
        dsmil_device47_llm_ctx_t ctx = {0};
        const int err = dsmil_device47_llm_load(arg, &ctx);
        if (err == 0 && (!dsmil_device47_check_memory_budget(&ctx) || dsmil_device47_llm_unload(&ctx) != 0))
            return arg;
        if (err != 0 && err != -DBE_E_LIMIT)
            return arg;
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    char path[128];
    pthread_t threads[4];
    void *wrong;

    (void)state;
    snprintf(path, sizeof path, "%s", make("int8.gguf", GGUF_TENSOR_Q8_0, 0.97f));
    assert_int_equal(dsmil_device47_llm_init(64 * MIB), 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_and_unload, path), 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_before_init), cmocka_unit_test(charges_what_it_holds),
        cmocka_unit_test(only_int8),           cmocka_unit_test(accuracy_is_measured_or_not_there),
        cmocka_unit_test(budget_and_unload),   cmocka_unit_test(no_memory_is_an_error),
        cmocka_unit_test(threads_share_it),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
