/* SPDX-License-Identifier: Apache-2.0
 *
 * session_test.c - admission, stop strings across tokens, whole characters, seeds, cancellation, interleaving.
 *
 * A scripted model says a fixed chain of tokens: its layers add nothing, embeddings are unit vectors, and the output
 * matrix sends each token to its successor.
 */
#include "test_gguf.h"

/* ---- scripted models --------------------------------------------------------------------------------------------- */

enum { WIDTH = 320 }; /* at least as many as tokens, a multiple of 32 */

/* next[t] follows t; 0 leads to the end token. */
struct script {
    int32_t next[WIDTH];
};

static float scripted(const void *ctx, const char *name, size_t row, size_t column)
{
    const struct script *s = ctx;

    if (strstr(name, "norm"))
        return 1;
    if (strcmp(name, "token_embd.weight") == 0)
        return row == column ? 1 : 0;
    if (strcmp(name, "output.weight") == 0)
        return (int32_t)row == (s->next[column] ? s->next[column] : 2) ? 1 : 0;
    return 0;
}

/* The prompt is <s>; the chain must not hold a token twice. */
static struct llm_model *script_model(const int32_t *chain, size_t count)
{
    static struct script script;
    struct tg_shape s = tg_defaults();

    script = (struct script){0};
    for (size_t i = 0; i < count; i++)
        script.next[i == 0 ? 1 : chain[i - 1]] = chain[i];
    s.n_embd = WIDTH;
    s.n_layers = 1;
    s.value = scripted;
    s.value_ctx = &script;
    return tg_load(&s, NULL);
}

struct said {
    char text[512];
    size_t len, pieces;
    enum llm_finish finish;
    uint32_t tokens;
};

/* Run to the end; every piece must be whole characters. */
static struct said say(struct llm_model *m, const struct llm_session_params *params)
{
    static const int32_t prompt[] = {1};
    struct llm_session *s;
    struct llm_piece p = {0};
    struct said said = {0};
    struct dbe_diag diag = {0};

    if (llm_session_new(m, prompt, 1, params, &s, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    while (!p.done) {
        assert_int_equal(llm_session_step(s, &p), DBE_OK);
        assert_true(p.text_len == 0 || base_utf8_valid(p.text, p.text_len));
        assert_true(said.len + p.text_len < sizeof said.text);
        memcpy(said.text + said.len, p.text, p.text_len);
        said.len += p.text_len;
        said.pieces += p.text_len > 0;
    }
    said.finish = p.finish;
    said.tokens = llm_session_answer_tokens(s);
    assert_int_equal(llm_session_step(s, &p), DBE_E_STATE);
    llm_session_free(s);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    return said;
}

static int32_t byte_id(uint8_t byte)
{
    return TG_BYTES_FROM + byte;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void end_token_stops(void **state)
{
    const int32_t chain[] = {tg_id("_hello"), tg_id("_world")};
    struct llm_model *m = script_model(chain, 2);
    struct said s = say(m, NULL);

    (void)state;
    assert_string_equal(s.text, " hello world");
    assert_int_equal(s.finish, LLM_FINISH_STOP);
    assert_int_equal(s.pieces, 2);
    assert_int_equal(s.tokens, 3);
    s = say(m, &(struct llm_session_params){.max_tokens = 1});
    assert_string_equal(s.text, " hello");
    assert_int_equal(s.finish, LLM_FINISH_LENGTH);
    llm_model_free(m);
}

static void control_tokens_print_nothing(void **state)
{
    const int32_t chain[] = {tg_id("a"), TG_IM_START, tg_id("b")};
    struct llm_model *m = script_model(chain, 3);
    struct said s = say(m, NULL);

    (void)state;
    assert_string_equal(s.text, "ab");
    llm_model_free(m);
}

static void stops_work_across_tokens(void **state)
{
    static const struct {
        const char *stops[2];
        const char *text;
        enum llm_finish finish;
    } cases[] = {
        {{"lo wo"}, " hel", LLM_FINISH_STOP},
        {{"world"}, " hello ", LLM_FINISH_STOP},
        {{" hello"}, "", LLM_FINISH_STOP},
        {{"worlds"}, " hello world", LLM_FINISH_STOP},
        {{"ld", "o"}, " hell", LLM_FINISH_STOP},
        {{"zzz", "d"}, " hello worl", LLM_FINISH_STOP},
        {{"o worlda", "rld"}, " hello wo", LLM_FINISH_STOP},
        {{"hello world!"}, " hello world", LLM_FINISH_STOP},
    };
    const int32_t chain[] = {tg_id("_he"), tg_id("llo"), tg_id("_wor"), tg_id("ld")};
    struct llm_model *m = script_model(chain, 4);

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        const struct llm_session_params p = {.stops = cases[i].stops, .stop_count = cases[i].stops[1] ? 2 : 1};
        const struct said s = say(m, &p);
        assert_string_equal(s.text, cases[i].text);
        assert_int_equal(s.finish, cases[i].finish);
    }
    const char *const stop[] = {"world"};
    const struct said s = say(m, &(struct llm_session_params){.stops = stop, .stop_count = 1, .max_tokens = 3});
    assert_string_equal(s.text, " hello wor"); /* the beginning of a stop string that never came */
    assert_int_equal(s.finish, LLM_FINISH_LENGTH);
    llm_model_free(m);
}

static void characters_stay_whole(void **state)
{
    const int32_t smile[] = {byte_id(0xf0), byte_id(0x9f), byte_id(0x98), byte_id(0x80), tg_id("a")};
    const int32_t broken[] = {byte_id(0xe4), byte_id(0xbd), tg_id("a"), byte_id(0xff), tg_id("b"), byte_id(0xc3)};
    struct llm_model *m = script_model(smile, 5);
    struct said s = say(m, NULL);

    (void)state;
    assert_string_equal(s.text, "\xf0\x9f\x98\x80"
                                "a");
    assert_int_equal(s.pieces, 2);
    s = say(m, &(struct llm_session_params){.max_tokens = 3});
    assert_string_equal(s.text, ""); /* three quarters of a character */
    llm_model_free(m);
    m = script_model(broken, 6);
    s = say(m, NULL);
    assert_string_equal(s.text, "\xef\xbf\xbd\xef\xbf\xbd"
                                "a\xef\xbf\xbd"
                                "b");
    llm_model_free(m);
}

/* ---- admission --------------------------------------------------------------------------------------------------- */

static void budget_is_kept(void **state)
{
    struct tg_shape shape = tg_defaults();
    /* layers, kv heads, head size, keys and values, bytes: of a page of 32 tokens */
    const uint64_t each = 2 * 2 * 8 * 2 * 2 * 32;
    const struct llm_model_params params = {.threads = 1, .kv_budget_bytes = 3 * each + 100};

    shape.n_ctx = 200;
    struct llm_model *m = tg_load(&shape, &params);
    static const int32_t prompt[] = {1, 270};
    struct llm_session *a, *b;
    struct dbe_diag diag = {0};

    (void)state;
    assert_int_equal(llm_model_info(m)->kv_bytes_per_token, each / 32);
    assert_int_equal(llm_session_kv_bytes(m, 1), each);
    assert_int_equal(llm_session_kv_bytes(m, 32), each);
    assert_int_equal(llm_session_kv_bytes(m, 33), 2 * each);
    const struct llm_session_params half = {.max_tokens = 31}, all = {.max_tokens = 94}, over = {.max_tokens = 95};
    assert_int_equal(llm_session_new(m, prompt, 2, &over, &a, &diag), DBE_E_LIMIT);
    assert_non_null(strstr(diag.text, "bytes of KV cache"));
    assert_int_equal(llm_session_new(m, prompt, 2, &half, &a, &diag), DBE_OK);
    assert_int_equal(llm_model_kv_used_bytes(m), 2 * each);
    assert_int_equal(llm_session_new(m, prompt, 2, &half, &b, &diag), DBE_E_LIMIT);
    llm_session_free(a);
    assert_int_equal(llm_session_new(m, prompt, 2, &all, &b, &diag), DBE_OK);
    llm_session_free(b);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    llm_model_free(m);
}

static void bad_requests_are_refused(void **state)
{
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    static int32_t prompt[64] = {1};
    static const int32_t bad[][1] = {{-1}, {TG_SPM_COUNT}};
    struct llm_session *s;
    struct dbe_diag diag;
    static const char *const empty[] = {""}, *const latin[] = {"\xe9"};
    const struct llm_session_params wrong[] = {
        {.temperature = -1},
        {.temperature = 3},
        {.temperature = NAN},
        {.top_p = 2},
        {.stops = empty, .stop_count = 1},
        {.stops = latin, .stop_count = 1},
        {.stop_count = LLM_STOPS_MAX + 1},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(wrong); i++)
        assert_int_equal(llm_session_new(m, prompt, 1, &wrong[i], &s, &diag), DBE_E_ARGUMENT);
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        assert_int_equal(llm_session_new(m, bad[i], 1, NULL, &s, &diag), DBE_E_ARGUMENT);
    assert_int_equal(llm_session_new(m, prompt, 0, NULL, &s, &diag), DBE_E_ARGUMENT);
    assert_int_equal(llm_session_new(m, prompt, 64, NULL, &s, &diag), DBE_E_CONTEXT);
    assert_int_equal(llm_session_new(m, prompt, 60, &(struct llm_session_params){.max_tokens = 5}, &s, &diag),
                     DBE_E_CONTEXT);
    assert_int_equal(llm_session_new(m, prompt, 60, &(struct llm_session_params){.max_tokens = 4}, &s, &diag), DBE_OK);
    llm_session_free(s);
    llm_model_free(m);
}

static void context_end_is_length(void **state)
{
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    const struct llm_session_params p = {.ignore_eos = true};
    const struct said s = say(m, &p);

    (void)state;
    assert_int_equal(s.finish, LLM_FINISH_LENGTH);
    assert_int_equal(s.tokens, 63);
    llm_model_free(m);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

static void seeds_repeat(void **state)
{
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL), *threads;
    struct llm_session_params p = {
        .temperature = 1.5f, .top_k = 40, .top_p = 0.95f, .seed = 7, .max_tokens = 40, .ignore_eos = true};
    const struct said first = say(m, &p), again = say(m, &p);

    (void)state;
    assert_string_equal(first.text, again.text);
    threads = tg_load(&shape, &(struct llm_model_params){.threads = 3});
    const struct said other_threads = say(threads, &p);
    assert_string_equal(first.text, other_threads.text);
    p.seed = 8;
    const struct said other_seed = say(m, &p);
    assert_string_not_equal(first.text, other_seed.text);
    llm_model_free(threads);
    llm_model_free(m);
}

static size_t step_into(struct llm_session *s, char *text, size_t at, bool *done)
{
    struct llm_piece p;

    if (*done)
        return at;
    assert_int_equal(llm_session_step(s, &p), DBE_OK);
    memcpy(text + at, p.text, p.text_len);
    *done = p.done;
    return at + p.text_len;
}

/* Sessions that take turns say what each says alone; a long prompt goes in chunks meanwhile. */
static void sessions_interleave(void **state)
{
    static const int32_t prompts[2][20] = {{1, 270, 271}, {1,   262, 263, 264, 265, 266, 267, 268, 269, 270,
                                                           271, 272, 273, 274, 275, 276, 277, 278, 279, 280}};
    static const size_t lengths[2] = {3, 20};
    const struct llm_session_params p = {
        .temperature = 1, .seed = 3, .max_tokens = 20, .ignore_eos = true, .prefill_chunk = 6};
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    char alone[2][512] = {{0}}, together[2][512] = {{0}};
    struct llm_session *s[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        bool done = false;
        size_t at = 0;
        assert_int_equal(llm_session_new(m, prompts[i], lengths[i], &p, &s[0], NULL), DBE_OK);
        while (!done)
            at = step_into(s[0], alone[i], at, &done);
        llm_session_free(s[0]);
    }
    bool done[2] = {false, false};
    size_t at[2] = {0, 0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(llm_session_new(m, prompts[i], lengths[i], &p, &s[i], NULL), DBE_OK);
    while (!done[0] || !done[1]) {
        for (int i = 0; i < 2; i++)
            at[i] = step_into(s[i], together[i], at[i], &done[i]);
        assert_true(llm_session_prefilled_tokens(s[1]) % 6 == 0 || llm_session_prefilled_tokens(s[1]) == 20);
    }
    for (int i = 0; i < 2; i++) {
        assert_string_equal(alone[i], together[i]);
        assert_int_equal(llm_session_prompt_tokens(s[i]), lengths[i]);
        llm_session_free(s[i]);
    }
    llm_model_free(m);
}

static void cancel_ends_it(void **state)
{
    static const int32_t prompt[] = {1};
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    struct llm_session *s;
    struct llm_piece p;

    (void)state;
    assert_int_equal(llm_session_new(m, prompt, 1, NULL, &s, NULL), DBE_OK);
    assert_int_equal(llm_session_step(s, &p), DBE_OK);
    llm_session_cancel(s);
    assert_int_equal(llm_session_step(s, &p), DBE_E_CANCELLED);
    llm_session_free(s);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    llm_model_free(m);
}

static void no_memory_is_an_answer(void **state)
{
    static const int32_t prompt[] = {1};
    struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    struct llm_session *s;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    for (uint64_t n = 1; err != DBE_OK; n++) {
        base_fail_alloc_at(n);
        err = llm_session_new(m, prompt, 1, NULL, &s, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        assert_true(n < 100);
        if (err != DBE_OK)
            assert_int_equal(llm_model_kv_used_bytes(m), 0);
    }
    llm_session_free(s);
    llm_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_token_stops),          cmocka_unit_test(control_tokens_print_nothing),
        cmocka_unit_test(stops_work_across_tokens), cmocka_unit_test(characters_stay_whole),
        cmocka_unit_test(budget_is_kept),           cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(context_end_is_length),    cmocka_unit_test(seeds_repeat),
        cmocka_unit_test(sessions_interleave),      cmocka_unit_test(cancel_ends_it),
        cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
