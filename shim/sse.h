/* SPDX-License-Identifier: Apache-2.0
 *
 * sse.h - a streamed answer as server-sent events (WHATWG HTML, section 9.2): chunks of a chat or a completion, or the
 * events of a response.
 *
 * In:   choices as they grow, then an end or a failure, as they come from the mesh
 * Out:  bytes, as fast as the client takes them: text that waits is joined into one chunk, so a slow client costs
 *       its own text in memory and no more
 * Not:  no socket, no clock
 */
#ifndef SHIM_SSE_H
#define SHIM_SSE_H

#include "shim/openai.h"

enum { SHIM_STREAM_PENDING_MAX_BYTES = 256 * 1024 };

struct shim_stream {
    struct shim_style style;
    struct base_buf text;  /* of one choice, that no chunk carries yet */
    struct base_buf probs; /* JSON of its tokens, likewise */
    struct base_buf out;   /* framed bytes that the client has not taken yet */
    uint32_t index;        /* the choice of `text` */
    char request_id[37], model[SHIM_MODEL_MAX_BYTES + 1], fingerprint[32];
    uint64_t created_unix;
    uint32_t calls[SHIM_CHOICES_MAX];          /* of each choice, told so far */
    uint32_t begun, offsets[SHIM_CHOICES_MAX]; /* choices that have begun, as bits; characters of their tokens so far */
    bool ended;
    const char *finish_reason; /* static; of the choice that ended last, NULL: its last chunk is framed */
    uint32_t finished;         /* that choice */
    /* of a response: the number of the next event, whether its message is open, the message so far, its output items */
    uint32_t sequence, items;
    bool created, message_open;
    uint32_t messages, message_at; /* how many there were; the present one's place among the items */
    char message_id[SHIM_MESSAGE_ID_BYTES];
    struct base_buf whole, whole_probs, done_items;
};

/* Takes `style` over and leaves it empty. */
void shim_stream_init(struct shim_stream *s, const char *request_id, uint64_t created_unix, struct shim_style *style);
void shim_stream_free(struct shim_stream *s); /* takes a zeroed one */

/* What came of one choice. `model` is what answers. E_LIMIT: more than SHIM_STREAM_PENDING_MAX_BYTES wait for the
 * client. */
dbe_err shim_stream_choice(struct shim_stream *s, const char *model, const char *fingerprint,
                           const struct shim_choice *choice) DBE_MUST_CHECK;
/* The answer is whole: what is left of its choices has been told. Only the first end of a stream counts. */
void shim_stream_finish(struct shim_stream *s, const struct shim_answer *answer, const struct shim_trace *trace);
/* The answer breaks off: an error event ends the stream, without [DONE]. */
void shim_stream_fail(struct shim_stream *s, const struct shim_problem *p);

/* Take up to `cap` bytes; 0 when there are none now. */
size_t shim_stream_read(struct shim_stream *s, char *buf, size_t cap);
/* There are bytes that nobody has taken. */
bool shim_stream_waits(const struct shim_stream *s);
/* Nothing more will come. */
bool shim_stream_at_end(const struct shim_stream *s);

/* ---- sse_responses.c: the events of a response, called by sse.c ------------------------------------------------ */

void shim_events_begin(struct shim_stream *s);
void shim_events_text(struct shim_stream *s);
void shim_events_calls(struct shim_stream *s, const struct shim_choice *choice);
void shim_events_end_of_choice(struct shim_stream *s, const struct shim_choice *choice);
void shim_events_finish(struct shim_stream *s, const struct shim_answer *answer, const struct shim_trace *trace);
void shim_events_fail(struct shim_stream *s, const struct shim_problem *p);

#endif
