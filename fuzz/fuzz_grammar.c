/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_grammar.c - a JSON schema as anybody could send it, and a walk through what it allows: what the grammar accepts
 * is never refused byte by byte, and the whole text is JSON.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "llm/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 600, CLOSING_FROM = 200 };

static void require(bool cond)
{
    if (!cond)
        abort();
}

/* Bytes in the order in which they are tried: an arbitrary one first, towards the end those that close. */
static uint8_t candidate(uint64_t *seed, unsigned step, unsigned n)
{
    static const char closing[] = "\"]}";

    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    if (step > CLOSING_FROM && n < sizeof closing - 1)
        return (uint8_t)closing[n];
    return (uint8_t)(*seed >> 33);
}

static void walk(const struct llm_grammar *g, uint64_t seed)
{
    struct llm_grammar_state *s;
    char text[STEPS];
    size_t len = 0;

    require(llm_grammar_state_new(g, &s) == DBE_OK);
    for (unsigned step = 0; step < STEPS && !llm_grammar_is_over(s); step++) {
        bool found = step > CLOSING_FROM && llm_grammar_can_end(s);
        for (unsigned n = 0; n < 1000 && !found; n++) {
            const char byte = (char)candidate(&seed, step, n);
            found = llm_grammar_accept(s, &byte, 1);
            if (found)
                text[len++] = byte;
        }
        if (step > CLOSING_FROM && llm_grammar_can_end(s))
            break;
    }
    if (llm_grammar_can_end(s)) {
        json_error_t error;
        json_t *value = json_loadb(text, len, JSON_DECODE_ANY, &error);
        struct llm_grammar_state *again;
        require(value != NULL);
        json_decref(value);
        require(llm_grammar_state_new(g, &again) == DBE_OK);
        require(llm_grammar_accept(again, text, len) && llm_grammar_can_end(again));
        llm_grammar_state_free(again);
    }
    llm_grammar_state_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llm_grammar *g;
    struct dbe_diag diag = {0};
    const dbe_err err = llm_grammar_schema((const char *)data, size, &g, &diag);

    if (err != DBE_OK) {
        require(diag.text[0] != '\0'); /* a refusal says what is wrong */
        return 0;
    }
    for (uint64_t seed = 0; seed < 3; seed++)
        walk(g, seed + size);
    llm_grammar_free(g);
    return 0;
}
