/* SPDX-License-Identifier: Apache-2.0
 *
 * trie.c - a vocabulary as a tree of bytes, and which of its tokens a grammar allows.
 *
 * The tree is walked together with the automaton, so that a prefix that cannot be ends the walk for all of its tokens.
 * Inside a string nearly every token is allowed and the walk is long. What follows there does not depend on what the
 * string is part of, but for tokens that leave it: so the result for a node is kept, with the places in the tree where
 * its rule may be left, and only from these the walk goes on above the real stack. A repetition with an end is taken
 * for one without by tokens that are too short to come there; the few long ones are tried as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "grammar_state.h"
#include "vocab.h"

/* Above SHALLOW open rules the bound on them may matter to a token: then nothing is kept. */
enum { NODES_MAX = 1 << 24, POOL = 16384, LONG_WALK = 4096, SHALLOW = LLM_GRAMMAR_DEPTH_MAX / 4, SHORT = 16 };
#define SHORT_ALONE (UINT64_C(1) << 63) /* in a key: only tokens of at most SHORT bytes were tried */

struct node {
    uint32_t end;  /* behind the last node below this one; its first child, if it has any, is the next node */
    int32_t token; /* -1: none ends here */
    uint8_t byte;
    uint8_t height; /* bytes that the longest token below goes on for */
};

struct llm_trie {
    const struct llm_vocab *vocab;
    struct node *nodes;
    uint32_t count;
    int32_t *same; /* [vocab->count] another token of the same bytes; -1: none */
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b, void *ctx)
{
    const struct vocab_token *x = &((const struct llm_vocab *)ctx)->tokens[*(const int32_t *)a];
    const struct vocab_token *y = &((const struct llm_vocab *)ctx)->tokens[*(const int32_t *)b];
    const int order = memcmp(x->text, y->text, BASE_MIN(x->text_len, y->text_len));

    if (order != 0 || x->text_len != y->text_len)
        return order != 0 ? order : x->text_len < y->text_len ? -1 : 1;
    return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1;
}

static bool is_text(const struct llm_vocab *v, int32_t id)
{
    const struct vocab_token *t = &v->tokens[id];

    return t->text_len > 0 && t->text_len <= LLM_GRAMMAR_TOKEN_BYTES && t->type != VOCAB_CONTROL &&
           t->type != VOCAB_UNKNOWN && t->type != VOCAB_UNUSED && !llm_vocab_is_eog(v, id);
}

static size_t common(const struct vocab_token *a, const struct vocab_token *b)
{
    size_t n = 0;

    while (n < a->text_len && n < b->text_len && a->text[n] == b->text[n])
        n++;
    return n;
}

/* Nodes of the sorted ids: the root, and those bytes of each that it does not share with the one before. */
static size_t nodes_needed(const struct llm_vocab *v, const int32_t *ids, size_t count)
{
    size_t n = 1;

    for (size_t i = 0; i < count; i++)
        n += v->tokens[ids[i]].text_len - (i > 0 ? common(&v->tokens[ids[i - 1]], &v->tokens[ids[i]]) : 0);
    return n;
}

static void fill(struct llm_trie *t, const int32_t *ids, size_t count)
{
    const struct llm_vocab *v = t->vocab;
    uint32_t path[LLM_GRAMMAR_TOKEN_BYTES + 1] = {0};
    size_t depth = 0;

    t->nodes[0] = (struct node){0, -1, 0, 0};
    t->count = 1;
    for (size_t i = 0; i < count; i++) {
        const struct vocab_token *token = &v->tokens[ids[i]];
        const size_t shared = i > 0 ? common(&v->tokens[ids[i - 1]], token) : 0;
        for (; depth > shared; depth--)
            t->nodes[path[depth]].end = t->count;
        for (; depth < token->text_len; depth++) {
            path[depth + 1] = t->count;
            t->nodes[t->count++] = (struct node){0, -1, (uint8_t)token->text[depth], 0};
        }
        for (size_t at = 0; at < depth; at++)
            t->nodes[path[at]].height = (uint8_t)BASE_MAX((size_t)t->nodes[path[at]].height, depth - at);
        struct node *last = &t->nodes[path[depth]];
        t->same[ids[i]] = last->token;
        last->token = ids[i];
    }
    for (size_t i = 0; i <= depth; i++)
        t->nodes[path[i]].end = t->count;
}

dbe_err llm_trie_new(const struct llm_vocab *v, struct llm_trie **ret)
{
    BASE_AUTO_FREE int32_t *ids = base_alloc(v->count, sizeof *ids);
    struct llm_trie *t = base_alloc(1, sizeof *t);
    size_t count = 0, nodes;

    if (!ids || !t) {
        llm_trie_free(t);
        return DBE_E_NOMEM;
    }
    for (size_t i = 0; i < v->count; i++)
        if (is_text(v, (int32_t)i))
            ids[count++] = (int32_t)i;
    qsort_r(ids, count, sizeof *ids, by_bytes, (void *)(uintptr_t)v);
    nodes = nodes_needed(v, ids, count);
    t->vocab = v;
    t->nodes = nodes <= NODES_MAX ? base_alloc(nodes, sizeof *t->nodes) : NULL;
    t->same = base_alloc(v->count, sizeof *t->same);
    if (!t->nodes || !t->same) {
        llm_trie_free(t);
        return nodes <= NODES_MAX ? DBE_E_NOMEM : DBE_E_TOO_LARGE;
    }
    fill(t, ids, count);
    *ret = t;
    return DBE_OK;
}

void llm_trie_free(struct llm_trie *t)
{
    if (!t)
        return;
    base_free(t->nodes);
    base_free(t->same);
    base_free(t);
}

/* ---- walking ----------------------------------------------------------------------------------------------------- */

struct walk {
    struct llm_grammar_state *s;
    const struct llm_trie *t;
    uint32_t *allowed;
    uint32_t n_vocab;
    struct grammar_config *pool; /* [POOL] configurations of the levels of the walk */
    uint32_t *exits;
    size_t exit_count, exit_cap, visited;
    unsigned longer, most; /* only tokens of more than `longer` bytes, and at most `most` */
    bool no_memory;
};

static void allow(struct walk *w, int32_t token)
{
    for (; token >= 0; token = w->t->same[token])
        if ((uint32_t)token < w->n_vocab)
            w->allowed[token / 32] |= 1u << token % 32;
}

static void note_exit(struct walk *w, uint32_t at)
{
    if (w->exit_count == w->exit_cap) {
        const size_t cap = w->exit_cap ? w->exit_cap * 2 : 256;
        uint32_t *moved = base_realloc(w->exits, cap, sizeof *moved);
        if (!moved) {
            w->no_memory = true;
            return;
        }
        w->exits = moved;
        w->exit_cap = cap;
    }
    w->exits[w->exit_count++] = at;
}

/* Below node `at` of the tree, `depth` bytes deep, from the configurations pool[begin..end). As deep as a token is long
 * at most. */
static void descend(struct walk *w, uint32_t at, unsigned depth, size_t begin, size_t end)
{
    const struct node *nodes = w->t->nodes;
    const uint32_t frames = w->s->frame_count;

    for (uint32_t child = at + 1; child < nodes[at].end; child = nodes[child].end) {
        struct grammar_reach r = {w->pool + end, 0, BASE_MIN(POOL - end, (size_t)GRAMMAR_CONFIGS_MAX), false, false};
        if (depth + 1 + nodes[child].height <= w->longer)
            continue;
        for (size_t i = begin; i < end; i++)
            grammar_step(w->s, w->pool[i], nodes[child].byte, &r);
        if (r.count > 0 || r.ended || r.left) {
            w->visited++;
            if (depth + 1 > w->longer)
                allow(w, nodes[child].token);
            if (r.left)
                note_exit(w, child);
            if (r.count > 0 && depth + 1 < w->most)
                descend(w, child, depth + 1, end, end + r.count);
        }
        grammar_forget(w->s, frames);
    }
}

/* For how many bytes a repetition certainly goes on, whatever they are; 0: it is none, or must still go on. */
static uint32_t certain(const struct llm_grammar_state *s, uint32_t stack)
{
    const struct grammar_frame *f = &s->frames[stack];
    const struct grammar_node *n = &s->g->nodes[f->ret];

    if (stack <= GRAMMAR_STACK_OPEN || f->count == GRAMMAR_CALLED || f->count < n->min)
        return 0;
    return n->max == GRAMMAR_MANY ? UINT32_MAX : n->max - f->count - 1;
}

static const struct grammar_cached *find(const struct llm_grammar_state *s, uint64_t key)
{
    for (size_t i = 0; i < GRAMMAR_CACHE_MAX; i++)
        if (s->cache[i].allowed && s->cache[i].key == key)
            return &s->cache[i];
    return NULL;
}

static void keep(struct walk *w, uint64_t key, const uint32_t *bits, size_t words)
{
    struct grammar_cached *c = &w->s->cache[w->s->cache_next];
    uint32_t *allowed = base_alloc(words, sizeof *allowed), *exits = base_alloc(w->exit_count + 1, sizeof *exits);

    if (!allowed || !exits) {
        base_free(allowed);
        base_free(exits);
        return; /* slower, not wrong */
    }
    memcpy(allowed, bits, words * sizeof *bits);
    if (w->exit_count > 0)
        memcpy(exits, w->exits, w->exit_count * sizeof *exits);
    base_free(c->allowed);
    base_free(c->exits);
    *c = (struct grammar_cached){key, allowed, exits, w->exit_count};
    w->s->cache_next = (w->s->cache_next + 1) % GRAMMAR_CACHE_MAX;
}

/* Allow what may follow at a node above `base`, which stands for whatever is below, from what was kept under `key` or
 * by a walk; then go on above `after` where the rule may be left. */
static void mask_node(struct walk *w, uint32_t node, uint32_t base, uint32_t after, uint64_t key, uint32_t *bits)
{
    struct llm_grammar_state *s = w->s;
    const size_t words = ((size_t)w->n_vocab + 31) / 32;
    const bool shallow = s->frames[after].depth <= SHALLOW && s->g->need_max <= SHALLOW;
    const struct grammar_cached *hit = shallow ? find(s, key) : NULL;
    uint32_t *const all = w->allowed;

    w->exit_count = 0;
    if (!hit) {
        memset(bits, 0, words * sizeof *bits);
        w->allowed = bits;
        w->visited = 0;
        w->pool[0] = (struct grammar_config){node, base};
        descend(w, 0, 0, 0, 1);
        w->allowed = all;
        if (shallow && w->visited >= BASE_MIN((size_t)LONG_WALK, w->t->count / 8) && !w->no_memory)
            keep(w, key, bits, words);
    }
    const uint32_t *from = hit ? hit->allowed : bits, *exits = hit ? hit->exits : w->exits;
    const size_t count = hit ? hit->exit_count : w->exit_count;
    struct grammar_reach r = {w->pool, 0, GRAMMAR_CONFIGS_MAX, false, false};
    for (size_t i = 0; i < words; i++)
        all[i] |= from[i];
    w->most = UINT32_MAX;
    grammar_reach(s, GRAMMAR_END, after, &r);
    for (size_t i = 0; i < count && r.count > 0; i++)
        descend(w, exits[i], 0, 0, r.count);
}

/* Allow what may follow one configuration. `bits` is room for a mask. */
static void mask_config(struct walk *w, struct grammar_config c, uint32_t *bits)
{
    struct llm_grammar_state *s = w->s;
    const uint32_t frames = s->frame_count, bytes = certain(s, c.stack);
    const bool far = bytes >= LLM_GRAMMAR_TOKEN_BYTES, some = !far && bytes >= SHORT;
    uint32_t after = c.stack, base = GRAMMAR_STACK_OPEN;
    uint64_t key = c.node;

    w->longer = 0;
    w->most = some ? SHORT : UINT32_MAX;
    if (far || some) {
        const struct grammar_frame f = s->frames[c.stack];
        s->frames[GRAMMAR_STACK_OPEN].depth = s->frames[f.below].depth;
        base = grammar_push(s, f.ret, GRAMMAR_STACK_OPEN, f.count);
        after = f.below;
        key |= (uint64_t)f.ret << 32 | (some ? SHORT_ALONE : 0);
        if (base == GRAMMAR_NONE)
            return;
    }
    s->frames[GRAMMAR_STACK_OPEN].depth = s->frames[after].depth;
    mask_node(w, c.node, base, after, key, bits);
    if (some) {
        w->longer = SHORT;
        w->pool[0] = c;
        descend(w, 0, 0, 0, 1);
    }
    grammar_forget(s, frames);
}

static void forget_cache(struct llm_grammar_state *s, const struct llm_trie *t)
{
    for (size_t i = 0; i < GRAMMAR_CACHE_MAX; i++) {
        base_free(s->cache[i].allowed);
        base_free(s->cache[i].exits);
        s->cache[i] = (struct grammar_cached){0};
    }
    s->trie = t;
}

dbe_err llm_grammar_mask(struct llm_grammar_state *s, const struct llm_trie *t, uint32_t n_vocab, uint32_t *allowed)
{
    const size_t words = ((size_t)n_vocab + 31) / 32;
    BASE_AUTO_FREE uint32_t *bits = base_alloc(words + 1, sizeof *bits);
    BASE_AUTO_FREE struct grammar_config *pool = base_alloc(POOL, sizeof *pool);
    struct walk w = {s, t, allowed, n_vocab, pool, NULL, 0, 0, 0, 0, UINT32_MAX, false};
    uint32_t some = 0;

    if (!bits || !pool)
        return DBE_E_NOMEM;
    if (s->trie != t)
        forget_cache(s, t);
    grammar_collect(s);
    memset(allowed, 0, words * sizeof *allowed);
    for (size_t i = 0; i < s->count; i++)
        mask_config(&w, s->configs[i], bits);
    base_free(w.exits);
    for (size_t i = 0; i < words; i++)
        some |= allowed[i];
    for (size_t i = 0; i < t->vocab->eog_count && (s->ended || some == 0); i++) {
        const int32_t id = t->vocab->eog[i];
        if (id >= 0 && (uint32_t)id < n_vocab)
            allowed[id / 32] |= 1u << id % 32;
    }
    return w.no_memory ? DBE_E_NOMEM : DBE_OK;
}
