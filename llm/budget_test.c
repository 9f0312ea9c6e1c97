/* SPDX-License-Identifier: Apache-2.0
 *
 * budget_test.c - a model that does not fit is refused with its numbers; one byte decides; what is charged is real.
 */
#include "test_gguf.h"

static dbe_err load(uint64_t budget, uint64_t kv, struct llm_model **ret, struct dbe_diag *diag)
{
    const struct tg_shape s = tg_defaults();
    const struct llm_model_params p = {.threads = 1, .kv_budget_bytes = (size_t)kv, .memory_budget_bytes = budget};
    struct base_buf file;

    tg_build(&s, &file, NULL);
    const dbe_err err = llm_model_load_mem(file.data, file.len, &p, ret, diag);
    base_buf_free(&file);
    return err;
}

static void a_byte_decides(void **state)
{
    enum { KV = 1 << 20 };
    struct dbe_diag diag = {0};
    struct llm_model *m = NULL;
    unsigned long long weights, work, kv, budget;

    (void)state;
    assert_int_equal(load(1, KV, &m, &diag), DBE_E_LIMIT);
    assert_null(m);
    assert_int_equal(
        sscanf(diag.text, "weights of %llu, workspace of %llu and KV budget of %llu", &weights, &work, &kv), 3);
    assert_int_equal(kv, KV);
    budget = weights + work + kv;
    assert_int_equal(load(budget - 1, KV, &m, &diag), DBE_E_LIMIT);
    assert_int_equal(load(budget, KV, &m, &diag), DBE_OK);
    const struct llm_model_info *i = llm_model_info(m);
    assert_int_equal(i->workspace_bytes, work);
    assert_true(i->workspace_bytes > 0);
    assert_in_range(i->weights_bytes, weights / 2, weights);
    assert_true(isnan(i->retention_top1));
    llm_model_free(m);
}

static void extremes(void **state)
{
    struct llm_model *m = NULL;

    (void)state;
    assert_int_equal(load(0, 1 << 20, &m, NULL), DBE_OK); /* no limit */
    llm_model_free(m);
    assert_int_equal(load(UINT64_MAX, SIZE_MAX, &m, NULL), DBE_E_LIMIT); /* sums do not wrap */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_byte_decides),
        cmocka_unit_test(extremes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
