/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenize.c - text to tokens: greedy pair merging as SentencePiece BPE and byte-level BPE define it.
 *
 * Both merge neighbouring symbols until no pair is known, always the best pair first (highest score, or lowest rank),
 * the leftmost of equals. They differ in what a symbol starts as (character, byte), in how a pair is looked up (its
 * joined text, or its two ids), and in what is left over (bytes).
 */
#include <string.h>

#include "vocab.h"

enum { TOKENS_FIRST = 64 };

struct symbol {
    uint32_t at, len; /* bytes of the text; len 0: merged away */
    int32_t prev, next;
    int32_t id; /* byte-level: its token; -1: none */
};

struct candidate {
    float key; /* lower is better */
    int32_t left;
    uint32_t len; /* of both together: tells whether the symbols are still the same */
    uint32_t left_len;
    int32_t merged;
};

struct merger {
    const struct llm_vocab *v;
    const char *text;
    struct symbol *symbols;
    struct candidate *heap;
    size_t heap_count;
    size_t cap; /* symbols; the heap holds three times as many */
};

/* ---- heap -------------------------------------------------------------------------------------------------------- */

static bool better(const struct candidate *a, const struct candidate *b)
{
    return a->key < b->key || (a->key <= b->key && a->left < b->left);
}

static void heap_push(struct merger *m, struct candidate c)
{
    size_t i = m->heap_count++;

    while (i > 0 && better(&c, &m->heap[(i - 1) / 2])) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = c;
}

static struct candidate heap_pop(struct merger *m)
{
    const struct candidate top = m->heap[0], last = m->heap[--m->heap_count];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->heap_count)
            break;
        if (child + 1 < m->heap_count && better(&m->heap[child + 1], &m->heap[child]))
            child++;
        if (!better(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static void consider(struct merger *m, int32_t left)
{
    if (left < 0 || m->symbols[left].next < 0)
        return;
    const struct symbol *a = &m->symbols[left], *b = &m->symbols[a->next];
    struct candidate c = {.left = left, .len = a->len + b->len, .left_len = a->len};

    if (m->v->kind == VOCAB_SPM) {
        c.merged = llm_vocab_find(m->v, m->text + a->at, c.len);
        if (c.merged < 0)
            return;
        c.key = -m->v->tokens[c.merged].score;
    } else {
        const struct vocab_merge *merge = a->id >= 0 && b->id >= 0 ? llm_vocab_find_merge(m->v, a->id, b->id) : NULL;
        if (!merge)
            return;
        c.merged = merge->merged;
        c.key = (float)merge->rank; /* at most 2^22 merges: exact */
    }
    heap_push(m, c);
}

static void merge_all(struct merger *m, size_t count)
{
    m->heap_count = 0;
    for (size_t i = 0; i + 1 < count; i++)
        consider(m, (int32_t)i);
    while (m->heap_count > 0) {
        const struct candidate c = heap_pop(m);
        struct symbol *a = &m->symbols[c.left];
        if (a->len != c.left_len || a->next < 0 || a->len + m->symbols[a->next].len != c.len)
            continue; /* one of the two has been merged since */
        struct symbol *b = &m->symbols[a->next];
        a->len = c.len;
        a->id = c.merged;
        b->len = 0;
        a->next = b->next;
        if (b->next >= 0)
            m->symbols[b->next].prev = c.left;
        consider(m, a->prev);
        consider(m, c.left);
    }
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

dbe_err llm_tokens_push(struct llm_tokens *t, int32_t id)
{
    if (t->count == t->cap) {
        const size_t cap = t->cap ? t->cap * 2 : TOKENS_FIRST;
        int32_t *grown = base_realloc(t->ids, cap, sizeof *grown);
        if (!grown)
            return DBE_E_NOMEM;
        t->ids = grown;
        t->cap = cap;
    }
    t->ids[t->count++] = id;
    return DBE_OK;
}

void llm_tokens_free(struct llm_tokens *t)
{
    base_free(t->ids);
    *t = (struct llm_tokens){0};
}

/* What is no token becomes its bytes' tokens, or SentencePiece's unknown token. */
static dbe_err push_bytes(const struct llm_vocab *v, const char *p, size_t len, struct llm_tokens *out)
{
    for (size_t i = 0; i < len; i++) {
        int32_t id = v->byte_ids[(uint8_t)p[i]];
        if (id < 0 && v->kind == VOCAB_SPM)
            id = v->unk;
        if (id >= 0)
            DBE_TRY(llm_tokens_push(out, id));
    }
    return DBE_OK;
}

static dbe_err push_symbols(const struct merger *m, size_t count, struct llm_tokens *out)
{
    for (int32_t i = count > 0 ? 0 : -1; i >= 0; i = m->symbols[i].next) {
        const struct symbol *s = &m->symbols[i];
        const char *p = m->text + s->at;
        const bool look_up = s->id < 0 && m->v->kind == VOCAB_SPM; /* a character that nothing was merged with */
        const int32_t id = look_up ? llm_vocab_find(m->v, p, s->len) : s->id;
        if (id >= 0)
            DBE_TRY(llm_tokens_push(out, id));
        else
            DBE_TRY(push_bytes(m->v, p, s->len, out));
    }
    return DBE_OK;
}

static void link_symbols(struct merger *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        m->symbols[i].prev = (int32_t)i - 1;
        m->symbols[i].next = i + 1 < count ? (int32_t)i + 1 : -1;
    }
}

static dbe_err merger_init(struct merger *m, const struct llm_vocab *v, const char *text, size_t cap)
{
    *m = (struct merger){.v = v, .text = text, .cap = cap};
    m->symbols = base_alloc(cap + 1, sizeof *m->symbols);
    m->heap = base_alloc(3 * cap + 1, sizeof *m->heap);
    if (m->symbols && m->heap)
        return DBE_OK;
    base_free(m->symbols);
    base_free(m->heap);
    return DBE_E_NOMEM;
}

static void merger_fini(struct merger *m)
{
    base_free(m->symbols);
    base_free(m->heap);
}

/* ---- SentencePiece ----------------------------------------------------------------------------------------------- */

/* Spaces become U+2581. `out` has room for 3 * (len + 1) bytes. */
static size_t escape_spaces(const char *text, size_t len, bool prefix, char *out)
{
    size_t n = 0;

    if (prefix) {
        memcpy(out, VOCAB_SPACE, 3);
        n = 3;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            memcpy(out + n, VOCAB_SPACE, 3);
            n += 3;
        } else {
            out[n++] = text[i];
        }
    }
    return n;
}

static bool is_space(const char *p, size_t len)
{
    return len >= 3 && memcmp(p, VOCAB_SPACE, 3) == 0;
}

/* The symbols of what merges on its own: up to the next space that follows something else, where no token of the
 * vocabulary reaches across such a place, else all. Short stretches merge in the cache. Returns its length. */
static size_t word_symbols(struct merger *m, const char *text, size_t len, size_t *ret_count)
{
    size_t count = 0, step;
    bool last = true;

    m->text = text;
    for (size_t at = 0; at < len; at += step) {
        const bool space = is_space(text + at, len - at);
        if (m->v->words_apart && space && !last) {
            len = at;
            break;
        }
        last = space;
        (void)llm_utf8_next(text + at, len - at, &step);
        m->symbols[count++] = (struct symbol){.at = (uint32_t)at, .len = (uint32_t)step, .id = -1};
    }
    *ret_count = count;
    return len;
}

static dbe_err tokenize_spm(const struct llm_vocab *v, const char *text, size_t len, bool begin, struct llm_tokens *out)
{
    BASE_AUTO_FREE char *escaped = base_alloc(len + 1, 3);
    struct merger m;
    dbe_err err = DBE_OK;
    size_t count, step;

    if (!escaped)
        return DBE_E_NOMEM;
    const size_t n = escape_spaces(text, len, begin && v->add_space_prefix, escaped);
    DBE_TRY(merger_init(&m, v, escaped, len + 1)); /* at least one byte of text for each character */
    for (size_t at = 0; at < n && err == DBE_OK; at += step) {
        step = word_symbols(&m, escaped + at, n - at, &count);
        link_symbols(&m, count);
        merge_all(&m, count);
        err = push_symbols(&m, count, out);
    }
    merger_fini(&m);
    return err;
}

/* ---- byte-level BPE ---------------------------------------------------------------------------------------------- */

static dbe_err tokenize_piece(struct merger *m, const char *piece, size_t len, struct llm_tokens *out)
{
    const int32_t whole = m->v->ignore_merges ? llm_vocab_find(m->v, piece, len) : -1;

    if (whole >= 0)
        return llm_tokens_push(out, whole);
    m->text = piece;
    for (size_t i = 0; i < len; i++)
        m->symbols[i] = (struct symbol){.at = (uint32_t)i, .len = 1, .id = m->v->byte_ids[(uint8_t)piece[i]]};
    link_symbols(m, len);
    merge_all(m, len);
    return push_symbols(m, len, out);
}

static dbe_err tokenize_bpe(const struct llm_vocab *v, const char *text, size_t len, struct llm_tokens *out)
{
    struct pretokens it;
    struct merger m;
    dbe_err err = DBE_OK;
    size_t n;

    DBE_TRY(merger_init(&m, v, text, len));
    llm_pretokens_init(&it, v->pre, text, len);
    while (err == DBE_OK && (n = llm_pretokens_next(&it)) > 0)
        err = tokenize_piece(&m, text + it.at - n, n, out);
    merger_fini(&m);
    return err;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Text without any special token. */
static dbe_err tokenize_text(const struct llm_vocab *v, const char *text, size_t len, bool begin,
                             struct llm_tokens *out)
{
    if (len == 0)
        return DBE_OK;
    return v->kind == VOCAB_SPM ? tokenize_spm(v, text, len, begin, out) : tokenize_bpe(v, text, len, out);
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Special tokens first, `all` or the user-defined ones; what lies between them is text. */
static dbe_err tokenize_parts(const struct llm_vocab *v, const char *text, size_t len, bool begin, bool all,
                              struct llm_tokens *out)
{
    for (size_t at = 0; at < len;) {
        int32_t id;
        const size_t end = llm_vocab_next_special(v, text, at, len, all, &id);
        DBE_TRY(tokenize_text(v, text + at, end - at, begin, out));
        begin = id >= 0;
        at = end;
        if (id >= 0) {
            DBE_TRY(llm_tokens_push(out, id));
            at += v->tokens[id].name_len;
            while (llm_vocab_strips(v, id) && at < len && is_white(text[at]))
                at++;
        }
    }
    return DBE_OK;
}

dbe_err llm_vocab_tokenize(const struct llm_vocab *v, const char *text, size_t len, bool begin, struct llm_tokens *out)
{
    if (len > LLM_TEXT_BYTES_MAX)
        return DBE_E_TOO_LARGE;
    return tokenize_parts(v, text, len, begin, false, out);
}

dbe_err llm_vocab_tokenize_flags(const struct llm_vocab *v, const char *text, size_t len, unsigned flags,
                                 struct llm_tokens *out)
{
    if (len > LLM_TEXT_BYTES_MAX)
        return DBE_E_TOO_LARGE;
    if ((flags & LLM_TOKENIZE_BOS) && v->add_bos && v->bos >= 0)
        DBE_TRY(llm_tokens_push(out, v->bos));
    DBE_TRY(tokenize_parts(v, text, len, true, (flags & LLM_TOKENIZE_SPECIAL) != 0, out));
    if ((flags & LLM_TOKENIZE_BOS) && v->add_eos && v->eos >= 0)
        DBE_TRY(llm_tokens_push(out, v->eos));
    return DBE_OK;
}
