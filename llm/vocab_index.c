/* SPDX-License-Identifier: Apache-2.0
 *
 * vocab_index.c - how the tokenizers find a token by its bytes, a merge by its pair, and the special tokens in a text.
 *
 * In:  the tokens and merges of a vocabulary. Out: ids.
 * Not: no reading of files (vocab.c), no tokenizing (tokenize.c).
 *
 * The two hash tables probe PROBES_MAX places and no more; what finds no place there goes into a sorted list that is
 * searched by halves. So a vocabulary that was made to collide is looked up as slowly as a sorted one, not slower.
 */
#include <stdlib.h>
#include <string.h>

#include "vocab.h"

enum { PROBES_MAX = 24 };

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0x9fb21c651e98df25);
    h ^= h >> 29;
    return h;
}

static uint64_t hash_bytes(const char *p, size_t len)
{
    uint64_t h = UINT64_C(0x51afd7ed558ccd6d) ^ len, word;

    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&word, p, 8);
        h = mix(h ^ word) * UINT64_C(0xd6e8feb86659fd93);
    }
    word = 0;
    if (len > 0)
        memcpy(&word, p, len);
    return mix(h ^ word);
}

/* A power of two, at least twice `count`. */
static size_t table_size(size_t count)
{
    size_t size = 16;

    while (size < 2 * count)
        size *= 2;
    return size;
}

/* ---- bytes -> token ---------------------------------------------------------------------------------------------- */

/* What a token is found by: its name for SentencePiece, whose text is escaped the same way; else its bytes. */
static void match_bytes(const struct llm_vocab *v, int32_t id, const char **p, size_t *len)
{
    const struct vocab_token *t = &v->tokens[id];

    *p = v->kind == VOCAB_SPM ? t->name : t->text;
    *len = v->kind == VOCAB_SPM ? t->name_len : t->text_len;
}

static bool from_text(const struct llm_vocab *v, const struct vocab_token *t)
{
    if (v->kind == VOCAB_BPE)
        return t->type == VOCAB_NORMAL && t->text_len > 0;
    return t->name_len > 0 && (t->type == VOCAB_NORMAL || t->type == VOCAB_USER || t->type == VOCAB_UNUSED);
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const size_t n = BASE_MIN(a_len, b_len);
    const int d = n > 0 ? memcmp(a, b, n) : 0;

    return d != 0 ? d : (a_len > b_len) - (a_len < b_len);
}

static int by_text(const void *a, const void *b, void *ctx)
{
    const int32_t *x = a, *y = b;
    const char *xp, *yp;
    size_t xn, yn;

    match_bytes(ctx, *x, &xp, &xn);
    match_bytes(ctx, *y, &yp, &yn);
    const int d = compare_bytes(xp, xn, yp, yn);
    return d != 0 ? d : (*x > *y) - (*x < *y);
}

static bool same_text(const struct llm_vocab *v, int32_t id, const char *text, size_t len)
{
    const char *p;
    size_t n;

    match_bytes(v, id, &p, &n);
    return n == len && memcmp(p, text, len) == 0;
}

/* The place of these bytes, or where they would be put; SIZE_MAX: no room. */
static size_t probe_text(const struct llm_vocab *v, const char *text, size_t len)
{
    const size_t from = (size_t)hash_bytes(text, len);

    for (size_t i = 0; i < PROBES_MAX; i++) {
        const size_t at = (from + i) & v->texts_mask;
        if (v->texts[at] < 0 || same_text(v, v->texts[at], text, len))
            return at;
    }
    return SIZE_MAX;
}

/* Does U+2581 follow anything but U+2581 in it? */
static bool spans_words(const char *p, size_t len)
{
    for (size_t i = 1; i + 3 <= len; i++)
        if (memcmp(p + i, VOCAB_SPACE, 3) == 0 && (i < 3 || memcmp(p + i - 3, VOCAB_SPACE, 3) != 0))
            return true;
    return false;
}

static dbe_err index_texts(struct llm_vocab *v, struct dbe_diag *diag)
{
    const size_t size = table_size(v->count);

    v->texts = base_alloc(size, sizeof *v->texts);
    v->crowded = base_alloc(v->count, sizeof *v->crowded);
    if (!v->texts || !v->crowded)
        return dbe_fail(diag, DBE_E_NOMEM, "tokenizer", 0, "no memory for the vocabulary");
    v->texts_mask = size - 1;
    v->words_apart = true;
    for (size_t i = 0; i < size; i++)
        v->texts[i] = -1;
    for (size_t i = 0; i < v->count; i++) {
        const char *p;
        size_t len;
        if (!from_text(v, &v->tokens[i]))
            continue;
        match_bytes(v, (int32_t)i, &p, &len);
        v->text_max = BASE_MAX(v->text_max, len);
        v->words_apart = v->words_apart && !spans_words(p, len);
        const size_t at = probe_text(v, p, len);
        if (at == SIZE_MAX)
            v->crowded[v->crowded_count++] = (int32_t)i;
        else if (v->texts[at] < 0) /* of two tokens with the same bytes the first is the one */
            v->texts[at] = (int32_t)i;
    }
    qsort_r(v->crowded, v->crowded_count, sizeof *v->crowded, by_text, v);
    return DBE_OK;
}

int32_t llm_vocab_find(const struct llm_vocab *v, const char *text, size_t len)
{
    size_t low = 0, high = v->crowded_count;
    const char *p;
    size_t n;

    if (len == 0 || len > v->text_max)
        return -1;
    const size_t at = probe_text(v, text, len);
    if (at != SIZE_MAX)
        return v->texts[at];
    while (low < high) { /* the first that is not below */
        const size_t mid = low + (high - low) / 2;
        match_bytes(v, v->crowded[mid], &p, &n);
        if (compare_bytes(p, n, text, len) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < v->crowded_count && same_text(v, v->crowded[low], text, len) ? v->crowded[low] : -1;
}

/* ---- pair -> merge ----------------------------------------------------------------------------------------------- */

static int by_pair(const void *a, const void *b)
{
    const struct vocab_merge *x = a, *y = b;

    return x->pair != y->pair ? (x->pair > y->pair) - (x->pair < y->pair) : (x->rank > y->rank) - (x->rank < y->rank);
}

static struct vocab_merge *probe_merge(const struct llm_vocab *v, uint64_t pair)
{
    const size_t from = (size_t)mix(pair * UINT64_C(0xd6e8feb86659fd93));

    for (size_t i = 0; i < PROBES_MAX; i++) {
        struct vocab_merge *m = &v->merges[(from + i) & v->merges_mask];
        if (m->merged < 0 || m->pair == pair)
            return m;
    }
    return NULL;
}

dbe_err llm_vocab_index_merges(struct llm_vocab *v, size_t max)
{
    const size_t size = table_size(max);

    v->merges = base_alloc(size, sizeof *v->merges);
    v->crowded_merges = base_alloc(max + 1, sizeof *v->crowded_merges);
    if (!v->merges || !v->crowded_merges)
        return DBE_E_NOMEM;
    v->merges_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        v->merges[i].merged = -1;
    return DBE_OK;
}

void llm_vocab_add_merge(struct llm_vocab *v, const struct vocab_merge *merge)
{
    struct vocab_merge *at = probe_merge(v, merge->pair);

    if (!at)
        v->crowded_merges[v->crowded_merges_count++] = *merge;
    else if (at->merged < 0) /* of a pair named twice the first rank counts */
        *at = *merge;
}

void llm_vocab_sort_merges(struct llm_vocab *v)
{
    qsort(v->crowded_merges, v->crowded_merges_count, sizeof *v->crowded_merges, by_pair);
}

const struct vocab_merge *llm_vocab_find_merge(const struct llm_vocab *v, int32_t left, int32_t right)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const struct vocab_merge *at = probe_merge(v, pair);
    size_t low = 0, high = v->crowded_merges_count;

    if (at)
        return at->merged < 0 ? NULL : at;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (v->crowded_merges[mid].pair < pair)
            low = mid + 1;
        else
            high = mid;
    }
    return low < v->crowded_merges_count && v->crowded_merges[low].pair == pair ? &v->crowded_merges[low] : NULL;
}

/* ---- special tokens in a text ------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b, void *ctx)
{
    const struct llm_vocab *v = ctx;
    const int32_t *x = a, *y = b;
    const struct vocab_token *p = &v->tokens[*x], *q = &v->tokens[*y];
    const int d = compare_bytes(p->name, p->name_len, q->name, q->name_len);

    return d != 0 ? d : (*x > *y) - (*x < *y);
}

/* Of tokens with one name the first is the one. */
static void drop_namesakes(struct llm_vocab *v)
{
    size_t kept = 0;

    for (size_t i = 0; i < v->specials_count; i++) {
        const struct vocab_token *t = &v->tokens[v->specials[i]];
        const struct vocab_token *last = kept > 0 ? &v->tokens[v->specials[kept - 1]] : NULL;
        if (!last || compare_bytes(t->name, t->name_len, last->name, last->name_len) != 0)
            v->specials[kept++] = v->specials[i];
    }
    v->specials_count = kept;
    for (size_t i = 0; i < kept; i++)
        v->users_count += v->tokens[v->specials[i]].type == VOCAB_USER ? 1 : 0;
}

static dbe_err index_specials(struct llm_vocab *v, struct dbe_diag *diag)
{
    size_t at = 0;

    v->specials = base_alloc(v->count, sizeof *v->specials);
    if (!v->specials)
        return dbe_fail(diag, DBE_E_NOMEM, "tokenizer", 0, "no memory for the vocabulary");
    for (size_t i = 0; i < v->count; i++) {
        const struct vocab_token *t = &v->tokens[i];
        if (t->type != VOCAB_CONTROL && t->type != VOCAB_USER && t->type != VOCAB_UNKNOWN)
            continue;
        if (t->name_len > VOCAB_SPECIAL_BYTES_MAX)
            return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "token %zu: a special token of %u bytes, at most %d", i,
                            t->name_len, VOCAB_SPECIAL_BYTES_MAX);
        if (t->name_len > 0)
            v->specials[v->specials_count++] = (int32_t)i;
    }
    qsort_r(v->specials, v->specials_count, sizeof *v->specials, by_name, v);
    drop_namesakes(v);
    for (unsigned byte = 0; byte < 256; byte++) {
        while (at < v->specials_count && (uint8_t)v->tokens[v->specials[at]].name[0] < byte)
            at++;
        v->specials_from[byte] = (uint32_t)at;
    }
    v->specials_from[256] = (uint32_t)v->specials_count;
    return DBE_OK;
}

/* Of the sorted names from[0..count), which share their first `depth` bytes, those whose next byte is `byte`. */
static const int32_t *narrow(const struct llm_vocab *v, const int32_t *from, size_t *count, size_t depth, uint8_t byte)
{
    size_t low = 0, high = *count, end;

    for (end = *count; low < high;) { /* the first with a byte of at least `byte` */
        const size_t mid = low + (high - low) / 2;
        const struct vocab_token *t = &v->tokens[from[mid]];
        if (t->name_len <= depth || (uint8_t)t->name[depth] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    for (size_t first = low, last = end; first < last; end = first) {
        const size_t mid = first + (last - first) / 2;
        if ((uint8_t)v->tokens[from[mid]].name[depth] <= byte)
            first = mid + 1;
        else
            last = mid;
    }
    *count = end - low;
    return from + low;
}

/* The longest that starts at text[0], of those that `all` lets count; -1: none. */
static int32_t special_at(const struct llm_vocab *v, const char *text, size_t len, bool all)
{
    const uint8_t byte = (uint8_t)text[0];
    const int32_t *from = v->specials + v->specials_from[byte];
    size_t count = v->specials_from[byte + 1] - v->specials_from[byte];
    int32_t best = -1;

    for (size_t depth = 1; count > 0; depth++) {
        const struct vocab_token *t = &v->tokens[from[0]]; /* a name that ends here sorts before those that go on */
        if (t->name_len == depth && (all || t->type == VOCAB_USER))
            best = from[0];
        if (depth >= len)
            break;
        from = narrow(v, from, &count, depth, (uint8_t)text[depth]);
    }
    return best;
}

size_t llm_vocab_next_special(const struct llm_vocab *v, const char *text, size_t from, size_t len, bool all,
                              int32_t *ret_id)
{
    *ret_id = -1;
    if (all ? v->specials_count == 0 : v->users_count == 0)
        return len;
    for (size_t at = from; at < len; at++) {
        const uint8_t byte = (uint8_t)text[at];
        if (v->specials_from[byte] == v->specials_from[byte + 1])
            continue;
        *ret_id = special_at(v, text + at, len - at, all);
        if (*ret_id >= 0)
            return at;
    }
    return len;
}

int32_t llm_vocab_special(const struct llm_vocab *v, const char *name)
{
    const size_t len = strlen(name);
    size_t low = 0, high = v->specials_count;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const struct vocab_token *t = &v->tokens[v->specials[mid]];
        const int d = compare_bytes(t->name, t->name_len, name, len);
        if (d == 0)
            return v->specials[mid];
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return -1;
}

int32_t llm_vocab_control(const struct llm_vocab *v, const char *name)
{
    const int32_t id = llm_vocab_special(v, name);

    return id >= 0 && v->tokens[id].type == VOCAB_CONTROL ? id : -1;
}

dbe_err llm_vocab_index(struct llm_vocab *v, struct dbe_diag *diag)
{
    DBE_TRY(index_texts(v, diag));
    return index_specials(v, diag);
}
