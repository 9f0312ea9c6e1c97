/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_tail.c - `dsmil audit tail`: the last entries of the log, and those that come.
 *
 * In:   the log's files    Out: entries, as words or as they stand
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/audit.h"

enum { FOLLOW_MS = 200 };

struct tail {
    const struct audit_options *o;
    char **ring; /* the last `lines` that fit the filter */
    uint64_t seen;
    bool printing; /* the ring was printed: print as they come */
};

static bool is(const json_t *line, const char *key, const char *want)
{
    const char *have = json_string_value(json_object_get(line, key));

    return want == NULL || (have != NULL && strcmp(have, want) == 0);
}

static bool fits(const struct audit_options *o, const json_t *line)
{
    const char *sender = json_string_value(json_object_get(line, "sender"));

    return is(line, "kind", o->kind) && is(line, "tenant", o->tenant) && is(line, "outcome", o->outcome) &&
           (o->sender == NULL || (sender != NULL && strstr(sender, o->sender) != NULL));
}

static const char *text(const json_t *line, const char *key)
{
    const char *s = json_string_value(json_object_get(line, key));

    return s != NULL ? s : "";
}

static void print_line(const struct audit_options *o, const char *bytes)
{
    json_t *line;
    const char *peer;

    if (o->json) {
        puts(bytes);
        return;
    }
    line = json_loads(bytes, 0, NULL);
    peer = text(line, "peer");
    printf("%8lld %s %-24s %-17s %-6s", (long long)json_integer_value(json_object_get(line, "index")),
           text(line, "time"), strstr(text(line, "sender"), "/l") != NULL ? strstr(text(line, "sender"), "/l") : "",
           text(line, "kind"), text(line, "outcome"));
    static const char *const more[] = {"code", "rule", "msg_type", "tenant", "classification", "request_id", "detail"};
    if (peer[0] != '\0')
        printf(" from %s", strstr(peer, "/l") != NULL ? strstr(peer, "/l") : peer);
    for (size_t i = 0; i < BASE_ARRAY_LEN(more); i++)
        if (text(line, more[i])[0] != '\0')
            printf(" %s", text(line, more[i]));
    putchar('\n');
    json_decref(line);
}

static dbe_err on_entry(void *ctx, const struct audit_line *line, const char *bytes, size_t len,
                        const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct tail *t = ctx;

    (void)leaf, (void)line;
    json_t *parsed = json_loadb(bytes, len, 0, NULL);
    bool wanted = parsed != NULL && fits(t->o, parsed);
    json_decref(parsed);
    if (!wanted)
        return DBE_OK;
    char *copy = base_alloc(len + 1, 1);
    if (copy == NULL)
        return DBE_E_NOMEM;
    memcpy(copy, bytes, len);
    if (t->printing) {
        print_line(t->o, copy);
        base_free(copy);
        return DBE_OK;
    }
    char **slot = &t->ring[t->seen++ % t->o->lines];
    base_free(*slot);
    *slot = copy;
    return DBE_OK;
}

static void print_ring(struct tail *t)
{
    uint64_t lines = t->o->lines;

    for (uint64_t i = t->seen > lines ? t->seen - lines : 0; i < t->seen; i++)
        print_line(t->o, t->ring[i % lines]);
    t->printing = true;
}

int cli_audit_tail(struct audit_options *o)
{
    struct tail t = {.o = o, .ring = base_alloc((size_t)o->lines, sizeof(char *))};
    const struct timespec pause = {.tv_nsec = FOLLOW_MS * BASE_NS_PER_MS};
    const struct audit_place place = {o->dir, o->archive}; /* the archive only if it is asked for */
    struct audit_scan_end end = {0};
    struct audit_base base;
    struct audit_finding f = {0};
    struct dbe_diag diag = {0};
    cli_json_said(); /* a line each, and nothing beside them */
    dbe_err err = t.ring != NULL ? audit_scan_begin(&place, &end, &base, &f, &diag) : DBE_E_NOMEM;

    while (err == DBE_OK) {
        err = audit_scan_more(&place, on_entry, &t, &end, &f, &diag);
        if (!t.printing)
            print_ring(&t);
        fflush(stdout);
        if (!o->follow || ferror(stdout))
            break;
        nanosleep(&pause, NULL);
    }
    for (uint64_t i = 0; t.ring != NULL && i < o->lines; i++)
        base_free(t.ring[i]);
    base_free(t.ring);
    return err == DBE_OK ? CLI_OK
                         : cli_fail(err == DBE_E_MALFORMED ? AUDIT_EXIT_CHAIN : CLI_FAILED, "audit", err, &diag);
}
