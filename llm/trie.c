/* SPDX-License-Identifier: Apache-2.0
 *
 * trie.c - a vocabulary as a tree of bytes, and which of its tokens a grammar allows.
 *
 * The tree is walked together with the automaton, so that a prefix that cannot be ends the walk for all of its tokens.
 * Inside a string nearly every token is allowed and the walk is long. What follows there does not depend on what the
 * string is part of, but for tokens that leave it: so the result for a node is kept, with the places in the tree where
 * its rule may be left, and only from these the walk goes on above the real stack.
 *
 * In a repetition the result also depends on how often its body must and may still come. Tokens that are too short to
 * come to either bound cannot tell it from any other that is as far away; the few long ones are tried as they are.
 *
 * Results for a grammar's own nodes are kept with its state. Those for nodes that all grammars have, strings above all,
 * are kept with the tree, for all sessions of the model.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "grammar_state.h"
#include "vocab.h"

/* Above SHALLOW open rules the bound on them may matter to a token: then nothing is kept. */
enum { NODES_MAX = 1 << 24, POOL = 16384, LONG_WALK = 4096, SHALLOW = LLM_GRAMMAR_DEPTH_MAX / 4, SHORT = 16 };
enum { SHARED_MAX = 96 }; /* some 3 MiB with a vocabulary of 150,000 */

/* How far a bound of a repetition is: so many bodies, or not to be reached by short tokens, or by no token. */
enum { NEAR_MAX = SHORT - 1, MIDDLE, FAR };
#define COUNTED (UINT64_C(1) << 63) /* in a key: of a node in a repetition */
_Static_assert(LLM_GRAMMAR_NODES_MAX <= 1 << 16, "a key has 16 bits a node");

/* What all sessions keep. */
struct shared {
    pthread_mutex_t lock; /* of the others; held while a result is copied, not while one is made */
    struct grammar_cached cache[SHARED_MAX];
    uint64_t clock;
    uint32_t n_vocab; /* that the results are of */
};

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
    struct shared *shared;
};

static void forget(struct grammar_cached *cache, size_t max)
{
    for (size_t i = 0; i < max; i++) {
        base_free(cache[i].allowed);
        base_free(cache[i].exits);
        cache[i] = (struct grammar_cached){0};
    }
}

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
    t->shared = base_alloc(1, sizeof *t->shared);
    if (t->shared)
        pthread_mutex_init(&t->shared->lock, NULL);
    if (!t->nodes || !t->same || !t->shared) {
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
    if (t->shared) {
        forget(t->shared->cache, SHARED_MAX);
        pthread_mutex_destroy(&t->shared->lock);
        base_free(t->shared);
    }
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
    size_t words;                /* of a mask */
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

/* Room for `count` exits; false, and noted: there is no memory. */
static bool exits_room(struct walk *w, size_t count)
{
    const size_t cap = BASE_MAX(w->exit_cap ? w->exit_cap * 2 : 256, count);

    if (count > w->exit_cap) {
        uint32_t *moved = base_realloc(w->exits, cap, sizeof *moved);
        w->no_memory = w->no_memory || !moved;
        w->exits = moved ? moved : w->exits;
        w->exit_cap = moved ? cap : w->exit_cap;
    }
    return count <= w->exit_cap;
}

static void note_exit(struct walk *w, uint32_t at)
{
    if (exits_room(w, w->exit_count + 1))
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

/* ---- keeping ----------------------------------------------------------------------------------------------------- */

/* Add what is kept under `key`, with its exits; false: nothing is. */
static bool take_kept(struct walk *w, struct grammar_cached *cache, size_t max, uint64_t now, uint64_t key)
{
    size_t at = 0;

    while (at < max && !(cache[at].allowed && cache[at].key == key))
        at++;
    if (at == max || !exits_room(w, cache[at].exit_count))
        return false;
    for (size_t i = 0; i < w->words; i++)
        w->allowed[i] |= cache[at].allowed[i];
    if (cache[at].exit_count > 0) /* without any, there may be no room either */
        memcpy(w->exits, cache[at].exits, cache[at].exit_count * sizeof *w->exits);
    w->exit_count = cache[at].exit_count;
    cache[at].used = now;
    return true;
}

/* Keep a result, which goes where nothing is or what was not used for longest. */
static void keep(struct grammar_cached *cache, size_t max, struct grammar_cached made)
{
    struct grammar_cached *to = cache;

    for (size_t i = 0; i < max; i++) {
        if (cache[i].allowed && cache[i].key == made.key) {
            to = &cache[i]; /* another session was faster */
            break;
        }
        if (cache[i].used < to->used)
            to = &cache[i];
    }
    base_free(to->allowed);
    base_free(to->exits);
    *to = made;
}

static bool find_kept(struct walk *w, uint64_t key, bool common)
{
    struct llm_grammar_state *s = w->s;
    struct shared *all = w->t->shared;
    bool found;

    if (!common)
        return take_kept(w, s->cache, GRAMMAR_CACHE_MAX, ++s->cache_clock, key);
    pthread_mutex_lock(&all->lock);
    found = all->n_vocab == w->n_vocab && take_kept(w, all->cache, SHARED_MAX, ++all->clock, key);
    pthread_mutex_unlock(&all->lock);
    return found;
}

static void keep_walk(struct walk *w, uint64_t key, bool common, const uint32_t *bits)
{
    struct grammar_cached made = {key, 0, base_alloc(w->words, sizeof *bits), NULL, w->exit_count};
    struct shared *all = w->t->shared;

    made.exits = base_alloc(w->exit_count + 1, sizeof *made.exits);
    if (!made.allowed || !made.exits) {
        base_free(made.allowed);
        base_free(made.exits);
        return; /* slower, not wrong */
    }
    memcpy(made.allowed, bits, w->words * sizeof *bits);
    if (w->exit_count > 0)
        memcpy(made.exits, w->exits, w->exit_count * sizeof *made.exits);
    if (!common) {
        made.used = ++w->s->cache_clock;
        keep(w->s->cache, GRAMMAR_CACHE_MAX, made);
        return;
    }
    pthread_mutex_lock(&all->lock);
    if (all->n_vocab != w->n_vocab)
        forget(all->cache, SHARED_MAX);
    all->n_vocab = w->n_vocab;
    made.used = ++all->clock;
    keep(all->cache, SHARED_MAX, made);
    pthread_mutex_unlock(&all->lock);
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

/* Where a walk begins: a node above a frame of its own, which stands for whatever is below. */
struct place {
    uint32_t node, base, after; /* after: the real stack below the frame */
    uint64_t key;
    bool common; /* to all grammars */
};

/* Allow what may follow at a place, from what was kept or by a walk; then go on above `after` where the rule may be
 * left. */
static void mask_place(struct walk *w, struct place p, uint32_t *bits)
{
    struct llm_grammar_state *s = w->s;
    const bool shallow = s->frames[p.after].depth <= SHALLOW && s->g->need_max <= SHALLOW;
    uint32_t *const all = w->allowed;

    w->exit_count = 0;
    if (!shallow || !find_kept(w, p.key, p.common)) {
        memset(bits, 0, w->words * sizeof *bits);
        w->allowed = bits;
        w->visited = 0;
        w->pool[0] = (struct grammar_config){p.node, p.base};
        descend(w, 0, 0, 0, 1);
        w->allowed = all;
        if (shallow && w->visited >= BASE_MIN((size_t)LONG_WALK, w->t->count / 8) && !w->no_memory)
            keep_walk(w, p.key, p.common, bits);
        for (size_t i = 0; i < w->words; i++)
            all[i] |= bits[i];
    }
    struct grammar_reach r = {w->pool, 0, GRAMMAR_CONFIGS_MAX, false, false};
    const size_t count = w->exit_count;
    w->most = UINT32_MAX;
    grammar_reach(s, GRAMMAR_END, p.after, &r);
    for (size_t i = 0; i < count && r.count > 0; i++)
        descend(w, w->exits[i], 0, 0, r.count);
}

static unsigned distance(uint32_t bodies)
{
    return bodies <= NEAR_MAX ? bodies : bodies < LLM_GRAMMAR_TOKEN_BYTES ? MIDDLE : FAR;
}

/* Allow what may follow one configuration. `bits` is room for a mask. */
static void mask_config(struct walk *w, struct grammar_config c, uint32_t *bits)
{
    struct llm_grammar_state *s = w->s;
    const uint32_t frames = s->frame_count, common = s->g->common;
    const struct grammar_frame f = s->frames[c.stack];
    const bool counted = c.stack > GRAMMAR_STACK_OPEN && f.count != GRAMMAR_CALLED;
    const struct grammar_node *n = counted ? &s->g->nodes[f.ret] : NULL;
    struct place p = {c.node, GRAMMAR_STACK_OPEN, c.stack, c.node, c.node < common};
    bool middle = false;

    /* in a rule that all grammars have, within a body that is this one's: the repetition goes on behind that rule */
    if (n && (c.node < common) == (n->a < common)) {
        const unsigned must = distance(f.count + 1 < n->min ? n->min - f.count - 1 : 0);
        const unsigned may = n->max == GRAMMAR_MANY ? FAR : distance(n->max - f.count - 1);
        middle = must == MIDDLE || may == MIDDLE;
        p.after = f.below;
        s->frames[GRAMMAR_STACK_OPEN].depth = s->frames[f.below].depth;
        p.base = grammar_push(s, f.ret, GRAMMAR_STACK_OPEN, f.count);
        p.key |= (uint64_t)n->a << 16 | (uint64_t)n->b << 32 | (uint64_t)must << 48 | (uint64_t)may << 53 | COUNTED;
        p.common = p.common && n->a < common && n->b < common;
        if (p.base == GRAMMAR_NONE)
            return;
    }
    s->frames[GRAMMAR_STACK_OPEN].depth = s->frames[p.after].depth;
    w->longer = 0;
    w->most = middle ? SHORT : UINT32_MAX;
    mask_place(w, p, bits);
    if (middle) {
        w->longer = SHORT;
        w->pool[0] = c;
        descend(w, 0, 0, 0, 1);
    }
    grammar_forget(s, frames);
}

dbe_err llm_grammar_mask(struct llm_grammar_state *s, const struct llm_trie *t, uint32_t n_vocab, uint32_t *allowed)
{
    const size_t words = ((size_t)n_vocab + 31) / 32;
    BASE_AUTO_FREE uint32_t *bits = base_alloc(words + 1, sizeof *bits);
    BASE_AUTO_FREE struct grammar_config *pool = base_alloc(POOL, sizeof *pool);
    struct walk w = {s, t, allowed, n_vocab, words, pool, NULL, 0, 0, 0, 0, UINT32_MAX, false};
    uint32_t some = 0;

    if (!bits || !pool)
        return DBE_E_NOMEM;
    if (s->trie != t)
        forget(s->cache, GRAMMAR_CACHE_MAX);
    s->trie = t;
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
