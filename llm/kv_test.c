/* SPDX-License-Identifier: Apache-2.0
 *
 * kv_test.c - pages of the KV cache: what is counted, what is wiped, and what happens when there is no memory.
 */
#include "test_gguf.h"

#include "model.h"

static struct llm_model *model_of(uint64_t pages, const char *type)
{
    struct tg_shape shape = tg_defaults();
    const uint64_t page = strcmp(type, "f16") == 0 ? 2 * 2 * 2 * 8 * 32 * 2 : 2 * 2 * (2 * 8 * 32 + 2 * 32 * 4);

    shape.n_ctx = 512;
    return tg_load(
        &shape, &(struct llm_model_params){.threads = 1, .kv_budget_bytes = pages * page + page / 2, .kv_type = type});
}

static void free_pages_are_zero(struct llm_model *m)
{
    const struct llm_kv_pool *p = &m->kv_pool;
    uint64_t count = 0;

    for (const struct llm_kv_page *page = p->free; page; page = page->next, count++) {
        assert_false(page->written || page->cached);
        assert_int_equal(page->refs, 0);
        for (size_t i = 0; i < p->page_bytes; i++)
            assert_int_equal(page->data[i], 0);
    }
    assert_int_equal(count, p->free_count);
}

/* Compute `count` positions. */
static void compute(struct llm_model *m, struct llm_kv *kv, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct llm_row row = {.kv = kv, .pos = i, .token = (int32_t)(10 + i % 100), .prefill = true};
        assert_int_equal(llm_forward(m, &row, 1, NULL), DBE_OK);
    }
}

static void pages_are_counted(void **state)
{
    static const struct {
        const char *type;
        uint64_t bytes; /* a token */
    } cases[] = {{"f16", 2 * 2 * 2 * 8 * 2}, {"int8", 2 * 2 * (2 * 8 + 2 * 4)}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct llm_model *m = model_of(5, cases[i].type);
        const uint64_t page = cases[i].bytes * 32;
        struct dbe_diag diag = {0};
        struct llm_kv a, b, untouched = {.capacity = 77};
        char want[64];
        assert_int_equal(llm_model_info(m)->kv_bytes_per_token, cases[i].bytes);
        assert_int_equal(llm_session_kv_bytes(m, 0), 0);
        assert_int_equal(llm_session_kv_bytes(m, 65), 3 * page);
        assert_int_equal(llm_kv_init(m, 65, &a, NULL), DBE_OK);
        assert_int_equal(a.page_count, 3);
        assert_int_equal(llm_model_kv_used_bytes(m), 3 * page);
        assert_int_equal(llm_kv_init(m, 65, &untouched, &diag), DBE_E_LIMIT);
        assert_int_equal(untouched.capacity, 77);
        snprintf(want, sizeof want, "65 tokens need %u bytes", (unsigned)(3 * page));
        assert_non_null(strstr(diag.text, want));
        snprintf(want, sizeof want, "%u of %u are free", (unsigned)(2 * page), (unsigned)(5 * page + page / 2));
        assert_non_null(strstr(diag.text, want));
        assert_int_equal(llm_kv_init(m, 64, &b, NULL), DBE_OK);
        assert_int_equal(llm_model_kv_used_bytes(m), 5 * page);
        llm_kv_free(m, &a);
        llm_kv_free(m, &b);
        llm_kv_free(m, &b); /* an empty one */
        assert_int_equal(llm_model_kv_used_bytes(m), 0);
        llm_model_free(m);
    }
}

static void given_back_pages_are_wiped(void **state)
{
    struct llm_model *m = model_of(8, "f16");
    struct llm_kv a;
    size_t set = 0;

    (void)state;
    assert_int_equal(llm_kv_init(m, 128, &a, NULL), DBE_OK);
    compute(m, &a, 40);
    for (size_t i = 0; i < m->kv_pool.page_bytes; i++)
        set += a.pages[0]->data[i] != 0;
    assert_true(set > m->kv_pool.page_bytes / 2);
    assert_true(a.pages[1]->written);
    assert_false(a.pages[2]->written);
    llm_kv_free(m, &a);
    assert_int_equal(m->kv_pool.free_count, 4);
    free_pages_are_zero(m);
    llm_model_free(m);
}

/* What the pool keeps for later is bounded, and comes back before new memory is taken. */
static void free_pages_are_used_again(void **state)
{
    struct llm_model *m = model_of(12, "int8");
    struct llm_kv a;

    (void)state;
    assert_int_equal(llm_kv_init(m, 12 * 32, &a, NULL), DBE_OK);
    compute(m, &a, 12 * 32);
    llm_kv_free(m, &a);
    assert_int_equal(m->kv_pool.free_count, 4);
    free_pages_are_zero(m);
    base_fail_alloc_at(0);
    assert_int_equal(llm_kv_init(m, 4 * 32, &a, NULL), DBE_OK);
    assert_int_equal(base_alloc_count(), 1); /* the list of pages */
    llm_kv_free(m, &a);
    llm_model_free(m);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    struct llm_model *m = model_of(8, "f16");
    struct llm_kv a;
    dbe_err err = DBE_E_NOMEM;
    uint64_t n;

    (void)state;
    for (n = 1; err != DBE_OK; n++) {
        struct dbe_diag diag = {0};
        base_fail_alloc_at(n);
        err = llm_kv_init(m, 200, &a, &diag);
        base_fail_alloc_at(0);
        if (err == DBE_OK)
            break;
        assert_int_equal(err, DBE_E_NOMEM);
        assert_non_null(strstr(diag.text, "no memory"));
        assert_int_equal(llm_model_kv_used_bytes(m), 0);
        free_pages_are_zero(m);
        assert_true(n < 50);
    }
    assert_true(n > 3);
    llm_kv_free(m, &a);
    llm_model_free(m);
}

static void wrong_parameters_are_refused(void **state)
{
    static const struct llm_model_params wrong[] = {{.threads = 1, .kv_type = "q4"},
                                                    {.threads = 1, .prefix_percent = 101}};
    struct tg_shape shape = tg_defaults();

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(wrong); i++) {
        struct llm_model *m = NULL;
        struct dbe_diag diag = {0};
        struct base_buf file;
        tg_build(&shape, &file, NULL);
        assert_int_equal(llm_model_load_mem(file.data, file.len, &wrong[i], &m, &diag), DBE_E_ARGUMENT);
        base_buf_free(&file);
        assert_null(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_counted),
        cmocka_unit_test(given_back_pages_are_wiped),
        cmocka_unit_test(free_pages_are_used_again),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
        cmocka_unit_test(wrong_parameters_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
