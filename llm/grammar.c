/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar.c - puts automata together, node by node.
 *
 * In:   what should follow what. Out: a grammar that is checked.
 * Not:  no JSON (grammar_json.c), no schema (schema.c), no checks (grammar_check.c); how an automaton runs is in
 *       grammar_state.c.
 */
#include "grammar.h"

#include <string.h>

#include "base/base.h"
#include "grammar_build.h"

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void fail(struct grammar_builder *b, dbe_err err, const char *text)
{
    if (b->err == DBE_OK)
        b->err = dbe_fail(b->diag, err, "grammar", 0, "%s", text);
}

/* Room for one more of `*count` things; false: there is none. */
static bool room(struct grammar_builder *b, void **list, uint32_t count, uint32_t *cap, uint32_t max, size_t size)
{
    uint32_t more = *cap > 0 ? BASE_MIN(*cap * 2, max) : 64;
    void *moved;

    if (b->err != DBE_OK || count < *cap)
        return b->err == DBE_OK;
    if (count >= max) {
        fail(b, DBE_E_TOO_LARGE, "the grammar is too large");
        return false;
    }
    moved = base_realloc(*list, more, size);
    if (!moved) {
        fail(b, DBE_E_NOMEM, "no memory for a grammar");
        return false;
    }
    *list = moved;
    *cap = more;
    return true;
}

static uint32_t add(struct grammar_builder *b, struct grammar_node node)
{
    struct llm_grammar *g = b->g;

    if (!room(b, (void **)&g->nodes, g->node_count, &g->node_cap, LLM_GRAMMAR_NODES_MAX, sizeof *g->nodes))
        return GRAMMAR_END;
    g->nodes[g->node_count] = node;
    return g->node_count++;
}

static uint32_t of_set(struct grammar_builder *b, const struct grammar_set *set, uint32_t next)
{
    struct llm_grammar *g = b->g;
    uint32_t at = 0;

    while (at < g->set_count && memcmp(&g->sets[at], set, sizeof *set) != 0)
        at++;
    if (at == g->set_count) {
        if (!room(b, (void **)&g->sets, g->set_count, &g->set_cap, LLM_GRAMMAR_SETS_MAX, sizeof *g->sets))
            return GRAMMAR_END;
        g->sets[g->set_count++] = *set;
    }
    return add(b, (struct grammar_node){.kind = GRAMMAR_SET, .a = next, .b = at});
}

uint32_t grammar_range(struct grammar_builder *b, uint8_t low, uint8_t high, uint32_t next)
{
    struct grammar_set set = {{0}};

    for (unsigned c = low; c <= high; c++)
        set.bits[c / 8] |= (uint8_t)(1u << c % 8);
    return of_set(b, &set, next);
}

uint32_t grammar_chars(struct grammar_builder *b, const char *chars, uint32_t next)
{
    struct grammar_set set = {{0}};

    for (const uint8_t *c = (const uint8_t *)chars; *c; c++)
        set.bits[*c / 8] |= (uint8_t)(1u << *c % 8);
    return of_set(b, &set, next);
}

uint32_t grammar_text(struct grammar_builder *b, const char *text, size_t len, uint32_t next)
{
    while (len > 0) {
        const uint8_t c = (uint8_t)text[--len];
        next = grammar_range(b, c, c, next);
    }
    return next;
}

uint32_t grammar_split(struct grammar_builder *b, uint32_t one, uint32_t other)
{
    return add(b, (struct grammar_node){.kind = GRAMMAR_SPLIT, .a = one, .b = other});
}

uint32_t grammar_either(struct grammar_builder *b, uint32_t one, uint32_t other)
{
    return one == GRAMMAR_NONE ? other : grammar_split(b, one, other);
}

uint32_t grammar_call(struct grammar_builder *b, uint32_t rule, uint32_t next)
{
    return add(b, (struct grammar_node){.kind = GRAMMAR_CALL, .a = rule, .b = next});
}

uint32_t grammar_repeat(struct grammar_builder *b, uint32_t body, uint32_t min, uint32_t max, uint32_t next)
{
    return add(b, (struct grammar_node){.kind = GRAMMAR_REPEAT, .a = body, .b = next, .min = min, .max = max});
}

uint32_t grammar_hole(struct grammar_builder *b)
{
    return add(b, (struct grammar_node){.kind = GRAMMAR_JUMP, .a = GRAMMAR_NONE});
}

void grammar_patch(struct grammar_builder *b, uint32_t hole, uint32_t target)
{
    if (b->err == DBE_OK)
        b->g->nodes[hole].a = target;
}

uint32_t grammar_space(struct grammar_builder *b, uint32_t next)
{
    return grammar_split(b, grammar_call(b, b->space, next), next);
}

uint32_t grammar_table(struct grammar_builder *b, const struct grammar_arm *arms, size_t count,
                       const struct grammar_arm *more, size_t more_count)
{
    struct llm_grammar *g = b->g;

    if (!room(b, (void **)&g->tables, g->table_count, &g->table_cap, LLM_GRAMMAR_TABLES_MAX, sizeof *g->tables))
        return GRAMMAR_END;
    for (size_t c = 0; c < 256; c++)
        g->tables[g->table_count][c] = GRAMMAR_NONE;
    for (size_t i = 0; i < count; i++)
        for (unsigned c = arms[i].low; c <= arms[i].high; c++)
            g->tables[g->table_count][c] = arms[i].next;
    for (size_t i = 0; i < more_count; i++)
        for (unsigned c = more[i].low; c <= more[i].high; c++)
            g->tables[g->table_count][c] = more[i].next;
    return add(b, (struct grammar_node){.kind = GRAMMAR_TABLE, .b = g->table_count++});
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

dbe_err grammar_begin(struct grammar_builder *b, struct dbe_diag *diag)
{
    *b = (struct grammar_builder){.g = base_alloc(1, sizeof *b->g), .diag = diag};
    if (!b->g)
        return dbe_fail(diag, DBE_E_NOMEM, "grammar", 0, "no memory for a grammar");
    add(b, (struct grammar_node){.kind = GRAMMAR_RETURN});
    grammar_json(b);
    b->g->common = b->g->node_count;
    return DBE_OK;
}

dbe_err grammar_finish(struct grammar_builder *b, uint32_t start, struct llm_grammar **ret)
{
    const dbe_err err = b->err == DBE_OK ? grammar_check(b->g, start, b->diag) : b->err;

    if (err != DBE_OK) {
        llm_grammar_free(b->g);
    } else {
        b->g->start = start;
        *ret = b->g;
    }
    b->g = NULL;
    return err;
}

void llm_grammar_free(struct llm_grammar *g)
{
    if (!g)
        return;
    base_free(g->nodes);
    base_free(g->sets);
    base_free(g->tables);
    base_free(g);
}

dbe_err llm_grammar_json(struct llm_grammar **ret, struct dbe_diag *diag)
{
    struct grammar_builder b;

    DBE_TRY(grammar_begin(&b, diag));
    return grammar_finish(&b, b.object, ret);
}
