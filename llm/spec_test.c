/* SPDX-License-Identifier: Apache-2.0
 *
 * spec_test.c - guesses change the number of passes and never the text.
 */
#include "test_gguf.h"

#include "session.h"

enum { TEXT_MAX = 2048, CYCLE = 6 };

static struct llm_model *model(tg_value_fn *value, const char *bpe_pre)
{
    struct tg_shape shape = tg_defaults();

    shape.n_ctx = 512;
    shape.value = value;
    shape.bpe_pre = bpe_pre;
    if (value)
        shape.n_embd = 320, shape.n_layers = 1;
    return tg_load(&shape, NULL);
}

static struct llm_model *deep_model(tg_value_fn *value)
{
    struct tg_shape shape = tg_defaults();

    shape.n_ctx = 512;
    shape.value = value;
    shape.n_embd = 320, shape.n_layers = 8;
    return tg_load(&shape, NULL);
}

/* Says six tokens from 270 on, a multiple of six, again and again: layers add nothing, embeddings are unit vectors, and
 * the output matrix sends each token of the cycle to the next. */
static float cycle(const void *ctx, const char *name, size_t row, size_t column)
{
    (void)ctx;
    if (strstr(name, "norm"))
        return 1;
    if (strcmp(name, "token_embd.weight") == 0)
        return row == column ? 1 : 0;
    if (strcmp(name, "output.weight") == 0)
        return row == 270 + (column + 1) % CYCLE && column >= 270 ? 1 : 0;
    return 0;
}

/* Says one token for ever. */
static float stuck(const void *ctx, const char *name, size_t row, size_t column)
{
    return strcmp(name, "output.weight") == 0 ? (row == 263 && column >= 270 ? 1 : 0) : cycle(ctx, name, row, column);
}

struct said {
    char text[TEXT_MAX];
    size_t len;
    uint64_t passes, rows;
    enum llm_finish finish;
    uint32_t tokens;
};

static struct said say(struct llm_model *m, const int32_t *prompt, size_t length, const struct llm_session_params *p)
{
    struct llm_session *s;
    struct llm_piece piece = {0};
    struct said said = {0};
    struct dbe_diag diag = {0};
    struct llm_model_stats before, after;
    size_t counted = 0;

    if (llm_session_new(m, prompt, length, p, &s, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    llm_model_stats(m, &before);
    while (!piece.done) {
        assert_int_equal(llm_session_step(s, &piece), DBE_OK);
        assert_true(said.len + piece.text_len < TEXT_MAX);
        memcpy(said.text + said.len, piece.text, piece.text_len);
        said.len += piece.text_len;
        counted += piece.prob_count;
    }
    llm_model_stats(m, &after);
    said.passes = after.decode_passes - before.decode_passes;
    said.rows = after.decode_rows - before.decode_rows;
    said.finish = piece.finish;
    said.tokens = llm_session_answer_tokens(s);
    assert_int_equal(counted, said.tokens);
    llm_session_free(s);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    return said;
}

/* ---- the text ---------------------------------------------------------------------------------------------------- */

/* Every kind of sampling, both sources of guesses, drafts that are mostly right and mostly wrong. */
static void text_is_the_same(void **state)
{
    static const char *const stops[] = {"the", "qq"};
    struct llm_model *m = model(NULL, NULL), *twin = model(NULL, NULL), *stranger = model(cycle, NULL);
    int32_t prompt[60] = {1};
    const struct llm_session_params all[] = {
        {.ignore_eos = true},
        {.temperature = 1.3f, .seed = 4},
        {.temperature = 1, .seed = 5, .top_k = 8, .top_p = 0.9f, .ignore_eos = true, .repetition_penalty = 1.3f},
        {.temperature = 0.7f, .seed = 6, .top_k = 3, .ignore_eos = true, .frequency_penalty = 0.5f},
        {.temperature = 1.5f, .seed = 7, .stops = stops, .stop_count = 2},
    };

    (void)state;
    for (size_t i = 1; i < BASE_ARRAY_LEN(prompt); i++)
        prompt[i] = 262 + (int32_t)(i % 9);
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        for (uint32_t tokens = 1; tokens < 130; tokens += 43) {
            struct llm_session_params p = all[i];
            p.max_tokens = tokens;
            const struct said plain = say(m, prompt, 60, &p);
            for (unsigned how = 0; how < 5; how++) {
                p.lookup_tokens = how == 0 || how == 3 ? 8 : how == 4 ? 1 : 0;
                p.draft = how == 0 || how == 4 ? NULL : how == 2 ? stranger : twin;
                p.draft_tokens = how == 1 ? LLM_DRAFTS_MAX : 0;
                const struct said with = say(m, prompt, 60, &p);
                assert_string_equal(with.text, plain.text);
                assert_int_equal(with.tokens, plain.tokens);
                assert_int_equal(with.finish, plain.finish);
            }
        }
    assert_int_equal(llm_model_kv_used_bytes(twin), 0);
    llm_model_free(m);
    llm_model_free(twin);
    llm_model_free(stranger);
}

/* Beside others, with and without guesses of their own. */
static void text_is_the_same_in_a_batch(void **state)
{
    enum { SESSIONS = 5 };
    struct llm_model *m = model(NULL, NULL), *twin = model(NULL, NULL);
    struct llm_session *s[SESSIONS];
    char texts[SESSIONS][TEXT_MAX] = {{0}};
    size_t at[SESSIONS] = {0}, left = SESSIONS;
    bool done[SESSIONS] = {false};
    int32_t prompt[40];
    struct llm_session_params p[SESSIONS];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(prompt); i++)
        prompt[i] = 262 + (int32_t)(i % 7);
    for (size_t i = 0; i < SESSIONS; i++) {
        p[i] = (struct llm_session_params){.temperature = (float)i * 0.3f,
                                           .seed = i,
                                           .max_tokens = 60,
                                           .ignore_eos = true,
                                           .lookup_tokens = i % 2 ? 6 : 0,
                                           .draft = i == 2 ? twin : NULL};
        assert_int_equal(llm_session_new(m, prompt, 40, &p[i], &s[i], NULL), DBE_OK);
    }
    while (left > 0) {
        struct llm_session *in[SESSIONS];
        struct llm_piece pieces[SESSIONS];
        dbe_err errs[SESSIONS];
        size_t n = 0, who[SESSIONS];
        for (size_t i = 0; i < SESSIONS; i++)
            if (!done[i])
                who[n] = i, in[n++] = s[i];
        assert_int_equal(llm_batch_step(m, in, n, pieces, errs), DBE_OK);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(errs[i], DBE_OK);
            memcpy(texts[who[i]] + at[who[i]], pieces[i].text, pieces[i].text_len);
            at[who[i]] += pieces[i].text_len;
            done[who[i]] = pieces[i].done;
            left -= pieces[i].done;
        }
    }
    for (size_t i = 0; i < SESSIONS; i++)
        llm_session_free(s[i]);
    for (size_t i = 0; i < SESSIONS; i++) {
        p[i].lookup_tokens = 0;
        p[i].draft = NULL;
        assert_string_equal(say(m, prompt, 40, &p[i]).text, texts[i]);
    }
    llm_model_free(m);
    llm_model_free(twin);
}

/* ---- the passes -------------------------------------------------------------------------------------------------- */

static void repeated_text_takes_few_passes(void **state)
{
    static const int32_t prompt[] = {1, 270, 271, 272, 273, 274, 275, 270};
    struct llm_model *m = model(cycle, NULL);
    struct llm_session_params p = {.max_tokens = 90, .ignore_eos = true};
    const struct said plain = say(m, prompt, 8, &p);

    (void)state;
    assert_int_equal(plain.passes, 89);
    p.lookup_tokens = 8;
    const struct said guessed = say(m, prompt, 8, &p);
    assert_string_equal(guessed.text, plain.text);
    assert_in_range(guessed.passes, 10, 15);
    llm_model_free(m);
}

static void equal_model_guesses_right(void **state)
{
    static const int32_t prompt[] = {1, 262, 263, 264};
    struct llm_model *m = model(NULL, NULL), *twin = model(NULL, NULL);
    const struct llm_session_params p = {.temperature = 1.1f,
                                         .seed = 3,
                                         .max_tokens = 61, /* the first comes with the prompt */
                                         .ignore_eos = true,
                                         .draft = twin,
                                         .draft_tokens = 4};
    const struct said said = say(m, prompt, 4, &p);

    (void)state;
    assert_int_equal(said.rows, 60); /* no guess was wrong */
    assert_in_range(said.passes, 12, 18);
    llm_model_free(m);
    llm_model_free(twin);
}

/* Where the model that drafts is always wrong, few rows and few of its passes are wasted. */
static void wrong_model_is_asked_less(void **state)
{
    static const int32_t prompt[] = {1, 270, 271, 272};
    struct llm_model *m = deep_model(cycle), *wrong = model(stuck, NULL);
    struct llm_model_stats stats;
    const struct llm_session_params p = {.max_tokens = 301, .ignore_eos = true, .draft = wrong, .draft_tokens = 4};
    const struct said said = say(m, prompt, 4, &p);

    (void)state;
    assert_int_equal(said.passes, 300);
    assert_in_range(said.rows, 301, 315);
    llm_model_stats(wrong, &stats);
    assert_in_range(stats.passes, 5, 40);
    llm_model_free(m);
    llm_model_free(wrong);
}

/* All of a step's sessions in each pass of the draft model, those in their prompts too. */
static void sessions_share_the_draft_model(void **state)
{
    enum { SESSIONS = 4 };
    struct llm_model *m = deep_model(cycle), *draft = model(cycle, NULL);
    struct llm_session_params p = {.max_tokens = 80, .ignore_eos = true, .draft = draft, .draft_tokens = 3};
    struct llm_model_stats alone, before, after;
    struct llm_session *s[SESSIONS];
    int32_t prompt[40];

    (void)state;
    for (int32_t i = 0; i < 40; i++)
        prompt[i] = 270 + i % CYCLE;
    const struct said want = say(m, prompt, 40, &p);
    llm_model_stats(draft, &alone);
    assert_true(want.passes < 60);
    for (size_t i = 0; i < SESSIONS; i++)
        assert_int_equal(llm_session_new(m, prompt, 40, &p, &s[i], NULL), DBE_OK);
    llm_model_stats(m, &before);
    for (bool done = false; !done;) {
        struct llm_piece pieces[SESSIONS];
        dbe_err errs[SESSIONS];
        assert_int_equal(llm_batch_step(m, s, SESSIONS, pieces, errs), DBE_OK);
        for (size_t i = 0; i < SESSIONS; i++) {
            assert_int_equal(errs[i], DBE_OK);
            assert_int_equal(pieces[i].text_len, pieces[0].text_len);
        }
        done = pieces[0].done;
    }
    llm_model_stats(m, &after);
    assert_true(after.decode_passes - before.decode_passes < 79);
    llm_model_stats(draft, &after);
    assert_true(after.passes - alone.passes < 2 * alone.passes);
    assert_int_equal(after.prefill_rows - alone.prefill_rows, SESSIONS * alone.prefill_rows);
    for (size_t i = 0; i < SESSIONS; i++)
        llm_session_free(s[i]);
    assert_int_equal(llm_model_kv_used_bytes(draft), 0);
    llm_model_free(m);
    llm_model_free(draft);
}

/* ---- look-up ----------------------------------------------------------------------------------------------------- */

static uint32_t look_up(struct llm_spec *s, const int32_t *tokens, uint32_t count, uint32_t most)
{
    struct llm_ask ask = {s, tokens, count, most, NULL};

    llm_spec_guess(&ask, 1, 1);
    return s->count;
}

static void bad_guesses_become_rare(void **state)
{
    static const int32_t tokens[] = {5, 7, 8, 9, 5, 7};
    static const int32_t want[] = {8, 9};
    struct llm_spec s = {0};
    uint32_t guesses = 0;

    (void)state;
    assert_int_equal(llm_spec_init(NULL, &(struct llm_session_params){.lookup_tokens = 8}, 100, &s, NULL), DBE_OK);
    assert_int_equal(look_up(&s, tokens, 6, 8), 2);
    assert_memory_equal(s.drafts, want, sizeof want);
    assert_int_equal(look_up(&s, tokens, 6, 1), 1);
    assert_int_equal(look_up(&s, tokens, 5, 8), 0); /* "9 5" is new */
    for (int i = 0; i < 300; i++) {
        guesses += look_up(&s, tokens, 6, 8);
        llm_spec_learn(&s, 6, s.count, 0);
    }
    assert_in_range(guesses, 6, 16); /* of 2400 */
    for (int i = 0; i < 120; i++) {  /* and come back when they turn out right */
        look_up(&s, tokens, 6, 8);
        llm_spec_learn(&s, 6, s.count, s.count);
    }
    assert_int_equal(s.count, 8);
    llm_spec_fini(&s);
}

static void many_answers_guess_less(void **state)
{
    static const int32_t tokens[] = {5, 7, 8, 9, 5, 7};
    struct llm_spec s = {0};
    struct llm_ask ask = {&s, tokens, 6, 8, NULL};
    uint32_t alone;

    (void)state;
    assert_int_equal(llm_spec_init(NULL, &(struct llm_session_params){.lookup_tokens = 8}, 100, &s, NULL), DBE_OK);
    llm_spec_guess(&ask, 1, 1);
    alone = s.count;
    llm_spec_guess(&ask, 1, 8);
    assert_in_range(s.count, 1, alone - 1);
    llm_spec_fini(&s);
}

static void copy_goes_on_behind_a_difference(void **state)
{
    static const int32_t tokens[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 10, 11, 12, 13, 14, 99, 16, 98, 97};
    struct llm_spec s = {0};

    (void)state;
    assert_int_equal(llm_spec_init(NULL, &(struct llm_session_params){.lookup_tokens = 3}, 100, &s, NULL), DBE_OK);
    assert_int_equal(look_up(&s, tokens, 14, 8), 3);
    assert_memory_equal(s.drafts, &tokens[4], 3 * sizeof *tokens);
    llm_spec_learn(&s, 14, 3, 1); /* 14, then 99 instead of 15 */
    assert_int_equal(look_up(&s, tokens, 16, 8), 3);
    assert_memory_equal(s.drafts, &tokens[6], 3 * sizeof *tokens);
    llm_spec_learn(&s, 16, 3, 1); /* 16, then 98 instead of 17 */
    assert_true(look_up(&s, tokens, 18, 8) > 0);
    assert_int_equal(s.drafts[0], 18);
    llm_spec_learn(&s, 18, s.count, 0); /* the next one differs as well: it is another text */
    assert_int_equal(look_up(&s, tokens, 19, 8), 0);
    llm_spec_fini(&s);
}

static void bad_parameters_are_refused(void **state)
{
    static const int32_t prompt[] = {1};
    struct llm_model *m = model(NULL, NULL), *bpe = model(NULL, "gpt-2");
    struct llm_session *s;
    const struct {
        struct llm_session_params p;
        const char *word;
    } wrong[] = {
        {{.lookup_tokens = LLM_DRAFTS_MAX + 1}, "lookup_tokens"},
        {{.draft_tokens = 3}, "draft_tokens"},
        {{.draft = m}, "draft"},
        {{.draft = bpe}, "vocabulary"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(wrong); i++) {
        struct dbe_diag diag = {0};
        assert_int_equal(llm_session_new(m, prompt, 1, &wrong[i].p, &s, &diag), DBE_E_ARGUMENT);
        assert_non_null(strstr(diag.text, wrong[i].word));
        assert_int_equal(llm_model_kv_used_bytes(m) + llm_model_kv_used_bytes(bpe), 0);
    }
    llm_model_free(m);
    llm_model_free(bpe);
}

static void no_memory_is_an_answer(void **state)
{
    static const int32_t prompt[] = {1};
    struct llm_model *m = model(NULL, NULL), *twin = model(NULL, NULL);
    const struct llm_session_params p = {.lookup_tokens = 4, .draft = twin};
    struct llm_session *s;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    for (uint64_t n = 1; err != DBE_OK; n++) {
        base_fail_alloc_at(n);
        err = llm_session_new(m, prompt, 1, &p, &s, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        assert_true(n < 200);
        if (err != DBE_OK)
            assert_int_equal(llm_model_kv_used_bytes(m) + llm_model_kv_used_bytes(twin), 0);
    }
    llm_session_free(s);
    llm_model_free(m);
    llm_model_free(twin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_same),
        cmocka_unit_test(text_is_the_same_in_a_batch),
        cmocka_unit_test(repeated_text_takes_few_passes),
        cmocka_unit_test(equal_model_guesses_right),
        cmocka_unit_test(wrong_model_is_asked_less),
        cmocka_unit_test(sessions_share_the_draft_model),
        cmocka_unit_test(bad_guesses_become_rare),
        cmocka_unit_test(many_answers_guess_less),
        cmocka_unit_test(copy_goes_on_behind_a_difference),
        cmocka_unit_test(bad_parameters_are_refused),
        cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
