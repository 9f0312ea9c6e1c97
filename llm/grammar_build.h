/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_build.h - the automaton from the inside, and how it is put together.
 *
 * A rule is a node to start from; its text ends at GRAMMAR_END. Automata are built from the back: each function takes
 * the node that follows and returns the one to enter by. The first error sticks; until it is looked at, nodes that are
 * returned are valid numbers of no meaning.
 */
#ifndef LLM_GRAMMAR_BUILD_H
#define LLM_GRAMMAR_BUILD_H

#include "grammar.h"

enum { GRAMMAR_END = 0 }; /* node 0 ends a rule */
#define GRAMMAR_NONE UINT32_MAX
#define GRAMMAR_MANY UINT32_MAX /* no upper bound of a repetition */

enum grammar_kind {
    GRAMMAR_RETURN, /* node 0 alone */
    GRAMMAR_SET,    /* a byte of set b, then a */
    GRAMMAR_TABLE,  /* a byte, then tables[b][byte] unless that is GRAMMAR_NONE */
    GRAMMAR_SPLIT,  /* a or b */
    GRAMMAR_JUMP,   /* a */
    GRAMMAR_CALL,   /* rule a, then b */
    GRAMMAR_REPEAT  /* rule a from min to max times, then b */
};

struct grammar_node {
    uint32_t kind, a, b, min, max;
    uint32_t need; /* open rules above its own, at least, on the way to the end of its rule */
};

struct grammar_set {
    uint8_t bits[32];
};

struct llm_grammar {
    struct grammar_node *nodes;
    struct grammar_set *sets;
    uint32_t (*tables)[256];
    uint32_t node_count, node_cap, set_count, set_cap, table_count, table_cap;
    uint32_t start;
    uint32_t common;   /* the first nodes, those of JSON, are the same in every grammar */
    uint32_t need_max; /* of any node */
};

struct grammar_builder {
    struct llm_grammar *g;
    dbe_err err;
    struct dbe_diag *diag;
    /* rules of JSON; character: of a string; quote: its end */
    uint32_t space, string, character, quote, number, integer, value, object, array;
};

/* Allocate, with the rules of JSON made. */
dbe_err grammar_begin(struct grammar_builder *b, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Check what was built and hand it over; the builder is done with, also on error. */
dbe_err grammar_finish(struct grammar_builder *b, uint32_t start, struct llm_grammar **ret) DBE_MUST_CHECK;

uint32_t grammar_range(struct grammar_builder *b, uint8_t low, uint8_t high, uint32_t next);
uint32_t grammar_chars(struct grammar_builder *b, const char *chars, uint32_t next); /* one of them */
uint32_t grammar_text(struct grammar_builder *b, const char *text, size_t len, uint32_t next);
uint32_t grammar_split(struct grammar_builder *b, uint32_t one, uint32_t other);
/* `other` alone where `one` is GRAMMAR_NONE. */
uint32_t grammar_either(struct grammar_builder *b, uint32_t one, uint32_t other);
uint32_t grammar_call(struct grammar_builder *b, uint32_t rule, uint32_t next);
/* `body` is a rule that is never empty. */
uint32_t grammar_repeat(struct grammar_builder *b, uint32_t body, uint32_t min, uint32_t max, uint32_t next);
/* A node that grammar_patch later leads on: for loops and rules that are called before they are made. */
uint32_t grammar_hole(struct grammar_builder *b);
void grammar_patch(struct grammar_builder *b, uint32_t hole, uint32_t target);
/* Optional white space. */
uint32_t grammar_space(struct grammar_builder *b, uint32_t next);

struct grammar_arm {
    uint8_t low, high;
    uint32_t next; /* GRAMMAR_NONE: not allowed */
};

/* One byte by which of the arms it is in; those of `more` go before those of `arms`, later ones before earlier. */
uint32_t grammar_table(struct grammar_builder *b, const struct grammar_arm *arms, size_t count,
                       const struct grammar_arm *more, size_t more_count);

/* One character of a string, as it is or as an escape. */
uint32_t grammar_character(struct grammar_builder *b, uint32_t next);
/* One character of a string that needs no escape, then `next`, or the closing quote, then `close` unless that is
 * GRAMMAR_NONE. */
uint32_t grammar_plain(struct grammar_builder *b, uint32_t next, uint32_t close);
/* The same, but for first bytes that lead elsewhere. */
uint32_t grammar_plain_but(struct grammar_builder *b, uint32_t next, uint32_t close, const struct grammar_arm *arms,
                           size_t count);

/* One character from `low` to `high` as UTF-8, surrogates left out. */
uint32_t grammar_utf8(struct grammar_builder *b, uint32_t low, uint32_t high, uint32_t next);

/* Between the files of this part: make the rules of JSON; check an automaton and take its jumps out. E_ARGUMENT,
 * E_TOO_LARGE, E_NOMEM. */
void grammar_json(struct grammar_builder *b);
dbe_err grammar_check(struct llm_grammar *g, uint32_t start, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
