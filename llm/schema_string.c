/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_string.c - strings of a schema: by length, by a format, which is a pattern of ours, or by a pattern.
 *
 * In:   a schema whose type may be a string. Out: its rule.
 */
#include <string.h>

#include "base/base.h"
#include "schema.h"

#define MONTH_DAY                                                                                                      \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))"
#define LEAP_YEAR "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#define DATE "(?:\\d{4}-" MONTH_DAY "|" LEAP_YEAR "-02-29)"
#define HOUR_MINUTE "(?:[01]\\d|2[0-3]):[0-5]\\d"
#define TIME HOUR_MINUTE ":[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-]" HOUR_MINUTE ")"
#define HEX4 "[0-9a-f]{4}"
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^" HEX4 HEX4 "-" HEX4 "-" HEX4 "-" HEX4 "-" HEX4 HEX4 HEX4 "$"},
    {"ipv4", "^" OCTET "(?:\\." OCTET "){3}$"},
};

dbe_err schema_string(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    const uint32_t close = s->b.quote;
    uint32_t min = 0, max = 0, body = 0;
    size_t i = 0;

    DBE_TRY(schema_count(s, schema, "minLength", 0, &min));
    DBE_TRY(schema_count(s, schema, "maxLength", GRAMMAR_MANY, &max));
    const bool length = json_object_get(schema, "minLength") || json_object_get(schema, "maxLength");
    if ((pattern != NULL) + (format != NULL) + length > 1)
        return schema_refuse(s, pattern ? "pattern" : "format", "is not supported beside another limit of the string");
    if (max < min)
        return schema_refuse(s, "maxLength", "must not be less than minLength");
    if (pattern && !json_is_string(pattern))
        return schema_refuse(s, "pattern", "must be a string");
    while (format && i < BASE_ARRAY_LEN(formats) &&
           (!json_is_string(format) || strcmp(formats[i].name, json_string_value(format)) != 0))
        i++;
    if (i == BASE_ARRAY_LEN(formats))
        return schema_refuse(s, "format", "only date, time, date-time, uuid and ipv4 are supported");
    if (pattern)
        DBE_TRY(schema_pattern(s, "pattern", json_string_value(pattern), json_string_length(pattern), close, &body));
    else if (format)
        DBE_TRY(schema_pattern(s, "format", formats[i].pattern, strlen(formats[i].pattern), close, &body));
    else if (length)
        body = grammar_repeat(&s->b, s->b.character, min, max, close);
    else
        body = GRAMMAR_END;
    *ret = body == GRAMMAR_END ? grammar_call(&s->b, s->b.string, GRAMMAR_END) : grammar_chars(&s->b, "\"", body);
    return s->b.err;
}
