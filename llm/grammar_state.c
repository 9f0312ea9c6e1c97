/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_state.c - runs an automaton over bytes. All ways are followed at once; open rules are a tree of frames that
 * the ways share.
 *
 * A way is followed only where it can still come to its end below the bound on open rules: each node knows how many it
 * needs for that, so a text always closes properly, however deep it went.
 */
#include "grammar_state.h"

#include <string.h>

#include "base/base.h"

enum { REACH_MAX = 4096, TODO_MAX = 1024 };

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static uint32_t slots_of(const struct llm_grammar_state *s)
{
    return s->frame_cap * 2; /* a power of two */
}

static uint32_t slot_of(const struct llm_grammar_state *s, const struct grammar_frame *f)
{
    uint32_t h = f->ret * 0x9e3779b1u ^ f->below * 0x85ebca6bu ^ f->count * 0xc2b2ae35u;

    h ^= h >> 15;
    return h * 0x2c1b3c6du >> 8 & (slots_of(s) - 1);
}

/* The slot of an equal frame, or the free one for it. */
static uint32_t find_slot(const struct llm_grammar_state *s, const struct grammar_frame *f)
{
    uint32_t at = slot_of(s, f);

    for (; s->slots[at] != 0; at = (at + 1) & (slots_of(s) - 1)) {
        const struct grammar_frame *there = &s->frames[s->slots[at]];
        if (there->ret == f->ret && there->below == f->below && there->count == f->count)
            break;
    }
    return at;
}

/* Room for `cap` frames, a power of two; what there is keeps its numbers. */
static bool make_room(struct llm_grammar_state *s, uint32_t cap)
{
    struct grammar_frame *frames = base_realloc(s->frames, cap, sizeof *frames);
    uint32_t *slots = base_alloc((size_t)cap * 2, sizeof *slots);

    s->frames = frames ? frames : s->frames;
    if (!frames || !slots) {
        base_free(slots);
        return false;
    }
    base_free(s->slots);
    s->slots = slots;
    s->frame_cap = cap;
    for (uint32_t i = 2; i < s->frame_count; i++)
        slots[find_slot(s, &frames[i])] = i;
    return true;
}

uint32_t grammar_push(struct llm_grammar_state *s, uint32_t ret, uint32_t below, uint32_t count)
{
    const struct grammar_frame f = {ret, below, count, s->frames[below].depth + 1};
    uint32_t at = find_slot(s, &f);

    if (s->slots[at] != 0)
        return s->slots[at];
    if (s->frame_count == GRAMMAR_FRAMES_MAX || s->frames[below].depth >= LLM_GRAMMAR_DEPTH_MAX)
        return GRAMMAR_NONE;
    if (s->frame_count == s->frame_cap) {
        if (!make_room(s, s->frame_cap * 2)) {
            s->err = DBE_E_NOMEM;
            return GRAMMAR_NONE;
        }
        at = find_slot(s, &f);
    }
    s->frames[s->frame_count] = f;
    s->slots[at] = s->frame_count;
    return s->frame_count++;
}

void grammar_forget(struct llm_grammar_state *s, uint32_t count)
{
    while (s->frame_count > count) {
        const uint32_t last = --s->frame_count;
        uint32_t at = slot_of(s, &s->frames[last]);
        while (s->slots[at] != last)
            at = (at + 1) & (slots_of(s) - 1);
        s->slots[at] = 0; /* the last that was put in: nothing stands behind it on its way */
    }
}

void grammar_collect(struct llm_grammar_state *s)
{
    uint32_t moved[GRAMMAR_FRAMES_MAX]; /* of those up to `before` */
    const uint32_t before = s->frame_count;

    if (before < s->collect_at)
        return;
    memset(moved, 0, before * sizeof *moved);
    for (size_t i = 0; i < s->count; i++)
        moved[s->configs[i].stack] = 1;
    for (uint32_t i = before; i-- > 2;)
        if (moved[i])
            moved[s->frames[i].below] = 1;
    grammar_forget(s, 2); /* they stand there still */
    moved[GRAMMAR_STACK_END] = GRAMMAR_STACK_END;
    moved[GRAMMAR_STACK_OPEN] = GRAMMAR_STACK_OPEN;
    for (uint32_t i = 2; i < before; i++)
        if (moved[i]) {
            const struct grammar_frame f = s->frames[i]; /* goes to a place before or at its own */
            moved[i] = grammar_push(s, f.ret, moved[f.below], f.count);
        }
    for (size_t i = 0; i < s->count; i++)
        s->configs[i].stack = moved[s->configs[i].stack];
    s->collect_at =
        BASE_MIN(BASE_MAX(s->frame_count * 2, (uint32_t)GRAMMAR_FRAMES_FIRST), (uint32_t)GRAMMAR_FRAMES_MAX / 2);
}

/* ---- ways -------------------------------------------------------------------------------------------------------- */

struct todo {
    struct grammar_config list[TODO_MAX];
    size_t count;
};

static void later(struct todo *todo, uint32_t node, uint32_t stack)
{
    if (todo->count < TODO_MAX)
        todo->list[todo->count++] = (struct grammar_config){node, stack};
}

/* Is there a way from this node to the end of its rule, above this stack? */
static bool can_close(const struct llm_grammar_state *s, uint32_t node, uint32_t stack)
{
    return s->frames[stack].depth + s->g->nodes[node].need <= LLM_GRAMMAR_DEPTH_MAX;
}

/* A move, and looking through `count` things. False: there was one too many. */
static bool spend(struct llm_grammar_state *s, size_t count)
{
    const uint32_t moves = 1 + (uint32_t)count / 8;

    if (s->moves <= moves) {
        s->err = s->err != DBE_OK ? s->err : DBE_E_TOO_LARGE;
        s->moves = 0;
        return false;
    }
    s->moves -= moves;
    return true;
}

static void arrive(struct llm_grammar_state *s, struct grammar_reach *r, uint32_t node, uint32_t stack)
{
    if (!can_close(s, node, stack) || !spend(s, r->count))
        return;
    for (size_t i = 0; i < r->count; i++)
        if (r->out[i].node == node && r->out[i].stack == stack)
            return;
    if (r->count < r->max)
        r->out[r->count++] = (struct grammar_config){node, stack};
}

/* At a repetition whose body was complete `count` times: the node to go on with, and `*stack` of it. */
static uint32_t again(struct llm_grammar_state *s, uint32_t node, uint32_t count, uint32_t *stack, struct todo *todo)
{
    const struct grammar_node *n = &s->g->nodes[node];

    if (count >= n->min)
        later(todo, n->b, *stack);
    if (count >= n->max || !can_close(s, n->b, *stack))
        return GRAMMAR_NONE;
    *stack = grammar_push(s, node, *stack, n->max == GRAMMAR_MANY ? BASE_MIN(count, n->min) : count);
    return *stack == GRAMMAR_NONE ? GRAMMAR_NONE : n->a;
}

/* One step without a byte; GRAMMAR_NONE: this way is at its end. */
static uint32_t move(struct llm_grammar_state *s, uint32_t node, uint32_t *stack, struct grammar_reach *r,
                     struct todo *todo)
{
    const struct grammar_node *n = &s->g->nodes[node];

    switch (n->kind) {
    case GRAMMAR_SET:
    case GRAMMAR_TABLE: arrive(s, r, node, *stack); return GRAMMAR_NONE;
    case GRAMMAR_SPLIT: later(todo, n->b, *stack); return n->a;
    case GRAMMAR_JUMP: return n->a;
    case GRAMMAR_CALL:
        if (!can_close(s, n->b, *stack))
            return GRAMMAR_NONE;
        if (n->b != GRAMMAR_END) /* else whoever called this rule is who the called one returns to */
            *stack = grammar_push(s, n->b, *stack, GRAMMAR_CALLED);
        return *stack == GRAMMAR_NONE ? GRAMMAR_NONE : n->a;
    case GRAMMAR_REPEAT: return again(s, node, 0, stack, todo);
    default: break;
    }
    if (*stack == GRAMMAR_STACK_END || *stack == GRAMMAR_STACK_OPEN) {
        *(*stack == GRAMMAR_STACK_END ? &r->ended : &r->left) = true;
        return GRAMMAR_NONE;
    }
    const struct grammar_frame f = s->frames[*stack];
    *stack = f.below;
    return f.count == GRAMMAR_CALLED ? f.ret : again(s, f.ret, f.count + 1, stack, todo);
}

void grammar_reach(struct llm_grammar_state *s, uint32_t node, uint32_t stack, struct grammar_reach *r)
{
    const uint32_t kind = s->g->nodes[node].kind;
    struct todo todo;

    if (kind == GRAMMAR_SET || kind == GRAMMAR_TABLE) {
        arrive(s, r, node, stack);
        return;
    }
    todo.count = 0;
    for (unsigned budget = REACH_MAX; budget > 0 && spend(s, 0); budget--) {
        node = move(s, node, &stack, r, &todo);
        if (node != GRAMMAR_NONE)
            continue;
        if (todo.count == 0)
            return;
        todo.count--;
        node = todo.list[todo.count].node;
        stack = todo.list[todo.count].stack;
    }
}

void grammar_step(struct llm_grammar_state *s, struct grammar_config c, uint8_t byte, struct grammar_reach *r)
{
    const struct grammar_node *n = &s->g->nodes[c.node];

    if (n->kind == GRAMMAR_SET) {
        if (s->g->sets[n->b].bits[byte / 8] >> byte % 8 & 1)
            grammar_reach(s, n->a, c.stack, r);
    } else if (s->g->tables[n->b][byte] != GRAMMAR_NONE) {
        grammar_reach(s, s->g->tables[n->b][byte], c.stack, r);
    }
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

dbe_err llm_grammar_state_new(const struct llm_grammar *g, struct llm_grammar_state **ret)
{
    struct llm_grammar_state *s = base_alloc(1, sizeof *s);
    struct grammar_reach r;

    if (!s || !make_room(s, GRAMMAR_FRAMES_FIRST)) {
        llm_grammar_state_free(s);
        return DBE_E_NOMEM;
    }
    s->g = g;
    memset(s->frames, 0, 2 * sizeof *s->frames); /* of the two stacks that are none */
    s->frame_count = 2;
    s->collect_at = GRAMMAR_FRAMES_FIRST;
    s->moves = GRAMMAR_MOVES_SAVED;
    r = (struct grammar_reach){s->configs, 0, GRAMMAR_CONFIGS_MAX, false, false};
    grammar_reach(s, g->start, GRAMMAR_STACK_END, &r);
    if (s->err != DBE_OK) {
        const dbe_err err = s->err;
        llm_grammar_state_free(s);
        return err;
    }
    s->count = r.count;
    s->ended = r.ended;
    *ret = s;
    return DBE_OK;
}

void llm_grammar_state_free(struct llm_grammar_state *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < GRAMMAR_CACHE_MAX; i++) {
        base_free(s->cache[i].allowed);
        base_free(s->cache[i].exits);
    }
    base_free(s->room.pool);
    base_free(s->room.exits);
    base_free(s->room.bits);
    base_free(s->frames);
    base_free(s->slots);
    base_free(s);
}

dbe_err llm_grammar_state_copy(struct llm_grammar_state *s, const struct llm_grammar_state *from)
{
    if (s->frame_cap != from->frame_cap && !make_room(s, BASE_MAX(s->frame_cap, from->frame_cap)))
        return DBE_E_NOMEM;
    memcpy(s->configs, from->configs, from->count * sizeof *s->configs);
    s->count = from->count;
    s->ended = from->ended;
    s->err = from->err;
    s->moves = from->moves;
    grammar_forget(s, 2);
    memcpy(s->frames, from->frames, from->frame_count * sizeof *s->frames);
    for (; s->frame_count < from->frame_count; s->frame_count++)
        s->slots[find_slot(s, &s->frames[s->frame_count])] = s->frame_count;
    s->collect_at = from->collect_at;
    return DBE_OK;
}

bool llm_grammar_accept(struct llm_grammar_state *s, const char *bytes, size_t len)
{
    struct grammar_config lists[2][GRAMMAR_CONFIGS_MAX];
    const struct grammar_config *from = s->configs;
    struct grammar_reach r = {lists[0], s->count, GRAMMAR_CONFIGS_MAX, s->ended, false};
    uint32_t frames;

    grammar_collect(s);
    frames = s->frame_count;
    for (size_t i = 0; i < len; i++) {
        const size_t count = r.count;
        r = (struct grammar_reach){lists[i % 2], 0, GRAMMAR_CONFIGS_MAX, false, false};
        for (size_t c = 0; c < count; c++)
            grammar_step(s, from[c], (uint8_t)bytes[i], &r);
        if (r.count == 0 && (!r.ended || i + 1 < len) && s->err == DBE_OK) {
            grammar_forget(s, frames);
            return false;
        }
        from = r.out;
    }
    if (len > 0)
        memcpy(s->configs, from, r.count * sizeof *from);
    s->count = r.count;
    s->ended = r.ended;
    return true;
}

bool llm_grammar_can_end(const struct llm_grammar_state *s)
{
    return s->ended && s->err == DBE_OK;
}

bool llm_grammar_is_over(const struct llm_grammar_state *s)
{
    return s->ended && s->count == 0 && s->err == DBE_OK;
}

dbe_err llm_grammar_state_err(const struct llm_grammar_state *s)
{
    return s->err;
}
