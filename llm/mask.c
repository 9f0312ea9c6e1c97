/* SPDX-License-Identifier: Apache-2.0
 *
 * mask.c - which tokens of a vocabulary a grammar allows.
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
#include <string.h>

#include "base/base.h"
#include "trie.h"

/* Above SHALLOW open rules the bound on them may matter to a token: then nothing is kept. */
enum { POOL = 16384, LONG_WALK = 4096, SHALLOW = LLM_GRAMMAR_DEPTH_MAX / 4, SHORT = 16 };
enum { EXITS_FIRST = 64 };
/* How far a bound of a repetition is: so many bodies, or not to be reached by short tokens, or by no token. */
enum { NEAR_MAX = SHORT - 1, MIDDLE, FAR };
#define COUNTED (UINT64_C(1) << 63) /* in a key: of a node in a repetition */
_Static_assert(LLM_GRAMMAR_NODES_MAX <= 1 << 16, "a key has 16 bits a node");

/* ---- walking ----------------------------------------------------------------------------------------------------- */

struct walk {
    struct llm_grammar_state *s;
    const struct llm_trie *t;
    struct grammar_room *room;
    uint32_t *allowed;
    uint32_t n_vocab;
    size_t words; /* of a mask */
    size_t exit_count, visited;
    unsigned longer, most; /* only tokens of more than `longer` bytes, and at most `most` */
    bool no_memory;
};

static void allow(struct walk *w, int32_t token)
{
    for (; token >= 0; token = w->t->same[token])
        if ((uint32_t)token < w->n_vocab)
            w->allowed[token / 32] |= 1u << token % 32;
}

/* Room for `count` of `*list`, which has `*cap`; false, and noted: there is no memory. */
static bool grow(struct walk *w, void **list, size_t *cap, size_t count, size_t size)
{
    const size_t more = BASE_MAX(*cap * 2, count);

    if (count > *cap) {
        void *moved = base_realloc(*list, more, size);
        w->no_memory = w->no_memory || !moved;
        *list = moved ? moved : *list;
        *cap = moved ? more : *cap;
    }
    return count <= *cap;
}

static bool exits_room(struct walk *w, size_t count)
{
    struct grammar_room *r = w->room;
    void *list = r->exits;
    const bool there = grow(w, &list, &r->exit_cap, count, sizeof *r->exits);

    r->exits = list;
    return there;
}

/* Room behind pool[from) for whatever a step may reach. */
static bool pool_room(struct walk *w, size_t from)
{
    struct grammar_room *r = w->room;
    void *list = r->pool;
    const bool there =
        grow(w, &list, &r->pool_cap, BASE_MIN(from + GRAMMAR_CONFIGS_MAX, (size_t)POOL), sizeof *r->pool);

    r->pool = list;
    return there;
}

static void note_exit(struct walk *w, uint32_t at)
{
    if (exits_room(w, w->exit_count + 1))
        w->room->exits[w->exit_count++] = at;
}

/* Below node `at` of the tree, `depth` bytes deep, from the configurations pool[begin..end). As deep as a token is long
 * at most. */
static void descend(struct walk *w, uint32_t at, unsigned depth, size_t begin, size_t end)
{
    const struct trie_node *nodes = w->t->nodes;
    const uint32_t frames = w->s->frame_count;

    if (!pool_room(w, end))
        return;
    for (uint32_t child = at + 1; child < nodes[at].end && w->s->err == DBE_OK; child = nodes[child].end) {
        struct grammar_config *const pool = w->room->pool; /* levels below may have moved it */
        struct grammar_reach r = {pool + end, 0, BASE_MIN(POOL - end, (size_t)GRAMMAR_CONFIGS_MAX), false, false};
        if (depth + 1 + nodes[child].height <= w->longer)
            continue;
        for (size_t i = begin; i < end; i++)
            grammar_step(w->s, pool[i], nodes[child].byte, &r);
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
    memcpy(w->room->exits, cache[at].exits, cache[at].exit_count * sizeof *w->room->exits);
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
    struct trie_shared *all = w->t->shared;
    bool found;

    if (!common)
        return take_kept(w, s->cache, GRAMMAR_CACHE_MAX, ++s->cache_clock, key);
    pthread_mutex_lock(&all->lock);
    found = all->n_vocab == w->n_vocab && take_kept(w, all->cache, TRIE_SHARED_MAX, ++all->clock, key);
    pthread_mutex_unlock(&all->lock);
    return found;
}

static void keep_walk(struct walk *w, uint64_t key, bool common)
{
    struct grammar_cached made = {key, 0, base_alloc(w->words, sizeof *made.allowed), NULL, w->exit_count};
    struct trie_shared *all = w->t->shared;

    made.exits = base_alloc(w->exit_count + 1, sizeof *made.exits);
    if (!made.allowed || !made.exits) {
        base_free(made.allowed);
        base_free(made.exits);
        return; /* slower, not wrong */
    }
    memcpy(made.allowed, w->room->bits, w->words * sizeof *made.allowed);
    memcpy(made.exits, w->room->exits, w->exit_count * sizeof *made.exits);
    if (!common) {
        made.used = ++w->s->cache_clock;
        keep(w->s->cache, GRAMMAR_CACHE_MAX, made);
        return;
    }
    pthread_mutex_lock(&all->lock);
    if (all->n_vocab != w->n_vocab)
        trie_forget(all->cache, TRIE_SHARED_MAX);
    all->n_vocab = w->n_vocab;
    made.used = ++all->clock;
    keep(all->cache, TRIE_SHARED_MAX, made);
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
static void mask_place(struct walk *w, struct place p)
{
    struct llm_grammar_state *s = w->s;
    uint32_t *const bits = w->room->bits;
    const bool shallow = s->frames[p.after].depth <= SHALLOW && s->g->need_max <= SHALLOW;
    uint32_t *const all = w->allowed;

    w->exit_count = 0;
    if (!shallow || !find_kept(w, p.key, p.common)) {
        memset(bits, 0, w->words * sizeof *bits);
        w->allowed = bits;
        w->visited = 0;
        w->room->pool[0] = (struct grammar_config){p.node, p.base};
        descend(w, 0, 0, 0, 1);
        w->allowed = all;
        if (shallow && w->visited >= BASE_MIN((size_t)LONG_WALK, w->t->count / 8) && !w->no_memory && s->err == DBE_OK)
            keep_walk(w, p.key, p.common);
        for (size_t i = 0; i < w->words; i++)
            all[i] |= bits[i];
    }
    struct grammar_reach r = {w->room->pool, 0, GRAMMAR_CONFIGS_MAX, false, false};
    const size_t count = w->exit_count;
    w->most = UINT32_MAX;
    grammar_reach(s, GRAMMAR_END, p.after, &r);
    for (size_t i = 0; i < count && r.count > 0; i++)
        descend(w, w->room->exits[i], 0, 0, r.count);
}

static unsigned distance(uint32_t bodies)
{
    return bodies <= NEAR_MAX ? bodies : bodies < LLM_GRAMMAR_TOKEN_BYTES ? MIDDLE : FAR;
}

/* Allow what may follow one configuration. */
static void mask_config(struct walk *w, struct grammar_config c)
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
    mask_place(w, p);
    if (middle) {
        w->longer = SHORT;
        w->room->pool[0] = c;
        descend(w, 0, 0, 0, 1);
    }
    grammar_forget(s, frames);
}

/* Room for a mask and for the first level of a walk. */
static dbe_err make_room(struct walk *w)
{
    struct grammar_room *room = w->room;

    if (room->words < w->words + 1) {
        uint32_t *bits = base_realloc(room->bits, w->words + 1, sizeof *bits);
        if (!bits)
            return DBE_E_NOMEM;
        room->bits = bits;
        room->words = w->words + 1;
    }
    return pool_room(w, 1) && exits_room(w, EXITS_FIRST) ? DBE_OK : DBE_E_NOMEM;
}

dbe_err llm_grammar_mask(struct llm_grammar_state *s, const struct llm_trie *t, uint32_t n_vocab, uint32_t *allowed)
{
    const size_t words = ((size_t)n_vocab + 31) / 32;
    struct walk w = {s, t, &s->room, allowed, n_vocab, words, 0, 0, 0, UINT32_MAX, false};
    uint32_t some = 0;

    DBE_TRY(make_room(&w));
    if (s->trie != t)
        trie_forget(s->cache, GRAMMAR_CACHE_MAX);
    s->trie = t;
    s->moves = BASE_MIN(s->moves + GRAMMAR_MOVES_TOKEN, (uint32_t)GRAMMAR_MOVES_SAVED);
    grammar_collect(s);
    memset(allowed, 0, words * sizeof *allowed);
    for (size_t i = 0; i < s->count; i++)
        mask_config(&w, s->configs[i]);
    for (size_t i = 0; i < words; i++)
        some |= allowed[i];
    for (size_t i = 0; i < t->vocab->eog_count && (s->ended || some == 0); i++) {
        const int32_t id = t->vocab->eog[i];
        if (id >= 0 && (uint32_t)id < n_vocab)
            allowed[id / 32] |= 1u << id % 32;
    }
    return w.no_memory ? DBE_E_NOMEM : s->err;
}
