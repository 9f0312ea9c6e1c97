/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken.c - how byte-level BPE cuts text into pieces before it merges: the regular expressions of the families,
 * written out as scanners.
 *
 * In:  text and which family it is for. Out: lengths of pieces, one after the other.
 * Not: no regular expressions at run time, no merging (tokenize.c), no normalisation: Qwen 2's first tokenizer composed
 *      characters (NFC) before it cut, readers of GGUF files do not.
 *
 * A family is a list of stages; each cuts what the one before it left in one piece. A stage says how much of the text
 * it matches at a place; what lies between two matches is a piece, too. Alternatives are tried in order, each greedy:
 * GPT-2:    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * LLaMA 3:  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 *           \s+(?!\S)|\s+
 * Qwen 2:   the same with single digits; Qwen 3.5: where it says \p{L} there, [\p{L}\p{M}]
 * Tekken:   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|
 *           [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|
 *           ' '?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * GPT-4o:   Tekken's with (?i:'s|'t|'re|'ve|'m|'ll|'d)? after a word and three digits
 * DeepSeek LLM has stages: [\r\n], \s?[letters with case]+, \s?[punctuation]+, \s+$, [ideographs]+, \p{N}+
 */
#include "pretoken.h"

static pretoken_match_fn *const stages[][PRETOKEN_STAGES_MAX] = {
    [VOCAB_PRE_DEFAULT] = {pretoken_marks, pretoken_gpt2, pretoken_number, pretoken_three_digits},
    [VOCAB_PRE_GPT2] = {pretoken_gpt2},
    [VOCAB_PRE_LLAMA3] = {pretoken_llama3},
    [VOCAB_PRE_QWEN2] = {pretoken_qwen2},
    [VOCAB_PRE_QWEN35] = {pretoken_qwen35},
    [VOCAB_PRE_SMOLLM] = {pretoken_digit, pretoken_gpt2},
    [VOCAB_PRE_TEKKEN] = {pretoken_tekken},
    [VOCAB_PRE_GPT4O] = {pretoken_gpt4o},
    [VOCAB_PRE_FALCON] = {pretoken_falcon_marks, pretoken_gpt2, pretoken_three_digits},
    [VOCAB_PRE_DEEPSEEK_CODER] = {pretoken_newline, pretoken_spaced_letters, pretoken_spaced_marks, pretoken_cjk,
                                  pretoken_digit},
    [VOCAB_PRE_DEEPSEEK_LLM] = {pretoken_newline, pretoken_spaced_cased, pretoken_spaced_deepseek_marks,
                                pretoken_last_spaces, pretoken_cjk, pretoken_number},
};

/* Names of tokenizer.ggml.pre. */
static const struct {
    const char *name;
    enum vocab_pre pre;
} names[] = {
    {"default", VOCAB_PRE_DEFAULT},
    {"gpt-2", VOCAB_PRE_GPT2},
    {"phi-2", VOCAB_PRE_GPT2},
    {"olmo", VOCAB_PRE_GPT2},
    {"mpt", VOCAB_PRE_GPT2},
    {"jais", VOCAB_PRE_GPT2},
    {"gigachat", VOCAB_PRE_GPT2},
    {"exaone4", VOCAB_PRE_GPT2},
    {"trillion", VOCAB_PRE_GPT2},
    {"llama-bpe", VOCAB_PRE_LLAMA3},
    {"llama3", VOCAB_PRE_LLAMA3},
    {"llama-v3", VOCAB_PRE_LLAMA3},
    {"falcon3", VOCAB_PRE_LLAMA3},
    {"falcon-h1", VOCAB_PRE_LLAMA3},
    {"pixtral", VOCAB_PRE_LLAMA3},
    {"midm-2.0", VOCAB_PRE_LLAMA3},
    {"lfm2", VOCAB_PRE_LLAMA3},
    {"dbrx", VOCAB_PRE_LLAMA3},
    {"smaug-bpe", VOCAB_PRE_LLAMA3},
    {"qwen2", VOCAB_PRE_QWEN2},
    {"deepseek-r1-qwen", VOCAB_PRE_QWEN2},
    {"stablelm2", VOCAB_PRE_QWEN2},
    {"megrez", VOCAB_PRE_QWEN2},
    {"hunyuan", VOCAB_PRE_QWEN2},
    {"qwen35", VOCAB_PRE_QWEN35},
    {"smollm", VOCAB_PRE_SMOLLM},
    {"starcoder", VOCAB_PRE_SMOLLM},
    {"refact", VOCAB_PRE_SMOLLM},
    {"command-r", VOCAB_PRE_SMOLLM},
    {"codeshell", VOCAB_PRE_SMOLLM},
    {"exaone", VOCAB_PRE_SMOLLM},
    {"minerva-7b", VOCAB_PRE_SMOLLM},
    {"tekken", VOCAB_PRE_TEKKEN},
    {"gpt-4o", VOCAB_PRE_GPT4O},
    {"llama4", VOCAB_PRE_GPT4O},
    {"falcon", VOCAB_PRE_FALCON},
    {"deepseek-coder", VOCAB_PRE_DEEPSEEK_CODER},
    {"deepseek-llm", VOCAB_PRE_DEEPSEEK_LLM},
};

bool llm_pretoken_by_name(const char *name, size_t len, enum vocab_pre *ret)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0) {
            *ret = names[i].pre;
            return true;
        }
    return false;
}

/* How far it is from a place where nothing matches to the next where something might: a character, and of spaces that
 * are not the last all of them, or a long run of them would be read again from each. */
static size_t step(pretoken_match_fn *match, const struct text *t)
{
    size_t n;

    (void)class_at(t, 0, &n);
    return match == pretoken_last_spaces ? BASE_MAX(n, run_end(t, 0, SPACES, SIZE_MAX)) : n;
}

/* Up to the end of the match at the start, or up to where the first match begins. */
static size_t cut(pretoken_match_fn *match, const char *text, size_t len)
{
    struct text t = {text, len};
    size_t at = match(&t);

    if (at > 0)
        return at;
    do {
        at += step(match, &t);
        t = (struct text){text + at, len - at};
    } while (at < len && match(&t) == 0);
    return at;
}

void llm_pretokens_init(struct pretokens *it, enum vocab_pre pre, const char *text, size_t len)
{
    *it = (struct pretokens){.pre = pre, .text = text, .len = len};
}

size_t llm_pretokens_next(struct pretokens *it)
{
    pretoken_match_fn *const *stage = stages[it->pre];
    const size_t from = it->at;
    size_t limit = it->len;

    if (from >= it->len)
        return 0;
    for (size_t s = 0; s < PRETOKEN_STAGES_MAX && stage[s]; s++) {
        if (it->ends[s] <= from) /* this stage's piece is used up: the next one */
            it->ends[s] = from + cut(stage[s], it->text + from, limit - from);
        limit = it->ends[s];
    }
    it->at = limit;
    return limit - from;
}
