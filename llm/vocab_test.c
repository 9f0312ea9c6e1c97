/* SPDX-License-Identifier: Apache-2.0
 *
 * vocab_test.c - vocabularies of many shapes: merging against a slow merge that is obviously right, on random
 * vocabularies and texts; lookups in large ones; special tokens in texts; what files must not say.
 */
#include "test_vocab.h"

enum { VOCABS = 60, TEXTS = 60, NAMES_MAX = 80, TEXT_MAX = 60, LARGE = 131072 };

/* ---- SentencePiece against a slow merge -------------------------------------------------------------------------- */

static const char *const letters[] = {"a", "b", "c", VOCAB_SPACE, "\xc3\xa9"};

static int32_t slow_find(const struct tv_token *tokens, size_t count, const char *p, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i].type == VOCAB_NORMAL && strlen(tokens[i].name) == len && memcmp(tokens[i].name, p, len) == 0)
            return (int32_t)i;
    return -1;
}

/* Merge the best of all neighbouring pairs, again and again. starts[i] to starts[i + 1] is a symbol. */
static void slow_spm(const struct tv_token *tokens, size_t count, const char *text, struct llm_tokens *out)
{
    size_t starts[3 * TEXT_MAX + 2], n = 0, step;
    const size_t len = strlen(text);

    for (size_t at = 0; at < len; at += step) {
        starts[n++] = at;
        (void)llm_utf8_next(text + at, len - at, &step);
    }
    starts[n] = len;
    for (;;) {
        size_t best = SIZE_MAX;
        float score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const int32_t id = slow_find(tokens, count, text + starts[i], starts[i + 2] - starts[i]);
            if (id >= 0 && (best == SIZE_MAX || tokens[id].score > score)) {
                best = i;
                score = tokens[id].score;
            }
        }
        if (best == SIZE_MAX)
            break;
        memmove(&starts[best + 1], &starts[best + 2], (n - best - 1) * sizeof *starts);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        const int32_t id = slow_find(tokens, count, text + starts[i], starts[i + 1] - starts[i]);
        if (id >= 0)
            assert_int_equal(llm_tokens_push(out, id), DBE_OK);
        for (size_t b = starts[i]; id < 0 && b < starts[i + 1]; b++)
            assert_int_equal(llm_tokens_push(out, (uint8_t)text[b]), DBE_OK);
    }
}

static void random_name(uint64_t *seed, const char *const *from, uint32_t kinds, uint32_t parts, char *out, size_t max)
{
    size_t n = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < parts; i++)
        n += (size_t)snprintf(out + n, max - n, "%s", from[tv_random(seed, kinds)]);
}

static bool goes_on_after_a_space(const char *name)
{
    for (size_t i = 1; name[i]; i++)
        if (strncmp(name + i, VOCAB_SPACE, 3) == 0 && (i < 3 || strncmp(name + i - 3, VOCAB_SPACE, 3) != 0))
            return true;
    return false;
}

/* Ids 0 to 255 are the bytes. `apart`: no token reaches into a second word. */
static size_t random_spm(uint64_t *seed, bool apart, struct tv_token *tokens)
{
    size_t count = 256;

    for (int i = 0; i < 256; i++) {
        tokens[i] = (struct tv_token){.type = VOCAB_BYTE};
        snprintf(tokens[i].name, sizeof tokens[i].name, "<0x%02X>", (unsigned)i);
    }
    for (int i = 0; i < NAMES_MAX; i++) {
        struct tv_token *t = &tokens[count];
        random_name(seed, letters, BASE_ARRAY_LEN(letters), 1 + tv_random(seed, 5), t->name, sizeof t->name);
        t->type = VOCAB_NORMAL;
        t->score = -(float)tv_random(seed, 30); /* many are equal */
        if (slow_find(tokens, count, t->name, strlen(t->name)) < 0 && !(apart && goes_on_after_a_space(t->name)))
            count++;
    }
    return count;
}

static void same_ids(const struct llm_tokens *got, const struct llm_tokens *want, const char *text)
{
    if (got->count != want->count || memcmp(got->ids, want->ids, got->count * sizeof *got->ids) != 0)
        fail_msg("\"%s\": %zu tokens differ from the %zu of the slow merge", text, got->count, want->count);
}

static void spm_is_the_slow_merge(void **state)
{
    static const char *const plain[] = {"a", "b", "c", " ", "\xc3\xa9", "z"};
    struct tv_token tokens[256 + NAMES_MAX];
    uint64_t seed = 1;

    (void)state;
    for (int v = 0; v < VOCABS; v++) {
        struct llm_vocab vocab;
        const struct tv_spec s = {.model = "llama", .tokens = tokens, .count = random_spm(&seed, v % 2 == 1, tokens)};
        tv_load(&s, &vocab);
        assert_int_equal(vocab.words_apart, v % 2 == 1);
        for (int i = 0; i < TEXTS; i++) {
            char text[2 * TEXT_MAX + 1], escaped[3 * TEXT_MAX + 4] = VOCAB_SPACE;
            struct llm_tokens got = {0}, want = {0};
            size_t n = 3;
            random_name(&seed, plain, BASE_ARRAY_LEN(plain), 1 + tv_random(&seed, TEXT_MAX - 1), text, sizeof text);
            for (const char *p = text; *p; p++)
                n += (size_t)snprintf(escaped + n, sizeof escaped - n, *p == ' ' ? VOCAB_SPACE : "%c", *p);
            slow_spm(tokens, s.count, escaped, &want);
            assert_int_equal(llm_vocab_tokenize(&vocab, text, strlen(text), true, &got), DBE_OK);
            same_ids(&got, &want, text);
            llm_tokens_free(&got);
            llm_tokens_free(&want);
        }
        llm_vocab_free(&vocab);
    }
}

/* ---- byte-level BPE against a slow merge ------------------------------------------------------------------------- */

/* Ids 0 to 255 are the bytes; each merge makes the next id out of two that there are. */
static size_t random_bpe(uint64_t *seed, struct tv_token *tokens, char merges[][64], int32_t pairs[][2])
{
    size_t count = 256;

    for (int i = 0; i < 256; i++) {
        tokens[i] = (struct tv_token){.type = VOCAB_NORMAL};
        tg_byte_char((uint8_t)i, tokens[i].name);
    }
    for (int i = 0; i < 4 * NAMES_MAX && count < 256 + NAMES_MAX; i++) {
        const uint32_t made = (uint32_t)count - 256;
        int32_t pair[2];
        for (int k = 0; k < 2; k++)
            pair[k] = made > 0 && tv_random(seed, 2) ? (int32_t)(256 + tv_random(seed, made))
                                                     : (int32_t)('a' + tv_random(seed, 3));
        char a[24], b[24];
        snprintf(a, sizeof a, "%.12s", tokens[pair[0]].name);
        snprintf(b, sizeof b, "%.12s", tokens[pair[1]].name);
        if (strlen(a) + strlen(b) > 12)
            continue;
        tokens[count] = (struct tv_token){.type = VOCAB_NORMAL};
        snprintf(tokens[count].name, sizeof tokens[count].name, "%s%s", a, b);
        if (slow_find(tokens, count, tokens[count].name, strlen(tokens[count].name)) >= 0)
            continue;
        snprintf(merges[made], 64, "%s %s", a, b);
        memcpy(pairs[made], pair, sizeof pair);
        count++;
    }
    return count;
}

static void slow_bpe(const int32_t pairs[][2], size_t merges, const char *text, struct llm_tokens *out)
{
    for (const char *p = text; *p; p++)
        assert_int_equal(llm_tokens_push(out, (uint8_t)*p), DBE_OK);
    for (size_t m = 0; m < merges;) {
        size_t at = 0;
        while (at + 1 < out->count && !(out->ids[at] == pairs[m][0] && out->ids[at + 1] == pairs[m][1]))
            at++;
        if (at + 1 >= out->count) {
            m++;
            continue;
        }
        out->ids[at] = (int32_t)(256 + m);
        memmove(&out->ids[at + 1], &out->ids[at + 2], (out->count - at - 2) * sizeof *out->ids);
        out->count--;
        m = 0; /* what was merged may be the left or right of a better pair */
    }
}

static void bpe_is_the_slow_merge(void **state)
{
    static const char *const plain[] = {"a", "b", "c", "\xc3\xa9"};
    struct tv_token tokens[256 + NAMES_MAX];
    char merges[NAMES_MAX][64];
    int32_t pairs[NAMES_MAX][2];
    uint64_t seed = 2;

    (void)state;
    for (int v = 0; v < VOCABS; v++) {
        struct llm_vocab vocab;
        struct tv_spec s = {.model = "gpt2", .pre = "qwen2", .tokens = tokens, .merges = (const char(*)[64])merges};
        s.count = random_bpe(&seed, tokens, merges, pairs);
        s.merges_count = s.count - 256;
        tv_load(&s, &vocab);
        for (int i = 0; i < TEXTS; i++) {
            char text[2 * TEXT_MAX + 1];
            struct llm_tokens got = {0}, want = {0};
            random_name(&seed, plain, BASE_ARRAY_LEN(plain), 1 + tv_random(&seed, TEXT_MAX - 1), text, sizeof text);
            slow_bpe((const int32_t(*)[2])pairs, s.merges_count, text, &want);
            assert_int_equal(llm_vocab_tokenize(&vocab, text, strlen(text), true, &got), DBE_OK);
            same_ids(&got, &want, text);
            llm_tokens_free(&got);
            llm_tokens_free(&want);
        }
        llm_vocab_free(&vocab);
    }
}

/* ---- lookups ----------------------------------------------------------------------------------------------------- */

/* So many that some find no place in the hash table. */
static void every_token_is_found(void **state)
{
    struct tv_token *tokens = base_alloc(LARGE, sizeof *tokens);
    struct tv_spec s = {.model = "llama", .tokens = tokens, .count = LARGE};
    struct llm_vocab v;
    char name[48];

    (void)state;
    assert_non_null(tokens);
    for (size_t i = 0; i < LARGE; i++) {
        tokens[i].type = VOCAB_NORMAL;
        snprintf(tokens[i].name, sizeof tokens[i].name, "w%zu", i * i * 31);
    }
    tv_load(&s, &v);
    assert_true(v.crowded_count > 0);
    for (size_t i = 0; i < LARGE; i++)
        assert_int_equal(llm_vocab_find(&v, tokens[i].name, strlen(tokens[i].name)), i);
    for (size_t i = 0; i < LARGE; i++) {
        const int n = snprintf(name, sizeof name, "x%zu", i * i * 31);
        assert_int_equal(llm_vocab_find(&v, name, (size_t)n), -1);
    }
    llm_vocab_free(&v);
    base_free(tokens);
}

/* ---- special tokens ---------------------------------------------------------------------------------------------- */

static const struct tv_token marked[] = {
    {"<unk>", 2, 0}, {"<s>", 3, 0}, {"</s>", 3, 0},       {"<|a|>", 3, 0}, {"<|a|><|a|>", 3, 0}, {"<t>", 4, 0},
    {"<t>x", 4, 0},  {"  ", 4, 0},  {VOCAB_SPACE, 1, -1}, {"x", 1, -1},    {"<", 1, -1},         {"|", 1, -1},
    {"a", 1, -1},    {">", 1, -1},  {"/", 1, -1},         {"s", 1, -1},    {"t", 1, -1},         {"<|end|>", 4, 0}};

static void expect_marked(const char *name, const char *text, unsigned flags, const char *want)
{
    const struct tv_spec s = {.model = "llama", .name = name, .tokens = marked, .count = BASE_ARRAY_LEN(marked)};
    struct llm_tokens t = {0};
    struct llm_vocab v;

    tv_load(&s, &v);
    assert_int_equal(llm_vocab_tokenize_flags(&v, text, strlen(text), flags, &t), DBE_OK);
    tv_expect(&t, want, text);
    llm_tokens_free(&t);
    llm_vocab_free(&v);
}

static void specials_are_found(void **state)
{
    (void)state;
    expect_marked(NULL, "x<t>x", 0, "8 9 6");            /* user-defined: always, the longest */
    expect_marked(NULL, "x<t>s", 0, "8 9 5 8 15");       /* the text after it begins anew */
    expect_marked(NULL, "x   x", 0, "8 9 7 8 8 9");      /* spaces are a token here */
    expect_marked(NULL, "<|a|>", 0, "8 10 11 12 11 13"); /* control: only when asked for */
    expect_marked(NULL, "<|a|>", LLM_TOKENIZE_SPECIAL, "3");
    expect_marked(NULL, "<|a|><|a|><|a|>", LLM_TOKENIZE_SPECIAL, "4 3");
    expect_marked(NULL, "<|a|", LLM_TOKENIZE_SPECIAL, "8 10 11 12 11");
    expect_marked(NULL, "<unk>", LLM_TOKENIZE_SPECIAL, "0");
    expect_marked(NULL, "<|a|> x", LLM_TOKENIZE_SPECIAL, "3 8 8 9");
    expect_marked("Phi-3 mini", "<|a|> \n x", LLM_TOKENIZE_SPECIAL,
                  "3 8 9"); /* there white space after it is dropped */
    expect_marked("Phi-3 mini", "<t> x<unk> x", LLM_TOKENIZE_SPECIAL, "5 8 9 0 8 8 9");
}

/* A name that ends answers is a control token whatever the file calls it. */
static void ends_never_come_from_text(void **state)
{
    const struct tv_spec s = {.model = "llama", .tokens = marked, .count = BASE_ARRAY_LEN(marked)};
    struct llm_vocab v;
    struct llm_tokens t = {0};

    (void)state;
    tv_load(&s, &v);
    assert_true(llm_vocab_is_eog(&v, 17));
    assert_true(llm_vocab_is_eog(&v, 2));
    assert_false(llm_vocab_is_eog(&v, 5));
    assert_int_equal(llm_vocab_control(&v, "<|end|>"), 17);
    assert_int_equal(llm_vocab_control(&v, "<t>"), -1);
    assert_int_equal(llm_vocab_special(&v, "<t>"), 5);
    assert_int_equal(llm_vocab_special(&v, "<u>"), -1);
    assert_int_equal(llm_vocab_tokenize(&v, "<|end|></s>", 11, true, &t), DBE_OK);
    for (size_t i = 0; i < t.count; i++)
        assert_false(llm_vocab_is_eog(&v, t.ids[i]));
    llm_tokens_free(&t);
    llm_vocab_free(&v);
}

static void bad_files_are_refused(void **state)
{
    struct tv_token long_name[] = {{"a", 1, 0}};
    struct tv_spec s = {.model = "gpt2", .pre = "some-new-cut", .tokens = long_name, .count = 1};
    struct dbe_diag diag = {0};
    struct llm_vocab v;

    (void)state;
    assert_int_equal(tv_try(&s, &v, &diag), DBE_E_MODEL);
    assert_non_null(strstr(diag.text, "some-new-cut"));
    llm_vocab_free(&v);
    s.pre = "gpt-2";
    long_name[0].type = 9;
    assert_int_equal(tv_try(&s, &v, &diag), DBE_E_MODEL);
    llm_vocab_free(&v);
    s.model = "unigram";
    assert_int_equal(tv_try(&s, &v, &diag), DBE_E_MODEL);
    assert_non_null(strstr(diag.text, "unigram"));
    llm_vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spm_is_the_slow_merge),     cmocka_unit_test(bpe_is_the_slow_merge),
        cmocka_unit_test(every_token_is_found),      cmocka_unit_test(specials_are_found),
        cmocka_unit_test(ends_never_come_from_text), cmocka_unit_test(bad_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
