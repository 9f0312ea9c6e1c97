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
#include <string.h>

#include "unicode_table.h"
#include "vocab.h"

#define BIT(class) (1u << (class))
#define LETTERS (BIT(UNI_UPPER) | BIT(UNI_LOWER) | BIT(UNI_LETTER))
#define UPPERS (BIT(UNI_UPPER) | BIT(UNI_LETTER) | BIT(UNI_MARK))
#define LOWERS (BIT(UNI_LOWER) | BIT(UNI_LETTER) | BIT(UNI_MARK))
#define DIGITS BIT(UNI_NUMBER)
#define SPACES BIT(UNI_SPACE)
#define OTHERS (BIT(UNI_OTHER) | BIT(UNI_MARK) | BIT(UNI_PUNCT) | BIT(UNI_SYMBOL))

uint32_t llm_utf8_next(const char *text, size_t len, size_t *ret_len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t n = 0;
    uint32_t code = 0;

    *ret_len = 1;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
        code = p[0] & 0x1fu;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        code = p[0] & 0x0fu;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        code = p[0] & 0x07u;
    }
    if (n == 0 || n > len)
        return UINT32_MAX;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return UINT32_MAX;
        code = code << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && code < 0x800) || (n == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code < 0xe000))
        return UINT32_MAX;
    *ret_len = n;
    return code;
}

static enum unicode_class ascii_class(uint32_t code)
{
    if (code >= 'a' && code <= 'z')
        return UNI_LOWER;
    if (code >= 'A' && code <= 'Z')
        return UNI_UPPER;
    if (code >= '0' && code <= '9')
        return UNI_NUMBER;
    if (code == ' ' || (code >= '\t' && code <= '\r'))
        return UNI_SPACE;
    if (code < ' ' || code == 0x7f)
        return UNI_OTHER;
    return strchr("$+<=>^`|~", (int)code) ? UNI_SYMBOL : UNI_PUNCT;
}

enum unicode_class llm_unicode_class(uint32_t code)
{
    size_t low = 0, high = llm_unicode_runs_count;

    if (code < 0x80)
        return ascii_class(code);
    if (code > 0x10ffff)
        return UNI_OTHER;
    while (high - low > 1) { /* the last run that begins at or before code */
        const size_t mid = low + (high - low) / 2;
        if (llm_unicode_runs[mid] >> 4 <= code)
            low = mid;
        else
            high = mid;
    }
    return (enum unicode_class)(llm_unicode_runs[low] & 15u);
}

/* ---- scanning ---------------------------------------------------------------------------------------------------- */

struct text {
    const char *p;
    size_t len;
};

/* The bit of the class of the character at `at`, and its length; at the end 0 and 0. */
static unsigned class_at(const struct text *t, size_t at, size_t *ret_len)
{
    if (at >= t->len) {
        *ret_len = 0;
        return 0;
    }
    return BIT(llm_unicode_class(llm_utf8_next(t->p + at, t->len - at, ret_len)));
}

/* End of the run of characters of `classes` from `at`, of at most `max` characters. */
static size_t run_end(const struct text *t, size_t at, unsigned classes, size_t max)
{
    size_t n;

    while (max-- > 0 && (class_at(t, at, &n) & classes))
        at += n;
    return at;
}

static bool is_newline(char c)
{
    return c == '\r' || c == '\n';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* 's 't 're 've 'm 'll 'd at `at`: length, or 0. U+017F folds to s where case is ignored. */
static size_t contraction(const struct text *t, size_t at, bool fold)
{
    const char *p = t->p + at;
    const size_t len = t->len - at;

    if (len < 2 || p[0] != '\'')
        return 0;
    if (fold && len >= 3 && p[1] == '\xc5' && p[2] == '\xbf')
        return 3;
    const char a = fold ? lower(p[1]) : p[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (len < 3)
        return 0;
    const char b = fold ? lower(p[2]) : p[2];
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ at a space. */
static size_t spaces(const struct text *t)
{
    size_t at = 0, last = 0, n;

    while (class_at(t, at, &n) == SPACES) {
        last = at;
        at += n;
    }
    return at < t->len && last > 0 ? last : at; /* leave the last one to the word that follows */
}

static size_t last_newline_end(const struct text *t)
{
    size_t at = 0, end = 0, n;

    while (class_at(t, at, &n) == SPACES) {
        if (is_newline(t->p[at]))
            end = at + 1;
        at += n;
    }
    return end;
}

/* ---- GPT-2 ------------------------------------------------------------------------------------------------------- */

static size_t match_gpt2(const struct text *t)
{
    static const unsigned kinds[] = {LETTERS, DIGITS, OTHERS};
    size_t n, skip = contraction(t, 0, false);

    if (skip > 0)
        return skip;
    skip = t->p[0] == ' ' ? 1 : 0;
    const unsigned class = class_at(t, skip, &n);
    for (size_t i = 0; i < BASE_ARRAY_LEN(kinds); i++)
        if (class & kinds[i])
            return run_end(t, skip, kinds[i], SIZE_MAX);
    return spaces(t);
}

/* ---- LLaMA 3 and those made after it ----------------------------------------------------------------------------- */

struct words {
    bool cased;       /* a word is capitals, then small letters */
    bool suffix;      /* a contraction belongs to the word before it, not to itself */
    size_t digits;    /* at most this many in one piece */
    unsigned letters; /* what a word is made of, where case does not matter */
    const char *tail; /* what may follow a run of marks */
};

/* [capitals]*[small]+ from `at`; 0: none. Letters without case count as both, so the last of a run of capitals may be
 * the one small letter. */
static size_t small_word(const struct text *t, size_t at)
{
    size_t n, end = 0;
    unsigned class;

    while ((class = class_at(t, at, &n)) & UPPERS) {
        at += n;
        if (class & LOWERS)
            end = at;
    }
    return class & LOWERS ? run_end(t, at, LOWERS, SIZE_MAX) : end;
}

static size_t cased_word(const struct text *t, const struct words *w)
{
    size_t n, end = 0, starts[2], count = 0;
    const unsigned first = class_at(t, 0, &n);

    if (!(first & (LETTERS | DIGITS)) && !is_newline(t->p[0]))
        starts[count++] = n;
    starts[count++] = 0;
    for (size_t i = 0; i < count && end == 0; i++)
        end = small_word(t, starts[i]);
    for (size_t i = 0; i < count && end == 0; i++) {
        const size_t capitals = run_end(t, starts[i], UPPERS, SIZE_MAX);
        end = capitals > starts[i] ? capitals : 0;
    }
    return end > 0 && w->suffix ? end + contraction(t, end, true) : end;
}

static size_t plain_word(const struct text *t, const struct words *w)
{
    size_t n, m;
    const unsigned first = class_at(t, 0, &n);

    if (first & w->letters)
        return run_end(t, 0, w->letters, SIZE_MAX);
    if (!(first & DIGITS) && !is_newline(t->p[0]) && (class_at(t, n, &m) & w->letters))
        return run_end(t, n, w->letters, SIZE_MAX);
    return 0;
}

static size_t match_words(const struct text *t, const struct words *w)
{
    size_t n, at = w->cased ? 0 : contraction(t, 0, true);

    if (at == 0)
        at = w->cased ? cased_word(t, w) : plain_word(t, w);
    if (at > 0)
        return at;
    if (class_at(t, 0, &n) == DIGITS)
        return run_end(t, 0, DIGITS, w->digits);
    at = t->p[0] == ' ' ? 1 : 0;
    if (class_at(t, at, &n) & OTHERS & ~w->letters) {
        at = run_end(t, at, OTHERS & ~w->letters, SIZE_MAX);
        while (at < t->len && t->p[at] != '\0' && strchr(w->tail, t->p[at]))
            at++;
        return at;
    }
    at = last_newline_end(t);
    return at > 0 ? at : spaces(t);
}

static size_t match_llama3(const struct text *t)
{
    static const struct words w = {.digits = 3, .letters = LETTERS, .tail = "\r\n"};

    return match_words(t, &w);
}

static size_t match_qwen2(const struct text *t)
{
    static const struct words w = {.digits = 1, .letters = LETTERS, .tail = "\r\n"};

    return match_words(t, &w);
}

static size_t match_qwen35(const struct text *t)
{
    static const struct words w = {.digits = 1, .letters = LETTERS | BIT(UNI_MARK), .tail = "\r\n"};

    return match_words(t, &w);
}

static size_t match_tekken(const struct text *t)
{
    static const struct words w = {.cased = true, .digits = 1, .tail = "\r\n/"};

    return match_words(t, &w);
}

static size_t match_gpt4o(const struct text *t)
{
    static const struct words w = {.cased = true, .suffix = true, .digits = 3, .tail = "\r\n/"};

    return match_words(t, &w);
}

/* ---- single stages ----------------------------------------------------------------------------------------------- */

/* \p{N} */
static size_t match_digit(const struct text *t)
{
    return run_end(t, 0, DIGITS, 1);
}

/* \p{N}+ */
static size_t match_number(const struct text *t)
{
    return run_end(t, 0, DIGITS, SIZE_MAX);
}

/* [0-9][0-9][0-9] */
static size_t match_three_digits(const struct text *t)
{
    for (size_t i = 0; i < 3; i++)
        if (i >= t->len || t->p[i] < '0' || t->p[i] > '9')
            return 0;
    return 3;
}

static size_t punctuation(const struct text *t, const char *symbols)
{
    size_t at = 0, n;

    while ((class_at(t, at, &n) & BIT(UNI_PUNCT)) || (n == 1 && t->p[at] != '\0' && strchr(symbols, t->p[at])))
        at += n;
    return at;
}

/* [\p{P}\$\+<=>\^~\|]+ */
static size_t match_marks(const struct text *t)
{
    return punctuation(t, "$+<=>^~|");
}

/* The same with a backquote. */
static size_t match_falcon_marks(const struct text *t)
{
    return punctuation(t, "$+<=>^~|`");
}

/* [\r\n] */
static size_t match_newline(const struct text *t)
{
    return is_newline(t->p[0]) ? 1 : 0;
}

/* \s?[classes]+ */
static size_t spaced_run(const struct text *t, unsigned classes)
{
    size_t n;
    const size_t skip = class_at(t, 0, &n) == SPACES ? n : 0, end = run_end(t, skip, classes, SIZE_MAX);

    return end > skip ? end : 0;
}

static size_t match_spaced_letters(const struct text *t)
{
    return spaced_run(t, LETTERS);
}

static size_t match_spaced_marks(const struct text *t)
{
    return spaced_run(t, BIT(UNI_PUNCT));
}

typedef bool member_fn(uint32_t code);

static size_t members_end(const struct text *t, size_t at, member_fn *is_member)
{
    size_t n;

    while (at < t->len && is_member(llm_utf8_next(t->p + at, t->len - at, &n)))
        at += n;
    return at;
}

/* \s?[members]+; a space may be a member, too. */
static size_t spaced_members(const struct text *t, member_fn *is_member)
{
    size_t n;
    const size_t skip = class_at(t, 0, &n) == SPACES ? n : 0, end = members_end(t, skip, is_member);

    return end > skip || skip == 0 ? end : members_end(t, 0, is_member);
}

static size_t match_spaced_cased(const struct text *t)
{
    return spaced_members(t, llm_pretoken_is_cased);
}

/* [!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]: its letters went with the stage before. */
static bool is_deepseek_mark(uint32_t code)
{
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '~') || (code >= 0xff01 && code <= 0xff0f) ||
           (code >= 0xff1a && code <= 0xff5e) || (code >= 0x2018 && code <= 0x201f) ||
           (code >= 0x3000 && code <= 0x3002);
}

static size_t match_spaced_deepseek_marks(const struct text *t)
{
    return spaced_members(t, is_deepseek_mark);
}

/* \s+$ */
static size_t match_last_spaces(const struct text *t)
{
    const size_t end = run_end(t, 0, SPACES, SIZE_MAX);

    return end == t->len ? end : 0;
}

/* A run of U+0800 to U+9FA5 and Hangul. */
static size_t match_cjk(const struct text *t)
{
    size_t at = 0, n;

    while (at < t->len) {
        const uint32_t code = llm_utf8_next(t->p + at, t->len - at, &n);
        if (!(code >= 0x800 && code <= 0x9fa5) && !(code >= 0xac00 && code <= 0xd7ff))
            break;
        at += n;
    }
    return at;
}

/* ---- families ---------------------------------------------------------------------------------------------------- */

typedef size_t match_fn(const struct text *t);

static match_fn *const stages[][PRETOKEN_STAGES_MAX] = {
    [VOCAB_PRE_DEFAULT] = {match_marks, match_gpt2, match_number, match_three_digits},
    [VOCAB_PRE_GPT2] = {match_gpt2},
    [VOCAB_PRE_LLAMA3] = {match_llama3},
    [VOCAB_PRE_QWEN2] = {match_qwen2},
    [VOCAB_PRE_QWEN35] = {match_qwen35},
    [VOCAB_PRE_SMOLLM] = {match_digit, match_gpt2},
    [VOCAB_PRE_TEKKEN] = {match_tekken},
    [VOCAB_PRE_GPT4O] = {match_gpt4o},
    [VOCAB_PRE_FALCON] = {match_falcon_marks, match_gpt2, match_three_digits},
    [VOCAB_PRE_DEEPSEEK_CODER] = {match_newline, match_spaced_letters, match_spaced_marks, match_cjk, match_digit},
    [VOCAB_PRE_DEEPSEEK_LLM] = {match_newline, match_spaced_cased, match_spaced_deepseek_marks, match_last_spaces,
                                match_cjk, match_number},
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
static size_t step(match_fn *match, const struct text *t)
{
    size_t n;

    (void)class_at(t, 0, &n);
    return match == match_last_spaces ? BASE_MAX(n, run_end(t, 0, SPACES, SIZE_MAX)) : n;
}

/* Up to the end of the match at the start, or up to where the first match begins. */
static size_t cut(match_fn *match, const char *text, size_t len)
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
    match_fn *const *stage = stages[it->pre];
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
