/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_metrics.c - Prometheus text, as a service that is broken or hostile could send it.
 *
 * What is read and written again is read as the same.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/prom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void on_same(void *ctx, const struct prom_sample *s)
{
    const struct prom_sample **want = ctx;

    require(*want != NULL && strcmp(s->name, (*want)->name) == 0 && s->label_count == (*want)->label_count);
    for (size_t i = 0; i < s->label_count; i++)
        require(strcmp(s->labels[i].name, (*want)->labels[i].name) == 0 &&
                strcmp(s->labels[i].value, (*want)->labels[i].value) == 0);
    require((isnan(s->value) && isnan((*want)->value)) || !(s->value < (*want)->value || s->value > (*want)->value));
    *want = NULL;
}

static void on_sample(void *ctx, const struct prom_sample *s)
{
    const struct prom_sample *want = s;
    struct base_buf again;

    (void)ctx;
    require(s->name[0] != '\0' && s->label_count <= PROM_LABELS_MAX);
    base_buf_init(&again, PROM_TEXT_MAX_BYTES);
    base_buf_fmt(&again, "%s{", s->name);
    for (size_t i = 0; i < s->label_count; i++) {
        base_buf_fmt(&again, "%s=\"", s->labels[i].name);
        for (const char *c = s->labels[i].value; *c != '\0'; c++) {
            if (*c == '\n')
                base_buf_str(&again, "\\n");
            else if (*c == '"' || *c == '\\')
                base_buf_fmt(&again, "\\%c", *c);
            else
                base_buf_u8(&again, (uint8_t)*c);
        }
        base_buf_str(&again, "\",");
    }
    if (isnan(s->value))
        base_buf_str(&again, "} NaN");
    else if (isinf(s->value))
        base_buf_str(&again, s->value > 0 ? "} +Inf" : "} -Inf");
    else
        base_buf_fmt(&again, "} %.17g", s->value);
    require(again.err == DBE_OK);
    require(prom_parse((const char *)again.data, again.len, on_same, &want, NULL) == DBE_OK && want == NULL);
    base_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbe_diag diag = {0};
    dbe_err err = prom_parse((const char *)data, size, on_sample, NULL, &diag);

    require(err == DBE_OK || err == DBE_E_MALFORMED || err == DBE_E_TOO_LARGE);
    return 0;
}
