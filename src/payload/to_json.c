/* SPDX-License-Identifier: Apache-2.0
 *
 * to_json.c - a payload as JSON, by its descriptor. In: bytes whose form payload_form has found good, so that nothing
 * here can fail but for want of room. Does not allocate and keeps nothing.
 */
#include <string.h>

#include "payload/wire.h"

/* Where the elements of a field begin, and how many items hold them. */
struct place {
    size_t first, items;
};

static void print_message(struct payload_out *o, const payload_desc *desc, const uint8_t *bytes, size_t at,
                          size_t end);

static void index_fields(const payload_desc *desc, const uint8_t *bytes, size_t at, size_t end,
                         struct place places[PAYLOAD_FIELDS_MAX])
{
    struct payload_reader r = {.bytes = bytes, .at = at, .end = end};
    struct payload_item item;
    size_t i;

    memset(places, 0, PAYLOAD_FIELDS_MAX * sizeof places[0]);
    while (r.at < r.end && payload_next(&r, &item, NULL) == DBE_OK) {
        if (payload_find(desc, item.id, &i) == NULL)
            continue;
        if (places[i].items++ == 0)
            places[i].first = item.at;
    }
}

/* The value of a map's entry; one that is absent is the zero of its type. */
static void print_entry(struct payload_out *o, const payload_desc *entry, const uint8_t *bytes,
                        const struct payload_item *item)
{
    static const struct payload_item zero;
    const payload_field *value = &entry->fields[1];
    struct payload_reader r = {.bytes = bytes, .at = item->data, .end = item->data + item->len};
    struct payload_item parts[2] = {zero, zero}, part;

    while (r.at < r.end && payload_next(&r, &part, NULL) == DBE_OK)
        if (part.id <= 2)
            parts[part.id - 1] = part;
    payload_put_string(o, bytes + parts[0].data, parts[0].len);
    payload_put_u8(o, ':');
    if (value->type == PROTOBUF_C_TYPE_MESSAGE)
        print_message(o, value->descriptor, bytes, parts[1].data, parts[1].data + parts[1].len);
    else
        payload_put_value(o, value, bytes, &parts[1]);
}

/* All elements of one item of a repeated field; `first` tells where a comma is due. */
static void print_elements(struct payload_out *o, const payload_field *f, const uint8_t *bytes,
                           const struct payload_item *item, bool *first)
{
    struct payload_reader r = {.bytes = bytes, .at = item->data, .end = item->data + item->len};
    uint64_t bits;

    if (payload_is_packed(f, item)) {
        while (r.at < r.end && payload_element(f, &r, &bits)) {
            if (!*first)
                payload_put_u8(o, ',');
            *first = false;
            payload_put_number(o, f, bits);
        }
        return;
    }
    if (!*first)
        payload_put_u8(o, ',');
    *first = false;
    if (payload_is_map(f))
        print_entry(o, f->descriptor, bytes, item);
    else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        print_message(o, f->descriptor, bytes, item->data, item->data + item->len);
    else
        payload_put_value(o, f, bytes, item);
}

static void print_repeated(struct payload_out *o, const payload_field *f, const uint8_t *bytes,
                           const struct place *place, size_t end)
{
    struct payload_reader r = {.bytes = bytes, .at = place->first, .end = end};
    struct payload_item item;
    size_t left = place->items;
    bool map = payload_is_map(f), first = true;

    payload_put_u8(o, map ? '{' : '[');
    while (left > 0 && payload_next(&r, &item, NULL) == DBE_OK)
        if (item.id == f->id) {
            print_elements(o, f, bytes, &item, &first);
            left--;
        }
    payload_put_u8(o, map ? '}' : ']');
}

/* Does this field stand in the JSON? See dbe/payload.h. */
static bool is_shown(const payload_field *f, const uint8_t *bytes, const struct place *place, size_t end)
{
    struct payload_reader r = {.bytes = bytes, .at = place->first, .end = end};
    struct payload_item item;

    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return true;
    if (place->items == 0)
        return payload_is_implicit(f) && f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES;
    if (!payload_is_implicit(f) || (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES))
        return true;
    return payload_next(&r, &item, NULL) == DBE_OK && item.len > 0;
}

static void print_singular(struct payload_out *o, const payload_field *f, const uint8_t *bytes,
                           const struct place *place, size_t end)
{
    struct payload_reader r = {.bytes = bytes, .at = place->first, .end = end};
    struct payload_item item = {0};

    if (place->items > 0 && payload_next(&r, &item, NULL) != DBE_OK)
        return;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        print_message(o, f->descriptor, bytes, item.data, item.data + item.len);
    else
        payload_put_value(o, f, bytes, &item);
}

static void print_message(struct payload_out *o, const payload_desc *desc, const uint8_t *bytes, size_t at, size_t end)
{
    struct place places[PAYLOAD_FIELDS_MAX];
    bool first = true;

    index_fields(desc, bytes, at, end, places);
    payload_put_u8(o, '{');
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const payload_field *f = &desc->fields[i];
        if (!is_shown(f, bytes, &places[i], end))
            continue;
        if (!first)
            payload_put_u8(o, ',');
        first = false;
        payload_put_string(o, f->name, strlen(f->name));
        payload_put_u8(o, ':');
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            print_repeated(o, f, bytes, &places[i], end);
        else
            print_singular(o, f, bytes, &places[i], end);
    }
    payload_put_u8(o, '}');
}

void payload_print(struct payload_out *o, const payload_desc *desc, const uint8_t *payload, size_t len)
{
    print_message(o, desc, payload, 0, len);
}

/* Descriptor of a type, or why there is none. */
static dbe_err desc_of(uint8_t type, const payload_desc **ret, struct dbe_diag *diag)
{
    *ret = payload_desc_of(type);
    if (*ret == NULL)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, "spec 3.5", 0, "no message type 0x%02x", type);
    return DBE_OK;
}

dbe_err dbe_payload_to_json(uint8_t msg_type, const void *payload, size_t len, char *out, size_t cap, size_t *ret_len,
                            struct dbe_diag *diag)
{
    static const uint8_t none[1];
    struct payload_out o = {.out = (uint8_t *)out, .cap = cap};
    const payload_desc *desc;

    DBE_TRY(desc_of(msg_type, &desc, diag));
    DBE_TRY(payload_form(desc, payload, len, false, diag));
    payload_print(&o, desc, len > 0 ? payload : none, len);
    if (o.len < cap)
        out[o.len] = '\0';
    return payload_finish(&o, "the JSON", ret_len, diag);
}

dbe_err dbe_payload_from_json(uint8_t msg_type, const char *json, size_t len, void *out, size_t cap, size_t *ret_len,
                              struct dbe_diag *diag)
{
    struct payload_out o = {.out = out, .cap = cap};
    const payload_desc *desc;

    DBE_TRY(desc_of(msg_type, &desc, diag));
    DBE_TRY(payload_parse(&o, desc, json, len, diag));
    DBE_TRY(payload_finish(&o, "the payload", ret_len, diag));
    return DBE_OK;
}

dbe_err dbe_payload_check(uint8_t msg_type, const void *payload, size_t len, struct dbe_diag *diag)
{
    const payload_desc *desc;

    DBE_TRY(desc_of(msg_type, &desc, diag));
    return payload_form(desc, payload, len, true, diag);
}
