/* SPDX-License-Identifier: Apache-2.0
 *
 * prom.c - Prometheus text format 0.0.4, read with bounds. See prom.h.
 */
#include "cli/prom.h"

#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES = 64 };

/* What is left of one line. */
struct text {
    const char *at, *end;
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_space(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t'))
        t->at++;
}

static bool take(struct text *t, char c)
{
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*, where a label's has no colon. */
static dbe_err read_name(struct text *t, bool colon, char out[PROM_NAME_BYTES])
{
    size_t len = 0;

    while (t->at < t->end && (is_letter(*t->at) || (colon && *t->at == ':') || (len > 0 && is_digit(*t->at)))) {
        if (len + 1 == PROM_NAME_BYTES)
            return DBE_E_TOO_LARGE;
        out[len++] = *t->at++;
    }
    out[len] = '\0';
    return len > 0 ? DBE_OK : DBE_E_MALFORMED;
}

/* "..." with \\, \" and \n in it. */
static dbe_err read_string(struct text *t, char out[PROM_VALUE_BYTES])
{
    size_t len = 0;

    if (!take(t, '"'))
        return DBE_E_MALFORMED;
    while (!take(t, '"')) {
        if (t->at == t->end || *t->at == '\0')
            return DBE_E_MALFORMED;
        char c = *t->at++;
        if (c == '\\') {
            if (t->at == t->end || strchr("\\\"n", *t->at) == NULL || *t->at == '\0')
                return DBE_E_MALFORMED;
            c = *t->at == 'n' ? '\n' : *t->at;
            t->at++;
        }
        if (len + 1 == PROM_VALUE_BYTES)
            return DBE_E_TOO_LARGE;
        out[len++] = c;
    }
    out[len] = '\0';
    return DBE_OK;
}

static dbe_err read_label(struct text *t, struct prom_sample *s)
{
    if (s->label_count == PROM_LABELS_MAX)
        return DBE_E_TOO_LARGE;
    struct prom_label *l = &s->labels[s->label_count];
    DBE_TRY(read_name(t, false, l->name));
    if (prom_label(s, l->name) != NULL)
        return DBE_E_MALFORMED;
    skip_space(t);
    if (!take(t, '='))
        return DBE_E_MALFORMED;
    skip_space(t);
    DBE_TRY(read_string(t, l->value));
    s->label_count++;
    skip_space(t);
    return DBE_OK;
}

static dbe_err read_labels(struct text *t, struct prom_sample *s)
{
    skip_space(t);
    while (!take(t, '}')) {
        DBE_TRY(read_label(t, s));
        const bool more = take(t, ',');
        skip_space(t);
        if (!more && (t->at == t->end || *t->at != '}'))
            return DBE_E_MALFORMED;
    }
    return DBE_OK;
}

/* A decimal number, or NaN, Inf, +Inf, -Inf. Not what strtod reads beyond that. */
static dbe_err read_number(struct text *t, double *ret)
{
    static const char *const words[] = {"NaN", "Inf", "+Inf", "-Inf"};
    char number[NUMBER_BYTES], *end;
    size_t len = 0;
    bool good = false;

    while (t->at < t->end && *t->at != ' ' && *t->at != '\t') {
        if (len + 1 == sizeof number)
            return DBE_E_MALFORMED;
        number[len++] = *t->at++;
    }
    number[len] = '\0';
    for (size_t i = 0; i < BASE_ARRAY_LEN(words); i++)
        good = good || strcmp(number, words[i]) == 0;
    if (!good && (len == 0 || strspn(number, "0123456789+-.eE") != len))
        return DBE_E_MALFORMED;
    *ret = strtod(number, &end);
    return end == number + len ? DBE_OK : DBE_E_MALFORMED;
}

static dbe_err read_sample(struct text *t, struct prom_sample *s)
{
    double when;

    s->label_count = 0;
    DBE_TRY(read_name(t, true, s->name));
    skip_space(t);
    if (take(t, '{'))
        DBE_TRY(read_labels(t, s));
    skip_space(t);
    DBE_TRY(read_number(t, &s->value));
    skip_space(t);
    if (t->at < t->end)
        DBE_TRY(read_number(t, &when));
    skip_space(t);
    return t->at == t->end ? DBE_OK : DBE_E_MALFORMED;
}

dbe_err prom_parse(const char *text, size_t len, void (*on_sample)(void *ctx, const struct prom_sample *s), void *ctx,
                   struct dbe_diag *diag)
{
    struct prom_sample s = {0};
    const char *at = text, *const end = text + len;
    size_t samples = 0;

    if (len > PROM_TEXT_MAX_BYTES)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "more than %d bytes of metrics", PROM_TEXT_MAX_BYTES);
    for (unsigned line = 1; at < end; line++) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        struct text t = {.at = at, .end = eol != NULL ? eol : end};
        at = eol != NULL ? eol + 1 : end;
        skip_space(&t);
        if (t.at == t.end || *t.at == '#')
            continue;
        dbe_err err = samples++ < PROM_SAMPLES_MAX ? read_sample(&t, &s) : DBE_E_TOO_LARGE;
        if (err != DBE_OK)
            return dbe_fail(diag, err, NULL, 0, "line %u of the metrics: %s", line, dbe_err_text(err));
        on_sample(ctx, &s);
    }
    return DBE_OK;
}

const char *prom_label(const struct prom_sample *s, const char *name)
{
    for (size_t i = 0; i < s->label_count; i++)
        if (strcmp(s->labels[i].name, name) == 0)
            return s->labels[i].value;
    return NULL;
}
