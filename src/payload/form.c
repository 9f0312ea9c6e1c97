/* SPDX-License-Identifier: Apache-2.0
 *
 * form.c - whether a payload has the form that the specification asks for (clauses 3.13 and 3.14) and its values the
 * ranges that the schema states (clause 3.15). In: hostile bytes. Does not change or keep anything.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "payload/wire.h"

enum { FORM_PATH_BYTES = 96 };

/* What schema/proto/dsmil.proto says beside its fields, as rows; form_test.c compares both. */
static const struct payload_rule rules[] = {
    {"L7ChatRequest", "temperature", PAYLOAD_RULE_CLOSED, 0, 2},
    {"L7ChatRequest", "top_p", PAYLOAD_RULE_OPEN, 0, 1},
    {"L7ChatRequest", "stop", PAYLOAD_RULE_COUNT, 0, 4},
    {"L7ChatRequest", "frequency_penalty", PAYLOAD_RULE_CLOSED, -2, 2},
    {"L7ChatRequest", "presence_penalty", PAYLOAD_RULE_CLOSED, -2, 2},
    {"LogitBias", "bias", PAYLOAD_RULE_CLOSED, -100, 100},
    {"L7ChatRequest", "tools", PAYLOAD_RULE_COUNT, 0, 64},
    {"L7EmbedRequest", "input", PAYLOAD_RULE_COUNT, 0, 2048},
    {"L7EmbedRequest", "tokens", PAYLOAD_RULE_COUNT, 0, 2048},
    {"L7Cancel", "request_id", PAYLOAD_RULE_BYTES, 0, 16},
    {"L3Event", "score", PAYLOAD_RULE_CLOSED, 0, 1},
    {"L5Forecast", "confidence", PAYLOAD_RULE_CLOSED, 0, 1},
    {"SOCEvent", "score", PAYLOAD_RULE_CLOSED, 0, 1},
    {"L8Alert", "severity", PAYLOAD_RULE_CLOSED, 1, 4},
    {"L8Alert", "score", PAYLOAD_RULE_CLOSED, 0, 1},
    {"CourseOfAction", "score", PAYLOAD_RULE_CLOSED, 0, 1},
    {"L9COAResult", "advisory_only", PAYLOAD_RULE_TRUE, 1, 1},
    {"L9COAResult", "confidence", PAYLOAD_RULE_CLOSED, 0, 1},
};

size_t payload_rules(const struct payload_rule **ret)
{
    *ret = rules;
    return BASE_ARRAY_LEN(rules);
}

/* Where the judge is: one link a message, so that an error can name its path. */
struct form {
    const struct form *up;
    const payload_desc *desc;
    const payload_field *field;      /* the one that is looked at */
    size_t seen[PAYLOAD_FIELDS_MAX]; /* elements of each field so far */
    struct payload_item last[PAYLOAD_FIELDS_MAX];
    const uint8_t *bytes;
    uint32_t *entries; /* offsets of the entries of its maps, one behind the other; NULL: it has none */
    size_t entries_count;
    size_t *elements; /* of repeated fields, of the whole payload */
    bool rules;
    unsigned depth;
    struct dbe_diag *diag;
};

/* "choices[0].message.role" */
static void form_path(const struct form *f, char *out, size_t cap)
{
    size_t at;

    out[0] = '\0';
    if (f->up != NULL) {
        form_path(f->up, out, cap);
        at = strlen(out);
        (void)snprintf(out + at, cap - at, ".");
    }
    if (f->field == NULL)
        return;
    at = strlen(out);
    if (f->field->label == PROTOBUF_C_LABEL_REPEATED)
        (void)snprintf(out + at, cap - at, "%s[%zu]", f->field->name, f->seen[f->field - f->desc->fields]);
    else
        (void)snprintf(out + at, cap - at, "%s", f->field->name);
}

static dbe_err form_fail(const struct form *f, dbe_err err, const char *clause, size_t at, const char *what)
{
    char path[FORM_PATH_BYTES];

    if (f->diag == NULL)
        return err;
    form_path(f, path, sizeof path);
    return dbe_fail(f->diag, err, clause, at, "%s: %s", path[0] != '\0' ? path : f->desc->short_name, what);
}

static dbe_err form_message(struct form *f, size_t at, size_t end);

static dbe_err form_number(const struct form *f, uint64_t bits, size_t at)
{
    if ((f->field->type == PROTOBUF_C_TYPE_FLOAT && !isfinite(payload_float(bits))) ||
        (f->field->type == PROTOBUF_C_TYPE_DOUBLE && !isfinite(payload_double(bits))))
        return form_fail(f, DBE_E_RANGE, "spec 3.14", at, "is no finite number");
    return DBE_OK;
}

static dbe_err form_packed(const struct form *f, const struct payload_item *item)
{
    struct payload_reader r = {.bytes = f->bytes, .at = item->data, .end = item->data + item->len};
    uint64_t bits;

    while (r.at < r.end) {
        size_t at = r.at;
        if (!payload_element(f->field, &r, &bits))
            return form_fail(f, DBE_E_MALFORMED, "spec 3.13", at, "an element does not end");
        DBE_TRY(form_number(f, bits, at));
    }
    return DBE_OK;
}

/* The key of a map's entry, whose form is good; one that is absent is empty. */
static struct payload_item entry_key(const uint8_t *bytes, const struct payload_item *entry)
{
    struct payload_reader r = {.bytes = bytes, .at = entry->data, .end = entry->data + entry->len};
    struct payload_item item;

    while (r.at < r.end && payload_next(&r, &item, NULL) == DBE_OK)
        if (item.id == 1)
            return item;
    return (struct payload_item){.data = entry->data};
}

/* Is the key of `entry` that of an entry before it? The entries' places are kept, and both their number and the length
 * of a key are bounded, so that no payload makes this slow. */
static dbe_err form_map(struct form *f, const struct payload_item *entry)
{
    struct payload_item key = entry_key(f->bytes, entry), before, other;

    if (f->entries_count == DBE_PAYLOAD_MAP_MAX)
        return form_fail(f, DBE_E_TOO_LARGE, "spec 3.14", entry->at, "more entries than maps of a message may have");
    if (key.len > DBE_PAYLOAD_KEY_MAX)
        return form_fail(f, DBE_E_TOO_LARGE, "spec 3.14", key.at, "a key that is too long");
    for (size_t i = 0; i < f->entries_count; i++) {
        struct payload_reader r = {.bytes = f->bytes, .at = f->entries[i], .end = entry->at};
        if (payload_next(&r, &before, NULL) != DBE_OK || before.id != f->field->id)
            continue; /* of another map */
        other = entry_key(f->bytes, &before);
        if (other.len == key.len && memcmp(f->bytes + other.data, f->bytes + key.data, key.len) == 0)
            return form_fail(f, DBE_E_DUPLICATE, "spec 3.14", entry->at, "the key stands twice");
    }
    f->entries[f->entries_count++] = (uint32_t)entry->at; /* a payload is far below 4 GiB */
    return DBE_OK;
}

static dbe_err form_nested(struct form *f, const struct payload_item *item)
{
    struct form in = {.up = f,
                      .desc = f->field->descriptor,
                      .bytes = f->bytes,
                      .elements = f->elements,
                      .rules = f->rules,
                      .depth = f->depth + 1,
                      .diag = f->diag};

    if (in.depth > DBE_PAYLOAD_DEPTH_MAX)
        return form_fail(f, DBE_E_TOO_LARGE, "spec 3.14", item->at, "messages are nested too deeply");
    return form_message(&in, item->data, item->data + item->len);
}

/* One field of the message, whose descriptor is f->field. */
static dbe_err form_item(struct form *f, const struct payload_item *item)
{
    const payload_field *field = f->field;
    size_t i = (size_t)(field - f->desc->fields);

    if (field->label == PROTOBUF_C_LABEL_REPEATED && ++*f->elements > DBE_PAYLOAD_ELEMENTS_MAX)
        return form_fail(f, DBE_E_TOO_LARGE, "spec 3.14", item->at, "more elements than a payload may have");
    if (payload_is_packed(field, item))
        DBE_TRY(form_packed(f, item));
    else if (item->wire != payload_wire_of(field))
        return form_fail(f, DBE_E_MALFORMED, "spec 3.13", item->at, "is encoded as another type");
    else if (field->label != PROTOBUF_C_LABEL_REPEATED && f->seen[i] > 0)
        return form_fail(f, DBE_E_DUPLICATE, "spec 3.14", item->at, "stands twice");
    else if (field->type == PROTOBUF_C_TYPE_STRING && !base_utf8_valid(f->bytes + item->data, item->len))
        return form_fail(f, DBE_E_UTF8, "spec 3.14", item->data, "is not UTF-8, or holds a zero byte");
    else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        DBE_TRY(form_nested(f, item));
    else
        DBE_TRY(form_number(f, item->num, item->at));
    if (payload_is_map(field))
        DBE_TRY(form_map(f, item));
    f->seen[i]++;
    f->last[i] = *item;
    return DBE_OK;
}

/* The value that a rule compares; absent is 0. */
static double rule_value(const payload_field *field, const struct payload_item *item)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_FLOAT: return (double)payload_float(item->num);
    case PROTOBUF_C_TYPE_DOUBLE: return payload_double(item->num);
    default: return (double)item->num;
    }
}

static bool rule_holds(const struct payload_rule *rule, const payload_field *field, size_t count,
                       const struct payload_item *item)
{
    double v = rule_value(field, item);

    if (count == 0 && (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return true; /* absent */
    switch (rule->kind) {
    case PAYLOAD_RULE_CLOSED: return v >= rule->min && v <= rule->max;
    case PAYLOAD_RULE_OPEN: return v > rule->min && v <= rule->max;
    case PAYLOAD_RULE_COUNT: return (double)count <= rule->max;
    case PAYLOAD_RULE_BYTES: return (double)item->len == rule->max;
    case PAYLOAD_RULE_TRUE: break;
    }
    return item->num != 0;
}

static const char *const rule_words[] = {
    [PAYLOAD_RULE_CLOSED] = "is outside its range", [PAYLOAD_RULE_OPEN] = "is outside its range",
    [PAYLOAD_RULE_COUNT] = "has too many elements", [PAYLOAD_RULE_BYTES] = "has another length than it must",
    [PAYLOAD_RULE_TRUE] = "must be true",
};

/* Every rule of this message, once all of it was read. */
static dbe_err form_rules(struct form *f, size_t start)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(rules); i++) {
        size_t at;
        if (strcmp(rules[i].message, f->desc->short_name) != 0)
            continue;
        f->field = protobuf_c_message_descriptor_get_field_by_name(f->desc, rules[i].field);
        if (f->field == NULL)
            return DBE_E_STATE; /* a rule for a field that the schema has lost: a test would have said so */
        at = (size_t)(f->field - f->desc->fields);
        if (!rule_holds(&rules[i], f->field, f->seen[at], &f->last[at]))
            return form_fail(f, DBE_E_RANGE, "spec 3.15", f->seen[at] > 0 ? f->last[at].at : start,
                             rule_words[rules[i].kind]);
    }
    return DBE_OK;
}

static dbe_err form_fields(struct form *f, size_t at, size_t end)
{
    struct payload_reader r = {.bytes = f->bytes, .at = at, .end = end};
    struct payload_item item;
    const char *why = "";
    size_t index;

    while (r.at < r.end) {
        f->field = NULL;
        if (payload_next(&r, &item, &why) != DBE_OK)
            return form_fail(f, DBE_E_MALFORMED, "spec 3.13", r.at, why);
        f->field = payload_find(f->desc, item.id, &index);
        if (f->field != NULL) /* protobuf ignores what it does not know, and so do we */
            DBE_TRY(form_item(f, &item));
    }
    return f->rules ? form_rules(f, at) : DBE_OK;
}

/* A message with maps takes room for their entries on the stack, and only that one does: noinline keeps it there. */
__attribute__((noinline)) static dbe_err form_with_maps(struct form *f, size_t at, size_t end)
{
    uint32_t entries[DBE_PAYLOAD_MAP_MAX];

    f->entries = entries;
    return form_fields(f, at, end);
}

static dbe_err form_message(struct form *f, size_t at, size_t end)
{
    for (unsigned i = 0; i < f->desc->n_fields; i++)
        if (payload_is_map(&f->desc->fields[i]))
            return form_with_maps(f, at, end);
    return form_fields(f, at, end);
}

dbe_err payload_form(const payload_desc *desc, const void *payload, size_t len, bool with_rules, struct dbe_diag *diag)
{
    static const uint8_t none[1];
    size_t elements = 0;
    struct form f = {.desc = desc,
                     .bytes = payload != NULL ? payload : none,
                     .elements = &elements,
                     .rules = with_rules,
                     .depth = 1,
                     .diag = diag};

    if (len > DBE_PAYLOAD_MAX_BYTES)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "spec 3.8", 0, "%zu bytes of payload", len);
    return form_message(&f, 0, len);
}
