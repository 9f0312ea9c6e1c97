/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_state.h - an automaton that runs: which nodes it may be at, and above which open rules. Between
 * grammar_state.c and mask.c.
 */
#ifndef LLM_GRAMMAR_STATE_H
#define LLM_GRAMMAR_STATE_H

#include "grammar_build.h"

enum {
    GRAMMAR_CONFIGS_MAX = 512,
    GRAMMAR_FRAMES_FIRST = 64, /* room that a state begins with; it doubles as needed */
    GRAMMAR_FRAMES_MAX = 8192,
    GRAMMAR_CACHE_MAX = 48,
    /* Moves that following all ways may take, of some 5 ns each: as many as were saved up, and some for each token. */
    GRAMMAR_MOVES_SAVED = 1 << 26,
    GRAMMAR_MOVES_TOKEN = 1 << 21
};

/* A stack is the number of its top frame. */
enum {
    GRAMMAR_STACK_END = 0, /* nothing is below: the text ends */
    GRAMMAR_STACK_OPEN = 1 /* what is below does not matter here */
};

#define GRAMMAR_CALLED UINT32_MAX

/* An open rule: the node that follows it, or the repetition that it is part of. Equal frames have equal numbers. */
struct grammar_frame {
    uint32_t ret, below;
    uint32_t count; /* of a repetition: how often its body was complete before; GRAMMAR_CALLED: not one's */
    uint32_t depth;
};

/* At a SET or TABLE node. */
struct grammar_config {
    uint32_t node, stack;
};

/* Tokens that may follow at a node, whatever is below its rule. */
struct grammar_cached {
    uint64_t key, used; /* used: higher when later */
    uint32_t *allowed;  /* NULL: free */
    uint32_t *exits;    /* nodes of the trie where the rule may be left */
    size_t exit_count;
};

/* Room that walks over the tree of tokens need; kept from one to the next. */
struct grammar_room {
    struct grammar_config *pool; /* configurations of the levels of a walk */
    uint32_t *exits, *bits;      /* bits: a mask */
    size_t pool_cap, exit_cap, words;
};

struct llm_grammar_state {
    const struct llm_grammar *g;
    struct grammar_config configs[GRAMMAR_CONFIGS_MAX];
    size_t count;
    bool ended;
    dbe_err err;                  /* memory or moves ran out: ways were left out, and nothing can be said any more */
    uint32_t moves;               /* that are left */
    struct grammar_frame *frames; /* [frame_cap]; a frame's `below` has a lower number than itself */
    uint32_t *slots;              /* [2 * frame_cap] open addressing; emptied in reverse order only */
    uint32_t frame_count, frame_cap;
    uint32_t collect_at; /* frames at which it is time to forget those that nothing needs */
    struct grammar_room room;
    const struct llm_trie *trie; /* that the cache is of */
    struct grammar_cached cache[GRAMMAR_CACHE_MAX];
    uint64_t cache_clock;
};

/* Where bytes lead: configurations, the end of the text, the end of an open stack. */
struct grammar_reach {
    struct grammar_config *out;
    size_t count, max;
    bool ended, left;
};

/* Add what can be reached from a node without a byte. Beyond the bounds things are left out: less is accepted. */
void grammar_reach(struct llm_grammar_state *s, uint32_t node, uint32_t stack, struct grammar_reach *r);
/* The same by one byte from a configuration. */
void grammar_step(struct llm_grammar_state *s, struct grammar_config c, uint8_t byte, struct grammar_reach *r);
uint32_t grammar_push(struct llm_grammar_state *s, uint32_t ret, uint32_t below, uint32_t count);
/* Forget the frames from `count` on. */
void grammar_forget(struct llm_grammar_state *s, uint32_t count);
/* Make room: forget frames that no configuration needs. */
void grammar_collect(struct llm_grammar_state *s);

#endif
