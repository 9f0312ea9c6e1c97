/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar.c - puts automata together, and has the rules of JSON. How they run is in grammar_state.c.
 */
#include "grammar.h"

#include <string.h>

#include "base/base.h"
#include "grammar_build.h"

enum { INDENT_MAX = 20, DIGITS_MAX = 16, EXPONENT_DIGITS_MAX = 2, PASSES_MAX = 300, DONE = 9 };

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

/* Later arms go before earlier ones. */
static uint32_t table(struct grammar_builder *b, const struct grammar_arm *arms, size_t count,
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

/* ---- characters -------------------------------------------------------------------------------------------------- */

/* All of `count` continuation bytes. */
static uint32_t tail(struct grammar_builder *b, unsigned count, uint32_t next)
{
    while (count-- > 0)
        next = grammar_range(b, 0x80, 0xbf, next);
    return next;
}

/* Continuation bytes whose bits are from `low` to `high`. */
static uint32_t tail_range(struct grammar_builder *b, unsigned count, uint32_t low, uint32_t high, uint32_t next)
{
    const unsigned shift = 6 * (count - (count > 0));
    const uint32_t all = count > 0 ? (1u << shift) - 1 : 0;
    uint32_t first = low >> shift, last = high >> shift, ret = GRAMMAR_NONE;

    if (count == 0)
        return next;
    if (first == last)
        return grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | first),
                             tail_range(b, count - 1, low & all, high & all, next));
    if ((low & all) != 0) {
        ret = grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | first),
                            tail_range(b, count - 1, low & all, all, next));
        first++;
    }
    if ((high & all) != all) {
        const uint32_t end = grammar_range(b, (uint8_t)(0x80 | last), (uint8_t)(0x80 | last),
                                           tail_range(b, count - 1, 0, high & all, next));
        ret = ret == GRAMMAR_NONE ? end : grammar_split(b, ret, end);
        last--;
    }
    if (first <= last) {
        const uint32_t middle =
            grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | last), tail(b, count - 1, next));
        ret = ret == GRAMMAR_NONE ? middle : grammar_split(b, ret, middle);
    }
    return ret;
}

static uint32_t either(struct grammar_builder *b, uint32_t one, uint32_t other)
{
    return one == GRAMMAR_NONE ? other : grammar_split(b, one, other);
}

uint32_t grammar_utf8(struct grammar_builder *b, uint32_t low, uint32_t high, uint32_t next)
{
    static const struct {
        uint32_t low, high;
        unsigned tails;
        uint8_t lead;
    } widths[] = {{0, 0x7f, 0, 0},
                  {0x80, 0x7ff, 1, 0xc0},
                  {0x800, 0xd7ff, 2, 0xe0},
                  {0xe000, 0xffff, 2, 0xe0},
                  {0x10000, 0x10ffff, 3, 0xf0}};
    uint32_t ret = GRAMMAR_NONE;

    for (size_t i = 0; i < BASE_ARRAY_LEN(widths); i++) {
        const unsigned tails = widths[i].tails, shift = 6 * tails;
        const uint32_t from = BASE_MAX(low, widths[i].low), to = BASE_MIN(high, widths[i].high);
        if (from > to)
            continue;
        if (tails == 0) {
            ret = grammar_range(b, (uint8_t)from, (uint8_t)to, next);
            continue;
        }
        for (uint32_t lead = from >> shift; lead <= to >> shift;) {
            const uint32_t all = (1u << shift) - 1, base = lead << shift;
            const uint32_t first = BASE_MAX(from, base) - base, last = BASE_MIN(to, base + all) - base;
            uint32_t same = lead;
            while (first == 0 && last == all && ((same + 1) << shift) + all <= to)
                same++; /* whole leads share their tails */
            ret = either(b, ret,
                         grammar_range(b, (uint8_t)(widths[i].lead | lead), (uint8_t)(widths[i].lead | same),
                                       tail_range(b, tails, first, last, next)));
            lead = same + 1;
        }
    }
    return ret == GRAMMAR_NONE ? GRAMMAR_END : ret;
}

#define HEX "0123456789abcdefABCDEF"

static uint32_t hex(struct grammar_builder *b, unsigned count, uint32_t next)
{
    while (count-- > 0)
        next = grammar_chars(b, HEX, next);
    return next;
}

/* What follows "\u": any UTF-16, surrogates in pairs alone, and no NUL, which C programs could not keep. */
static uint32_t unicode_escape(struct grammar_builder *b, uint32_t next)
{
    static const char some[] = "123456789abcdefABCDEF";
    const uint32_t low =
        grammar_text(b, "\\u", 2, grammar_chars(b, "dD", grammar_chars(b, "cdefCDEF", hex(b, 2, next))));
    const uint32_t pair = grammar_chars(b, "dD", grammar_chars(b, "89abAB", hex(b, 2, low)));
    const uint32_t below = grammar_chars(b, "dD", grammar_chars(b, "01234567", hex(b, 2, next)));
    uint32_t zero = grammar_chars(b, some, next);

    zero = grammar_split(b, grammar_chars(b, "0", zero), grammar_chars(b, some, hex(b, 1, next)));
    zero = grammar_split(b, grammar_chars(b, "0", zero), grammar_chars(b, some, hex(b, 2, next)));
    return grammar_split(
        b, grammar_chars(b, "0", zero),
        grammar_split(b, grammar_chars(b, "123456789abcefABCEF", hex(b, 3, next)), grammar_split(b, pair, below)));
}

uint32_t grammar_plain_but(struct grammar_builder *b, uint32_t next, uint32_t close, const struct grammar_arm *more,
                           size_t count)
{
    const uint32_t one = tail(b, 1, next), two = tail(b, 2, next), three = tail(b, 3, next);
    const struct grammar_arm arms[] = {
        {0x20, 0x7f, next},
        {'"', '"', close},
        {'\\', '\\', GRAMMAR_NONE},
        {0xc2, 0xdf, one},
        {0xe1, 0xef, two},
        {0xe0, 0xe0, grammar_range(b, 0xa0, 0xbf, one)},
        {0xed, 0xed, grammar_range(b, 0x80, 0x9f, one)},
        {0xf1, 0xf3, three},
        {0xf0, 0xf0, grammar_range(b, 0x90, 0xbf, two)},
        {0xf4, 0xf4, grammar_range(b, 0x80, 0x8f, two)},
    };

    return table(b, arms, BASE_ARRAY_LEN(arms), more, count);
}

uint32_t grammar_plain(struct grammar_builder *b, uint32_t next, uint32_t close)
{
    return grammar_plain_but(b, next, close, NULL, 0);
}

/* Any character of a string, one table, because most of a JSON text is strings. */
static uint32_t character(struct grammar_builder *b, uint32_t next, uint32_t close)
{
    const uint32_t escape =
        grammar_split(b, grammar_chars(b, "\"\\/bfnrt", next), grammar_chars(b, "u", unicode_escape(b, next)));
    const struct grammar_arm arm = {'\\', '\\', escape};

    return grammar_plain_but(b, next, close, &arm, 1);
}

uint32_t grammar_character(struct grammar_builder *b, uint32_t next)
{
    return character(b, next, GRAMMAR_NONE);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* At most `most` bytes of the set, each optional. */
static uint32_t up_to(struct grammar_builder *b, const char *chars, unsigned most, uint32_t next)
{
    uint32_t node = next;

    while (most-- > 0)
        node = grammar_split(b, grammar_chars(b, chars, node), next);
    return node;
}

static void make_numbers(struct grammar_builder *b)
{
    static const char digits[] = "0123456789";
    const uint32_t power = grammar_chars(b, digits, up_to(b, digits, EXPONENT_DIGITS_MAX - 1, GRAMMAR_END));
    const uint32_t exponent =
        grammar_split(b, grammar_chars(b, "eE", grammar_split(b, grammar_chars(b, "+-", power), power)), GRAMMAR_END);
    const uint32_t fraction = grammar_split(
        b, grammar_chars(b, ".", grammar_chars(b, digits, up_to(b, digits, DIGITS_MAX - 1, exponent))), exponent);
    const uint32_t ends[] = {fraction, GRAMMAR_END};
    uint32_t rules[2];

    for (size_t i = 0; i < 2; i++) {
        const uint32_t whole = grammar_split(b, grammar_chars(b, "0", ends[i]),
                                             grammar_chars(b, "123456789", up_to(b, digits, DIGITS_MAX - 1, ends[i])));
        rules[i] = grammar_split(b, grammar_chars(b, "-", whole), whole);
    }
    b->number = rules[0];
    b->integer = rules[1];
}

static void make_strings(struct grammar_builder *b)
{
    const uint32_t loop = grammar_hole(b);
    const uint32_t body = character(b, loop, GRAMMAR_END);

    grammar_patch(b, loop, body);
    b->string = grammar_chars(b, "\"", body);
    b->character = grammar_character(b, GRAMMAR_END);
    b->quote = grammar_chars(b, "\"", GRAMMAR_END);
}

static void make_values(struct grammar_builder *b)
{
    const uint32_t value = grammar_hole(b), members = grammar_hole(b), items = grammar_hole(b);
    uint32_t after, any;

    after = grammar_split(b, grammar_chars(b, ",", grammar_space(b, members)),
                          grammar_space(b, grammar_chars(b, "}", GRAMMAR_END)));
    after = grammar_chars(b, ":", grammar_space(b, grammar_call(b, value, after)));
    grammar_patch(b, members, grammar_call(b, b->string, after));
    b->object = grammar_chars(b, "{", grammar_space(b, grammar_split(b, grammar_chars(b, "}", GRAMMAR_END), members)));
    after = grammar_split(b, grammar_chars(b, ",", grammar_space(b, items)),
                          grammar_space(b, grammar_chars(b, "]", GRAMMAR_END)));
    grammar_patch(b, items, grammar_call(b, value, after));
    b->array = grammar_chars(b, "[", grammar_space(b, grammar_split(b, grammar_chars(b, "]", GRAMMAR_END), items)));
    any = grammar_split(b, b->number, grammar_split(b, b->object, b->array));
    any = grammar_split(b, any, grammar_text(b, "true", 4, GRAMMAR_END));
    any = grammar_split(b, any, grammar_text(b, "false", 5, GRAMMAR_END));
    any = grammar_split(b, any, grammar_text(b, "null", 4, GRAMMAR_END));
    /* called, not entered: nodes inside a string are then the same whatever surrounds it, and so is what follows */
    grammar_patch(b, value, grammar_split(b, grammar_call(b, b->string, GRAMMAR_END), any));
    b->value = value;
}

dbe_err grammar_begin(struct grammar_builder *b, struct dbe_diag *diag)
{
    *b = (struct grammar_builder){.g = base_alloc(1, sizeof *b->g), .diag = diag};
    if (!b->g)
        return dbe_fail(diag, DBE_E_NOMEM, "grammar", 0, "no memory for a grammar");
    add(b, (struct grammar_node){.kind = GRAMMAR_RETURN});
    b->space = grammar_split(b, grammar_chars(b, " ", GRAMMAR_END),
                             grammar_chars(b, "\n", up_to(b, " \t", INDENT_MAX, GRAMMAR_END)));
    make_numbers(b);
    make_strings(b);
    make_values(b);
    b->g->common = b->g->node_count;
    return DBE_OK;
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

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

static dbe_err check(struct grammar_builder *b, uint32_t start)
{
    struct llm_grammar *g = b->g;
    BASE_AUTO_FREE uint8_t *marks = base_alloc(g->node_count, sizeof *marks);
    BASE_AUTO_FREE uint32_t *todo = base_alloc(g->node_count, sizeof *todo);

    if (!marks || !todo)
        return dbe_fail(b->diag, DBE_E_NOMEM, "grammar", 0, "no memory for a grammar");
    if (!all_end(g))
        return dbe_fail(b->diag, DBE_E_ARGUMENT, "grammar", 0, "a part of the schema can never be completed");
    if (!is_cycle_free(g, marks, todo))
        return dbe_fail(b->diag, DBE_E_ARGUMENT, "grammar", 0, "a part of the schema leads to nothing but itself");
    if (g->nodes[start].need > LLM_GRAMMAR_DEPTH_MAX)
        return dbe_fail(b->diag, DBE_E_TOO_LARGE, "grammar", 0, "what the schema demands is too deep");
    return DBE_OK;
}

dbe_err grammar_finish(struct grammar_builder *b, uint32_t start, struct llm_grammar **ret)
{
    const dbe_err err = b->err == DBE_OK ? check(b, start) : b->err;

    if (err != DBE_OK) {
        llm_grammar_free(b->g);
    } else {
        skip_jumps(b->g);
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
