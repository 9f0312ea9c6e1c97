/* SPDX-License-Identifier: Apache-2.0
 *
 * trie.c - a vocabulary as a tree of bytes, built once for a model.
 *
 * In:   a vocabulary     Out: nodes, each behind its parent; with it goes what masks keep for all sessions
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "trie.h"

enum { NODES_MAX = 1 << 24 };

void trie_forget(struct grammar_cached *cache, size_t max)
{
    for (size_t i = 0; i < max; i++) {
        base_free(cache[i].allowed);
        base_free(cache[i].exits);
        cache[i] = (struct grammar_cached){0};
    }
}

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

    t->nodes[0] = (struct trie_node){0, -1, 0, 0};
    t->count = 1;
    for (size_t i = 0; i < count; i++) {
        const struct vocab_token *token = &v->tokens[ids[i]];
        const size_t shared = i > 0 ? common(&v->tokens[ids[i - 1]], token) : 0;
        for (; depth > shared; depth--)
            t->nodes[path[depth]].end = t->count;
        for (; depth < token->text_len; depth++) {
            path[depth + 1] = t->count;
            t->nodes[t->count++] = (struct trie_node){0, -1, (uint8_t)token->text[depth], 0};
        }
        for (size_t at = 0; at < depth; at++)
            t->nodes[path[at]].height = (uint8_t)BASE_MAX((size_t)t->nodes[path[at]].height, depth - at);
        struct trie_node *last = &t->nodes[path[depth]];
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
        trie_forget(t->shared->cache, TRIE_SHARED_MAX);
        pthread_mutex_destroy(&t->shared->lock);
        base_free(t->shared);
    }
    base_free(t->nodes);
    base_free(t->same);
    base_free(t);
}
