/* SPDX-License-Identifier: Apache-2.0
 *
 * test_request.h - for tests: a chat request as protobuf-c has it, packed and read.
 */
#ifndef L7_WORKER_TEST_REQUEST_H
#define L7_WORKER_TEST_REQUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_worker/request.h"
#include "dsmil.pb-c.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static struct worker_defaults defaults = {.temperature = 0.5f, .top_p = 0.75f, .vocab = 99};

/* A request in the form protobuf-c wants it. */
struct request {
    Dsmil__L7ChatRequest r;
    Dsmil__ChatMessage message, *messages[600];
    char role[16], content[64], *stops[8];
};

static inline void request_init(struct request *q)
{
    dsmil__l7_chat_request__init(&q->r);
    dsmil__chat_message__init(&q->message);
    (void)snprintf(q->role, sizeof q->role, "user");
    (void)snprintf(q->content, sizeof q->content, "hello");
    q->message.role = q->role;
    q->message.content = q->content;
    for (size_t i = 0; i < BASE_ARRAY_LEN(q->messages); i++)
        q->messages[i] = &q->message;
    q->r.messages = q->messages;
    q->r.n_messages = 1;
    q->r.stop = q->stops;
}

static inline dbe_err read_whole(const struct request *q, struct worker_request *ret, const char **reason)
{
    size_t len = dsmil__l7_chat_request__get_packed_size(&q->r);
    uint8_t *packed = test_malloc(len);

    (void)dsmil__l7_chat_request__pack(&q->r, packed);
    dbe_err err = worker_request_read(packed, len, &defaults, ret, reason);
    test_free(packed);
    if (err == DBE_OK && !ret->formed) {
        static struct dbe_diag diag;
        diag.text[0] = '\0';
        *reason = diag.text;
        err = worker_request_form(ret, &diag);
        if (err != DBE_OK)
            ret->chat.free_owned(ret->chat.owned);
    }
    return err;
}

static inline dbe_err read_it(const struct request *q, struct engine_chat *chat, const char **reason)
{
    struct worker_request whole = {0};
    dbe_err err = read_whole(q, &whole, reason);

    if (err == DBE_OK)
        *chat = whole.chat;
    return err;
}

#endif
