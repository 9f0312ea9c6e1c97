/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_check.c - whether an automaton can be run: each part comes to an end, none leads to itself without a byte,
 * and what it demands is not too deep. Then jumps are taken out of it.
 *
 * In:   an automaton as it was put together, from a hostile schema maybe. Out: one without jumps, with what each node
 *       needs to its rule's end.
 */
#include "base/base.h"
#include "grammar_build.h"

enum { PASSES_MAX = 300, DONE = 9 };

/* Open rules that the way behind a node needs, by what its neighbours are known to need; GRAMMAR_NONE: there is no end.
 */
static uint32_t need_of(const struct llm_grammar *g, const struct grammar_node *n)
{
    const struct grammar_node *nodes = g->nodes;
    uint32_t need = GRAMMAR_NONE;

    switch (n->kind) {
    case GRAMMAR_RETURN: return 0;
    case GRAMMAR_TABLE:
        for (size_t c = 0; c < 256; c++)
            if (g->tables[n->b][c] != GRAMMAR_NONE)
                need = BASE_MIN(need, nodes[g->tables[n->b][c]].need);
        return need;
    case GRAMMAR_SPLIT: return BASE_MIN(nodes[n->a].need, nodes[n->b].need);
    case GRAMMAR_CALL:
        if (n->b == GRAMMAR_END) /* does not open one, see grammar_state.c */
            return nodes[n->a].need;
        break;
    case GRAMMAR_REPEAT:
        if (n->min == 0)
            return nodes[n->b].need;
        break;
    default: return n->a != GRAMMAR_NONE ? nodes[n->a].need : GRAMMAR_NONE;
    }
    if (nodes[n->a].need == GRAMMAR_NONE || nodes[n->b].need == GRAMMAR_NONE)
        return GRAMMAR_NONE;
    return BASE_MAX(nodes[n->a].need + 1, nodes[n->b].need);
}

/* Each node must come to an end somehow. Nodes are built from the back, so few passes find what they need; should these
 * not be enough, nodes are known to need no more than they have. */
static bool all_end(struct llm_grammar *g)
{
    bool changed = true, all = true;

    for (uint32_t i = 0; i < g->node_count; i++)
        g->nodes[i].need = GRAMMAR_NONE;
    for (unsigned pass = 0; pass < PASSES_MAX && changed; pass++) {
        changed = false;
        for (uint32_t i = 0; i < g->node_count; i++) {
            const uint32_t need = need_of(g, &g->nodes[i]);
            changed = changed || need < g->nodes[i].need;
            g->nodes[i].need = need;
        }
    }
    for (uint32_t i = 0; i < g->node_count; i++) {
        all = all && g->nodes[i].need != GRAMMAR_NONE;
        g->need_max = BASE_MAX(g->need_max, g->nodes[i].need);
    }
    return all;
}

/* What follows a node without a byte; how many. No rule is empty, so what follows a call does not. */
static size_t without_byte(const struct grammar_node *n, uint32_t out[2])
{
    out[0] = n->a;
    out[1] = n->b;
    switch (n->kind) {
    case GRAMMAR_SPLIT: return 2;
    case GRAMMAR_REPEAT: return n->min == 0 ? 2 : 1;
    case GRAMMAR_JUMP:
    case GRAMMAR_CALL: return 1;
    default: return 0;
    }
}

/* No node leads to itself without a byte. `todo` has room for all nodes; depth first, a node's state: 0 not seen, n
 * open and at its n-th way, DONE. */
static bool is_cycle_free(const struct llm_grammar *g, uint8_t *state, uint32_t *todo)
{
    for (uint32_t root = 0; root < g->node_count; root++) {
        size_t depth = 0;
        if (state[root] == 0) {
            todo[depth++] = root;
            state[root] = 1;
        }
        while (depth > 0) {
            const uint32_t at = todo[depth - 1];
            uint32_t ways[2];
            const size_t count = without_byte(&g->nodes[at], ways);
            if ((size_t)state[at] > count) {
                state[at] = DONE;
                depth--;
                continue;
            }
            const uint32_t way = ways[state[at]++ - 1];
            if (state[way] != 0 && state[way] != DONE)
                return false;
            if (state[way] == 0) {
                todo[depth++] = way;
                state[way] = 1;
            }
        }
    }
    return true;
}

static uint32_t behind_jumps(const struct llm_grammar *g, uint32_t node)
{
    while (node != GRAMMAR_NONE && g->nodes[node].kind == GRAMMAR_JUMP)
        node = g->nodes[node].a;
    return node;
}

/* Let nothing lead to a jump any more. There is no cycle of them, and none that leads nowhere. */
static void skip_jumps(struct llm_grammar *g)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        struct grammar_node *n = &g->nodes[i];
        n->a = behind_jumps(g, n->a);
        if (n->kind == GRAMMAR_SPLIT || n->kind == GRAMMAR_CALL || n->kind == GRAMMAR_REPEAT)
            n->b = behind_jumps(g, n->b);
    }
    for (uint32_t t = 0; t < g->table_count; t++)
        for (size_t c = 0; c < 256; c++)
            g->tables[t][c] = behind_jumps(g, g->tables[t][c]);
}

dbe_err grammar_check(struct llm_grammar *g, uint32_t start, struct dbe_diag *diag)
{
    BASE_AUTO_FREE uint8_t *marks = base_alloc(g->node_count, sizeof *marks);
    BASE_AUTO_FREE uint32_t *todo = base_alloc(g->node_count, sizeof *todo);

    if (!marks || !todo)
        return dbe_fail(diag, DBE_E_NOMEM, "grammar", 0, "no memory for a grammar");
    if (!all_end(g))
        return dbe_fail(diag, DBE_E_ARGUMENT, "grammar", 0, "a part of the schema can never be completed");
    if (!is_cycle_free(g, marks, todo))
        return dbe_fail(diag, DBE_E_ARGUMENT, "grammar", 0, "a part of the schema leads to nothing but itself");
    if (g->nodes[start].need > LLM_GRAMMAR_DEPTH_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "grammar", 0, "what the schema demands is too deep");
    skip_jumps(g);
    return DBE_OK;
}
