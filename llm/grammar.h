/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar.h - which texts an answer may be: a pushdown automaton on bytes, and which tokens may come next.
 *
 * In:   a JSON schema (or none: any JSON object), the bytes of the answer so far, a vocabulary.
 * Out:  whether bytes are accepted, whether the text may end, a bit set of the tokens that may follow.
 * Not:  no sampling, no model.
 *
 * Texts are UTF-8 JSON. Between two JSON tokens there is nothing, a space, or a line break with an indent: a model must
 * not get lost in white space. Numbers have at most 16 digits before and after the point and an exponent of two.
 * A grammar is read only once made, so threads may share it; a state belongs to one at a time.
 */
#ifndef LLM_GRAMMAR_H
#define LLM_GRAMMAR_H

#include "llm.h"

enum {
    LLM_GRAMMAR_NODES_MAX = 1 << 16,
    LLM_GRAMMAR_SETS_MAX = 1024,   /* different sets of bytes */
    LLM_GRAMMAR_TABLES_MAX = 1024, /* branches by byte */
    LLM_GRAMMAR_DEPTH_MAX = 256,   /* open rules: near that, only what closes them all in time is accepted */
    LLM_GRAMMAR_TOKEN_BYTES = 128, /* a longer token is never allowed */
    LLM_SCHEMA_BYTES_MAX = 256 << 10
};

struct llm_vocab;
struct llm_trie;
struct llm_grammar_state;

/* Any JSON object. E_NOMEM. */
dbe_err llm_grammar_json(struct llm_grammar **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* What a JSON schema describes. Properties come in the schema's order. Understood: type (also several), nullable, enum,
 * const, anyOf, oneOf (of schemas that can be seen to exclude each other), allOf (of plain schemas), $ref into this
 * document; properties, required, additionalProperties; items, prefixItems, minItems, maxItems; minLength, maxLength,
 * pattern, format (date, time, date-time, uuid, ipv4); minimum, maximum, and of integers exclusiveMinimum,
 * exclusiveMaximum. Titles, descriptions, defaults, examples, discriminators and "x-..." are skipped. E_ARGUMENT: no
 * schema, or something else that constrains (the diag has a JSON pointer to it); E_TOO_LARGE; E_NOMEM. */
dbe_err llm_grammar_schema(const char *text, size_t len, struct llm_grammar **ret,
                           struct dbe_diag *diag) DBE_MUST_CHECK;
/* Several values of one schema with text around them: `before` the first, `between` two, `after` the last. */
struct llm_grammar_frame {
    const char *before, *between, *after;
    uint32_t max;        /* values, at least one */
    const char *instead; /* a text that may stand in place of all this; NULL: none */
};
/* The same for values in a frame; `text` NULL: any JSON object. */
dbe_err llm_grammar_framed(const char *text, size_t len, const struct llm_grammar_frame *frame,
                           struct llm_grammar **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Takes NULL. */
void llm_grammar_free(struct llm_grammar *g);

/* The tokens of a vocabulary by their bytes; made once for a model, with the masks that its sessions share. Threads may
 * use it at once. The vocabulary must outlive it. */
dbe_err llm_trie_new(const struct llm_vocab *vocab, struct llm_trie **ret) DBE_MUST_CHECK;
void llm_trie_free(struct llm_trie *trie); /* takes NULL */

/* At the beginning of a text. `g` must outlive it. E_NOMEM. */
dbe_err llm_grammar_state_new(const struct llm_grammar *g, struct llm_grammar_state **ret) DBE_MUST_CHECK;
void llm_grammar_state_free(struct llm_grammar_state *s); /* takes NULL */
/* Be where `from` is; both are of one grammar. E_NOMEM: nothing changed. */
dbe_err llm_grammar_state_copy(struct llm_grammar_state *s, const struct llm_grammar_state *from) DBE_MUST_CHECK;

/* Go on by these bytes; false, and nothing changed, when they may not follow. Where memory runs out, or the ways to
 * follow become too many, they are taken as they are; the text is then neither whole nor over, and the next mask says
 * why. */
bool llm_grammar_accept(struct llm_grammar_state *s, const char *bytes, size_t len);
bool llm_grammar_can_end(const struct llm_grammar_state *s);                     /* the text so far is whole */
bool llm_grammar_is_over(const struct llm_grammar_state *s);                     /* and nothing may follow */
dbe_err llm_grammar_state_err(const struct llm_grammar_state *s) DBE_MUST_CHECK; /* what the next mask says */

/* Set the bit of each token that may come next (bit i % 32 of word i / 32 of (n_vocab + 31) / 32 words) and clear the
 * others. End tokens may come when the text may end, other control tokens never. When no token at all could go on, the
 * end tokens are allowed. E_NOMEM; E_TOO_LARGE: there are so many ways to go on that following them holds others up,
 * which takes a grammar made for it; neither goes away. */
dbe_err llm_grammar_mask(struct llm_grammar_state *s, const struct llm_trie *trie, uint32_t n_vocab,
                         uint32_t *allowed) DBE_MUST_CHECK;

#endif
