/* SPDX-License-Identifier: Apache-2.0
 *
 * read.c - see read.h.
 */
#include "shim/read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- refusals --------------------------------------------------------------------------------------------------- */

static const char *type_word(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a decimal number";
    case JSON_NULL: return "null";
    case JSON_TRUE:
    case JSON_FALSE: break;
    }
    return "a boolean";
}

dbe_err shim_wrong_type(struct shim_problem *p, const char *param, const char *expected, const json_t *v)
{
    if (v == NULL)
        return shim_missing(p, param);
    return shim_problem_set(p, 400, "invalid_type", param, "Invalid type for '%s': expected %s, but got %s instead.",
                            param, expected, type_word(v));
}

dbe_err shim_unsupported(struct shim_problem *p, const char *param)
{
    return shim_problem_set(p, 400, "unsupported_parameter", param,
                            "Unsupported parameter: '%s' is not supported with this value by this service.", param);
}

dbe_err shim_unknown(struct shim_problem *p, const char *param)
{
    return shim_problem_set(p, 400, "unknown_parameter", param, "Unknown parameter: '%.64s'.", param);
}

dbe_err shim_missing(struct shim_problem *p, const char *param)
{
    return shim_problem_set(p, 400, "missing_required_parameter", param, "Missing required parameter: '%s'.", param);
}

dbe_err shim_no_memory(struct shim_problem *p)
{
    (void)shim_problem_set(p, 503, "out_of_memory", NULL, "The service has no memory for this request at the moment.");
    p->retry_after_s = 1;
    return DBE_E_NOMEM;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

dbe_err shim_read_number(const json_t *v, const char *param, double min, double max, double *ret,
                         struct shim_problem *p)
{
    if (!json_is_number(v))
        return shim_wrong_type(p, param, "a number", v);
    double number = json_number_value(v);
    if (!isfinite(number) || number < min || number > max)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': must be between %g and %g.", param, min,
                                max);
    *ret = number;
    return DBE_OK;
}

dbe_err shim_read_count(const json_t *v, const char *param, uint32_t min, uint32_t max, uint32_t *ret,
                        struct shim_problem *p)
{
    if (!json_is_integer(v))
        return shim_wrong_type(p, param, "an integer", v);
    if (json_integer_value(v) < (json_int_t)min || json_integer_value(v) > (json_int_t)max)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': must be between %u and %u.", param, min,
                                max);
    *ret = (uint32_t)json_integer_value(v);
    return DBE_OK;
}

dbe_err shim_read_bool(const json_t *v, const char *param, bool *ret, struct shim_problem *p)
{
    if (!json_is_boolean(v))
        return shim_wrong_type(p, param, "a boolean", v);
    *ret = json_is_true(v);
    return DBE_OK;
}

dbe_err shim_read_text(const json_t *v, const char *param, char **ret, struct shim_problem *p)
{
    if (!json_is_string(v))
        return shim_wrong_type(p, param, "a string", v);
    char *copy = base_strdup(json_string_value(v));
    if (copy == NULL)
        return shim_no_memory(p);
    *ret = copy;
    return DBE_OK;
}

dbe_err shim_read_name(const json_t *v, const char *param, char *ret, size_t cap, struct shim_problem *p)
{
    if (!json_is_string(v))
        return shim_wrong_type(p, param, "a string", v);
    if (json_string_length(v) == 0 || json_string_length(v) >= cap)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %zu bytes are allowed.", param,
                                cap - 1);
    memcpy(ret, json_string_value(v), json_string_length(v) + 1);
    return DBE_OK;
}

dbe_err shim_read_json(const json_t *v, char **ret, struct shim_problem *p)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY), *copy = text != NULL ? base_strdup(text) : NULL;

    free(text); /* jansson's */
    if (copy == NULL)
        return shim_no_memory(p);
    *ret = copy;
    return DBE_OK;
}

dbe_err shim_read_word(const json_t *v, const char *param, const char *const *words, size_t count, const char **ret,
                       struct shim_problem *p)
{
    if (!json_is_string(v))
        return shim_wrong_type(p, param, "a string", v);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(json_string_value(v), words[i]) == 0) {
            *ret = words[i];
            return DBE_OK;
        }
    }
    return shim_problem_set(p, 400, "invalid_value", param, "Invalid value for '%s'.", param);
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

/* Nothing but type and text says anything: probabilities that an answer came with say nothing new of its text. */
static bool says_more(const json_t *part, const char *text_key)
{
    const bool answer = shim_is_text(json_object_get(part, "type"), "output_text");
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)(uintptr_t)part, key, value)
    {
        bool empty = json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
        if (strcmp(key, "type") != 0 && strcmp(key, text_key) != 0 && !empty &&
            !(answer && strcmp(key, "logprobs") == 0))
            return true;
    }
    return false;
}

static dbe_err read_part(const json_t *part, const char *where, const char *const *types, size_t count,
                         struct base_buf *text, struct shim_problem *p)
{
    const json_t *type = json_object_get(part, "type");
    const char *text_key = shim_is_text(type, "refusal") ? "refusal" : "text";
    const json_t *words = json_object_get(part, text_key);

    if (!json_is_object(part))
        return shim_wrong_type(p, where, "an object", part);
    if (!json_is_string(type) || !shim_is_one_of(json_string_value(type), types, count))
        return shim_problem_set(p, 400, "unsupported_value", where,
                                "Invalid '%s': only parts of type '%s' are supported.", where, types[0]);
    if (!json_is_string(words) || says_more(part, text_key))
        return shim_problem_set(p, 400, "invalid_value", where, "Invalid '%s': such a part holds 'type' and '%s'.",
                                where, text_key);
    base_buf_bytes(text, json_string_value(words), json_string_length(words));
    return DBE_OK;
}

dbe_err shim_read_parts(const json_t *parts, const char *param, const char *const *types, size_t count, char **ret,
                        struct shim_problem *p)
{
    struct base_buf text;
    char where[SHIM_PARAM_MAX_BYTES], *copy = NULL;
    dbe_err err = DBE_OK;

    if (json_array_size(parts) == 0 || json_array_size(parts) > SHIM_CONTENT_PARTS_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d parts are allowed.", param,
                                SHIM_CONTENT_PARTS_MAX);
    base_buf_init(&text, SHIM_BODY_MAX_BYTES);
    for (size_t i = 0; i < json_array_size(parts) && err == DBE_OK; i++) {
        (void)snprintf(where, sizeof where, "%.60s[%zu]", param, i);
        err = read_part(json_array_get(parts, i), where, types, count, &text, p);
    }
    if (err == DBE_OK && text.err == DBE_OK)
        copy = base_strdup(base_buf_cstr(&text));
    base_buf_free(&text);
    if (err == DBE_OK && copy == NULL)
        err = shim_no_memory(p);
    if (err == DBE_OK)
        *ret = copy;
    return err;
}

bool shim_is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

bool shim_is_one_of(const char *key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

dbe_err shim_add(void *list, size_t *count, size_t max, size_t size, const char *param, const char *what, void *ret,
                 struct shim_problem *p)
{
    char *all;

    memcpy(&all, list, sizeof all); /* a pointer to whatever the list is of */
    if (all == NULL)
        all = base_alloc(max, size);
    if (all == NULL)
        return shim_no_memory(p);
    memcpy(list, &all, sizeof all);
    if (*count == max)
        return shim_problem_set(p, 400, "array_above_max_length", param, "At most %zu %s are allowed.", max, what);
    all += (*count)++ * size;
    memcpy(ret, &all, sizeof all);
    return DBE_OK;
}
