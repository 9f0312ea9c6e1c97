/* SPDX-License-Identifier: Apache-2.0
 *
 * explain.h - what the explaining files share: lines with offset, bytes, name and meaning, as text or as JSON. Private
 * to this room; everybody else uses dbe_msg_explain.
 */
#ifndef PAYLOAD_EXPLAIN_H
#define PAYLOAD_EXPLAIN_H

#include "payload/wire.h"

enum {
    EXPLAIN_DEPTH_MAX = DBE_PAYLOAD_DEPTH_MAX + 8,
    EXPLAIN_LINES_MAX = 20000, /* of one input; what comes after is counted */
    EXPLAIN_VALUE_BYTES = 256, /* the meaning of one field, as text */
    EXPLAIN_TEXT_BYTES = 160,  /* of a text that is shown */
    EXPLAIN_HEX_BYTES = 8,     /* of a field, in text; JSON has 64 */
};

struct explain {
    struct payload_out *out;
    const uint8_t *bytes; /* the whole input; offsets count from here */
    size_t len;
    bool json;
    bool broken; /* something was not as it must be */
    unsigned depth;
    bool filled[EXPLAIN_DEPTH_MAX]; /* a node of this depth stands there: the next one takes a comma */
    size_t lines, left_out;
};

/* A node with others inside it, until explain_close. False where it is left out: then nothing follows, no close. */
bool explain_open(struct explain *x, size_t at, size_t len, const char *name, const char *fmt, ...) DBE_PRINTF(5, 6);
void explain_close(struct explain *x);
/* A field: its bytes and what they mean. */
void explain_field(struct explain *x, size_t at, size_t len, const char *name, const char *fmt, ...) DBE_PRINTF(5, 6);
/* What is wrong; offset of `diag` counts from `base`. */
void explain_problem(struct explain *x, dbe_err err, const struct dbe_diag *diag, size_t base);
/* The same from words. */
void explain_wrong(struct explain *x, dbe_err err, const char *clause, size_t at, const char *fmt, ...)
    DBE_PRINTF(5, 6);
/* `len` bytes of UTF-8 in quotes, cut where they are many; bytes that are not UTF-8 as U+FFFD. */
void explain_quote(const void *text, size_t len, char out[EXPLAIN_VALUE_BYTES]);

/* One message that begins at `at` and has at most `left` bytes; returns how many it took, at least 1. */
size_t explain_message(struct explain *x, size_t at, size_t left);
/* The same for a record, whose sealed part stays sealed. */
size_t explain_record(struct explain *x, size_t at, size_t left);
/* TLVs of an area; returns where it stopped. */
size_t explain_tlvs(struct explain *x, size_t at, size_t end);
/* A payload that is a message of `desc`, broken or not. */
void explain_payload(struct explain *x, const payload_desc *desc, size_t at, size_t len);

/* Everything in `bytes`, messages and records as they come. True if nothing is wrong with any of it. */
bool explain_all(const uint8_t *bytes, size_t len, bool json, struct payload_out *out);
/* Where the next message or record begins, and how long it is: what explain_all goes by. */
bool explain_is_record(const uint8_t *p, size_t left);

#endif
