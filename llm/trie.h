/* SPDX-License-Identifier: Apache-2.0
 *
 * trie.h - a vocabulary as a tree of bytes, from the inside: trie.c builds it, mask.c walks it.
 */
#ifndef LLM_TRIE_H
#define LLM_TRIE_H

#include <pthread.h>

#include "grammar_state.h"
#include "vocab.h"

enum { TRIE_SHARED_MAX = 96 }; /* some 3 MiB with a vocabulary of 150,000 */

/* What all sessions keep. */
struct trie_shared {
    pthread_mutex_t lock; /* of the others; held while a result is copied, not while one is made */
    struct grammar_cached cache[TRIE_SHARED_MAX];
    uint64_t clock;
    uint32_t n_vocab; /* that the results are of */
};

struct trie_node {
    uint32_t end;  /* behind the last node below this one; its first child, if it has any, is the next node */
    int32_t token; /* -1: none ends here */
    uint8_t byte;
    uint8_t height; /* bytes that the longest token below goes on for */
};

struct llm_trie {
    const struct llm_vocab *vocab;
    struct trie_node *nodes;
    uint32_t count;
    int32_t *same; /* [vocab->count] another token of the same bytes; -1: none */
    struct trie_shared *shared;
};

/* Free what is kept. */
void trie_forget(struct grammar_cached *cache, size_t max);

#endif
