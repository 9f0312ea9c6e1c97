/* SPDX-License-Identifier: Apache-2.0
 *
 * test_grammar.h - a vocabulary with tokens that JSON text likes to be cut into, and random answers that a mask allows.
 */
#ifndef LLM_TEST_GRAMMAR_H
#define LLM_TEST_GRAMMAR_H

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/test.h"
#include "grammar.h"
#include "vocab.h"

static const char *const tv_words[] = {"{\"",
                                       "\":",
                                       "\": ",
                                       "\",",
                                       "\", \"",
                                       "\"}",
                                       "\"]",
                                       "{}",
                                       "[]",
                                       "[[",
                                       "]]",
                                       "},",
                                       "}, {",
                                       "],",
                                       " {",
                                       " [",
                                       "\n  ",
                                       "\n",
                                       "  ",
                                       " \"",
                                       "\",\n",
                                       "null",
                                       "true",
                                       "false",
                                       "nul",
                                       "tr",
                                       ": true",
                                       "12",
                                       "-1",
                                       "0.",
                                       ".5",
                                       "e+",
                                       "1e",
                                       "00",
                                       "12,",
                                       "3]",
                                       "ab",
                                       "name",
                                       "na",
                                       "\"name",
                                       "\"name\"",
                                       "a\"",
                                       "\"a",
                                       "a\":1",
                                       "\\u",
                                       "\\ud8",
                                       "\\\"",
                                       "\\n",
                                       "\\",
                                       "\xc3",
                                       "\xc3\xa9",
                                       "\xe4\xbd",
                                       "\xa0",
                                       "\xe4\xbd\xa0",
                                       "\xed\xa0",
                                       "\xf0\x9f",
                                       "\xf0\x9f\x98\x80",
                                       "\xff",
                                       "\x80\x80",
                                       "a\n",
                                       "\": \"",
                                       "\":\"",
                                       "\": [",
                                       "\": {",
                                       "0123",
                                       "\"}]",
                                       "\"}}",
                                       "1}",
                                       "2024",
                                       "-01",
                                       "T1",
                                       "\"\"",
                                       "same",
                                       "same",
                                       "a word of some length",
                                       "word of length",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                       "lengthy\": \"word\", \"x",
                                       "seventeen bytes\", \"x"};

enum { TV_WORDS = sizeof tv_words / sizeof tv_words[0], TV_END = 256 + TV_WORDS, TV_CONTROL, TV_EMPTY, TV_COUNT };
enum { TV_MASK_WORDS = (TV_COUNT + 31) / 32 };

static struct vocab_token tv_tokens[TV_COUNT];

static inline struct llm_vocab tv_vocab(void)
{
    static char bytes[256];
    struct llm_vocab v = {.tokens = tv_tokens, .count = TV_COUNT, .eog = {TV_END}, .eog_count = 1};

    for (size_t i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        tv_tokens[i] = (struct vocab_token){.text = bytes + i, .text_len = 1, .type = VOCAB_BYTE};
    }
    for (size_t i = 0; i < TV_WORDS; i++)
        tv_tokens[256 + i] =
            (struct vocab_token){.text = tv_words[i], .text_len = (uint32_t)strlen(tv_words[i]), .type = VOCAB_NORMAL};
    tv_tokens[TV_END] = (struct vocab_token){.text = "", .type = VOCAB_CONTROL};
    tv_tokens[TV_CONTROL] = (struct vocab_token){.text = "{", .text_len = 1, .type = VOCAB_CONTROL};
    tv_tokens[TV_EMPTY] = (struct vocab_token){.text = "", .type = VOCAB_NORMAL};
    return v;
}

static uint64_t tv_seed = 1;

static inline uint32_t tv_random(void)
{
    tv_seed = tv_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(tv_seed >> 33);
}

static inline bool tv_allowed(const uint32_t *allowed, size_t id)
{
    return allowed[id / 32] >> (id % 32) & 1;
}

/* A token that the mask allows; when `closing`, of a few draws one that ends, closes or moves on. */
static inline int32_t tv_pick(const uint32_t *allowed, bool closing)
{
    int32_t some[TV_COUNT];
    size_t count = 0;

    for (size_t i = 0; i < TV_COUNT; i++)
        if (tv_allowed(allowed, i))
            some[count++] = (int32_t)i;
    assert_true(count > 0);
    if (closing && tv_allowed(allowed, TV_END))
        return TV_END;
    for (size_t tries = 0; closing && tries < 400; tries++) {
        const int32_t id = some[tv_random() % count];
        const struct vocab_token *t = &tv_tokens[id];
        if (t->text_len == 1 && strchr("]}\"", t->text[0]))
            return id;
    }
    return some[tv_random() % count];
}

/* A random text that the masks allow, NUL-terminated; false: it did not come to an end within `size`. */
static inline bool tv_text(const struct llm_grammar *g, const struct llm_trie *trie, unsigned tokens, char *out,
                           size_t size)
{
    struct llm_grammar_state *s;
    uint32_t allowed[TV_MASK_WORDS];
    size_t len = 0;
    bool ended = false;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    for (unsigned n = 0; !ended; n++) {
        assert_int_equal(llm_grammar_mask(s, trie, TV_COUNT, allowed), DBE_OK);
        const int32_t id = tv_pick(allowed, n > tokens);
        const struct vocab_token *t = &tv_tokens[id];
        ended = id == TV_END;
        assert_true(!ended || llm_grammar_can_end(s));
        if (len + t->text_len + 1 > size)
            break;
        if (!ended && !llm_grammar_accept(s, t->text, t->text_len))
            fail_msg("token %d is allowed but not accepted after %.*s", id, (int)len, out);
        memcpy(out + len, t->text, t->text_len);
        len += t->text_len;
    }
    out[len] = '\0';
    llm_grammar_state_free(s);
    return ended;
}

/* Is the whole text accepted, and may it end there? */
static inline bool tv_accepts(const struct llm_grammar *g, const char *text)
{
    struct llm_grammar_state *s;
    bool ok;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    ok = llm_grammar_accept(s, text, strlen(text)) && llm_grammar_can_end(s);
    llm_grammar_state_free(s);
    return ok;
}

/* Every token, byte by byte, against the mask after each token of a random text. */
static inline void tv_masks_are_exact(const struct llm_grammar *g, const struct llm_trie *trie, unsigned tokens)
{
    struct llm_grammar_state *s, *try;
    uint32_t allowed[TV_MASK_WORDS];

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    assert_int_equal(llm_grammar_state_new(g, &try), DBE_OK);
    for (unsigned n = 0; n < tokens; n++) {
        assert_int_equal(llm_grammar_mask(s, trie, TV_COUNT, allowed), DBE_OK);
        for (size_t i = 0; i < TV_COUNT; i++) {
            const struct vocab_token *t = &tv_tokens[i];
            bool ok = i == TV_END ? llm_grammar_can_end(s) : t->type != VOCAB_CONTROL && t->text_len > 0;
            assert_int_equal(llm_grammar_state_copy(try, s), DBE_OK);
            for (size_t at = 0; ok && i != TV_END && at < t->text_len; at++)
                ok = llm_grammar_accept(try, t->text + at, 1);
            assert_int_equal(ok, tv_allowed(allowed, i));
        }
        const int32_t id = tv_pick(allowed, tv_random() % 4 == 0);
        if (id == TV_END)
            break;
        assert_true(llm_grammar_accept(s, tv_tokens[id].text, tv_tokens[id].text_len));
    }
    llm_grammar_state_free(s);
    llm_grammar_state_free(try);
}

#endif
