/* SPDX-License-Identifier: Apache-2.0
 *
 * sse.h - a streamed chat completion as server-sent events (WHATWG HTML, section 9.2).
 *
 * In:   deltas, then an end or a failure, as they come from the mesh
 * Out:  bytes, as fast as the client takes them: deltas that wait are joined into one chunk, so a slow client costs
 *       its own text in memory and no more
 * Not:  no socket, no clock
 */
#ifndef SHIM_SSE_H
#define SHIM_SSE_H

#include "shim/openai.h"

enum { SHIM_STREAM_PENDING_MAX_BYTES = 256 * 1024 };

struct shim_stream {
    struct base_buf text; /* deltas that no chunk carries yet */
    struct base_buf out;  /* framed bytes that the client has not taken yet */
    char request_id[37], model[SHIM_MODEL_MAX_BYTES + 1];
    uint64_t created_unix;
    bool include_usage, role_sent, ended;
};

void shim_stream_init(struct shim_stream *s, const char *request_id, uint64_t created_unix, bool include_usage);
void shim_stream_free(struct shim_stream *s); /* takes a zeroed one */

/* More text. `model` is what answers. E_LIMIT: more than SHIM_STREAM_PENDING_MAX_BYTES wait for the client. */
dbe_err shim_stream_delta(struct shim_stream *s, const char *model, const char *text, size_t len) DBE_MUST_CHECK;
/* The answer is whole: finish chunk, usage chunk if it was asked for, [DONE]. Only the first end of a stream counts. */
void shim_stream_finish(struct shim_stream *s, const char *finish_reason, uint32_t prompt_tokens,
                        uint32_t completion_tokens, const struct shim_trace *trace);
/* The answer breaks off: an error event ends the stream, without [DONE]. */
void shim_stream_fail(struct shim_stream *s, const struct shim_problem *p);

/* Take up to `cap` bytes; 0 when there are none now. */
size_t shim_stream_read(struct shim_stream *s, char *buf, size_t cap);
/* Nothing more will come. */
bool shim_stream_at_end(const struct shim_stream *s);

#endif
