/* SPDX-License-Identifier: Apache-2.0
 *
 * explain_payload.c - a payload explained field by field, in the order in which it stands there, broken or not. In: any
 * bytes. Shows what it understands up to the place where it does not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "payload/explain.h"

/* Where explain_fields is. */
struct level {
    struct explain *x;
    const payload_desc *desc;
    size_t at, end; /* offsets of the whole input */
    size_t seen[PAYLOAD_FIELDS_MAX];
};

static bool explain_fields(struct explain *x, const payload_desc *desc, size_t at, size_t end);

static void name_item(const struct level *l, const payload_field *f, const struct payload_item *item, char *out,
                      size_t cap)
{
    if (f == NULL)
        (void)snprintf(out, cap, "field %" PRIu32, item->id);
    else if (f->label == PROTOBUF_C_LABEL_REPEATED)
        (void)snprintf(out, cap, "%s[%zu]", f->name, l->seen[f - l->desc->fields]);
    else
        (void)snprintf(out, cap, "%s", f->name);
}

/* Numbers of a packed field, as many as fit. */
static void value_packed(const struct explain *x, const payload_field *f, const struct payload_item *item,
                         struct payload_out *o)
{
    struct payload_reader r = {.bytes = x->bytes, .at = item->data, .end = item->data + item->len};
    uint64_t bits;

    while (r.at < r.end && o->len < o->cap && payload_element(f, &r, &bits)) {
        if (o->len > 0)
            payload_put_text(o, ", ");
        payload_put_number(o, f, bits);
    }
}

/* What one item that is no message means. */
static void explain_value(const struct level *l, const payload_field *f, const struct payload_item *item,
                          const char *name)
{
    struct explain *x = l->x;
    char value[EXPLAIN_VALUE_BYTES] = "", hex[65];
    struct payload_out o = {.out = (uint8_t *)value, .cap = sizeof value - 1};
    size_t len = item->data + item->len - item->at, tail = BASE_MIN(item->len, (size_t)32);

    base_hex(x->bytes + item->data, tail, hex);
    if (f == NULL)
        (void)snprintf(value, sizeof value, "unknown, ignored; %zu bytes: %s%s", item->len, hex,
                       item->len > tail ? "..." : "");
    else if (payload_is_packed(f, item))
        value_packed(x, f, item, &o);
    else if (item->wire != payload_wire_of(f))
        (void)snprintf(value, sizeof value, "encoded as another type");
    else if (f->type == PROTOBUF_C_TYPE_STRING)
        explain_quote(x->bytes + item->data, item->len, value);
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        (void)snprintf(value, sizeof value, "%zu bytes: %s%s", item->len, hex, item->len > tail ? "..." : "");
    else
        payload_put_number(&o, f, item->num);
    explain_field(x, item->at, len, name, "%s", value);
}

/* One item; false where what follows cannot be read. */
static bool explain_item(struct level *l, const struct payload_item *item)
{
    size_t i = 0, len = item->data + item->len - item->at;
    const payload_field *f = payload_find(l->desc, item->id, &i);
    bool message = f != NULL && f->type == PROTOBUF_C_TYPE_MESSAGE && item->wire == payload_wire_of(f), good = true;
    char name[64];

    name_item(l, f, item, name, sizeof name);
    if (!message) {
        explain_value(l, f, item, name);
    } else if (explain_open(l->x, item->at, len, name, "%zu bytes", item->len)) {
        good = explain_fields(l->x, f->descriptor, item->data, item->data + item->len);
        explain_close(l->x);
    }
    if (f != NULL)
        l->seen[i]++;
    return good;
}

static bool explain_fields(struct explain *x, const payload_desc *desc, size_t at, size_t end)
{
    struct level l = {.x = x, .desc = desc};
    struct payload_reader r = {.bytes = x->bytes, .at = at, .end = end};
    struct payload_item item;

    while (r.at < r.end) {
        if (payload_next(&r, &item, NULL) != DBE_OK) {
            explain_field(x, r.at, r.end - r.at, "not read", "%zu bytes", r.end - r.at);
            return false;
        }
        if (!explain_item(&l, &item))
            return false;
    }
    return true;
}

void explain_payload(struct explain *x, const payload_desc *desc, size_t at, size_t len)
{
    struct dbe_diag diag = {0};
    dbe_err err = payload_form(desc, x->bytes + at, len, true, &diag);

    if (!explain_open(x, at, len, "payload", "%s, %zu bytes", desc->short_name, len))
        return;
    (void)explain_fields(x, desc, at, at + len);
    if (err != DBE_OK)
        explain_problem(x, err, &diag, at);
    explain_close(x);
}
