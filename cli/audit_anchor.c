/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_anchor.c - `dsmil audit anchor`, what services remember of the log, and `dsmil audit archive`, an order to
 * Device 14.
 *
 * In:   <state>/anchors; the running log's socket    Out: a table, a copy of an anchor, an order and its answer
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/audit.h"

/* ---- anchors ------------------------------------------------------------------------------------------------- */

struct shown {
    const char *name;
    uint64_t size, noted, noted_ms, age_s;
    bool conflict, good;
    struct base_buf text;
};

/* Read one; a file that is no anchor is shown as that. */
static void look(const char *path, struct shown *s)
{
    struct audit_anchor a = {0};
    struct audit_note note = {0};
    struct stat st;
    size_t len;

    *s = (struct shown){.name = strrchr(path, '/') + 1};
    s->conflict = strstr(s->name, ".conflict") != NULL;
    if (stat(path, &st) == 0)
        s->age_s = (uint64_t)BASE_MAX((int64_t)(base_wall_ms() / 1000) - (int64_t)st.st_mtime, (int64_t)0);
    s->good = base_file_read(path, AUDIT_ANCHOR_MAX_BYTES, &s->text, NULL) == DBE_OK &&
              audit_anchor_get((const char *)s->text.data, s->text.len, &a) == DBE_OK;
    s->size = a.size;
    if (s->good && a.has_note && audit_note_get(a.note.at, a.note.len, &note, &len) == DBE_OK) {
        s->noted = note.checkpoint.size;
        s->noted_ms = note.checkpoint.time_ms;
    }
}

static void age_text(uint64_t s, char out[24])
{
    if (s < 120)
        (void)snprintf(out, 24, "%" PRIu64 " s", s);
    else if (s < 7200)
        (void)snprintf(out, 24, "%" PRIu64 " min", s / 60);
    else if (s < 172800)
        (void)snprintf(out, 24, "%" PRIu64 " h", s / 3600);
    else
        (void)snprintf(out, 24, "%" PRIu64 " d", s / 86400);
}

static void show(const struct shown *s, json_t *all)
{
    char age[24], when[32] = "";

    age_text(s->age_s, age);
    if (s->noted > 0)
        audit_time_text(s->noted_ms, when);
    if (all != NULL)
        json_array_append_new(all,
                              json_pack("{s:s,s:b,s:b,s:I,s:I,s:s,s:I}", "name", s->name, "anchor", s->good, "conflict",
                                        s->conflict, "entries", (json_int_t)s->size, "checkpoint", (json_int_t)s->noted,
                                        "checkpoint_time", when, "age_s", (json_int_t)s->age_s));
    else if (s->good)
        printf("%-28s %10" PRIu64 " %10" PRIu64 "  %-24s %10s%s\n", s->name, s->size, s->noted, when, age,
               s->conflict ? "  CONFLICT" : "");
    else
        printf("%-28s is no anchor\n", s->name);
}

/* The one with this name; without a name, that of the largest log. */
static int export(const struct audit_options *o)
{
    struct shown best = {0}, s;
    struct dbe_diag diag = {0};
    dbe_err err = DBE_OK;

    for (size_t i = 0; i < o->found_count; i++) {
        look(o->found[i], &s);
        bool wanted = s.good && s.size > 0 &&
                      (o->text != NULL ? strcmp(o->text, s.name) == 0 : !s.conflict && s.size > best.size);
        struct shown rest = wanted ? best : s;
        if (wanted)
            best = s;
        base_buf_free(&rest.text);
    }
    if (best.size == 0)
        err = dbe_fail(&diag, DBE_E_NOT_FOUND, NULL, 0, "there is no anchor %s in %.120s",
                       o->text != NULL ? o->text : "", o->anchors_text);
    else
        err = base_file_write(o->out, best.text.data, best.text.len, 0644, &diag);
    base_buf_free(&best.text);
    if (err != DBE_OK)
        return cli_fail(CLI_FAILED, "audit anchor", err, &diag);
    printf("%s: the log of %" PRIu64 " entries, as %s saw it\n", o->out, best.size, best.name);
    return CLI_OK;
}

int cli_audit_anchor(struct audit_options *o)
{
    json_t *all = NULL;
    struct shown s;
    int code = CLI_OK;

    if (o->text != NULL && o->out == NULL)
        return cli_wrong("audit", "anchor %s needs --out FILE", o->text);
    cli_audit_find_anchors(o);
    if (o->out != NULL) {
        code = export(o);
    } else {
        all = o->json ? json_array() : NULL;
        if (!o->json)
            printf("%-28s %10s %10s  %-24s %10s\n", "SERVICE", "ENTRIES", "CHECKPOINT", "SIGNED", "AGE");
        for (size_t i = 0; i < o->found_count; i++) {
            look(o->found[i], &s);
            show(&s, all);
            base_buf_free(&s.text);
        }
        if (o->json)
            code = cli_print_json(all);
    }
    cli_audit_free_anchors(o);
    return code;
}

/* ---- archive ------------------------------------------------------------------------------------------------- */

/* "4096", "2026-11-30", "2026-11-30T12:00:00Z" or "30d" as the order's words. */
static bool before_words(const char *text, char out[64])
{
    const uint64_t now_ms = base_wall_ms();
    const char *end;
    char *rest;
    struct tm tm = {0};
    uint64_t n;

    if (cli_audit_number(text, &n)) {
        (void)snprintf(out, 64, "entry:%" PRIu64, n);
        return true;
    }
    errno = 0;
    unsigned long long days = strtoull(text, &rest, 10);
    if (text[0] >= '0' && text[0] <= '9' && errno == 0 && strcmp(rest, "d") == 0 && days <= 36500) {
        (void)snprintf(out, 64, "time:%" PRIu64, now_ms - BASE_MIN((uint64_t)days * 86400000, now_ms));
        return true;
    }
    end = strptime(text, "%Y-%m-%d", &tm);
    if (end != NULL && *end == 'T') {
        end = strptime(end, "T%H:%M:%SZ", &tm);
    }
    time_t at = timegm(&tm);
    if (end == NULL || *end != '\0' || at < 0)
        return false;
    (void)snprintf(out, 64, "time:%" PRIu64, (uint64_t)at * 1000);
    return true;
}

static json_t *find_log(json_t *mesh)
{
    json_t *service;
    size_t i;

    json_array_foreach(json_object_get(mesh, "services"), i, service)
    {
        const char *name = json_string_value(json_object_get(service, "name"));
        if (name != NULL && strcmp(name, "dsmil-audit") == 0)
            return service;
    }
    return NULL;
}

int cli_audit_archive(struct audit_options *o)
{
    char words[64], target[128];
    struct base_buf said = {0};
    struct dbe_diag diag = {0};

    if (o->before == NULL || !before_words(o->before, words))
        return cli_wrong("audit", "archive needs --before with 30d, 2026-11-30 or an entry's number");
    json_t *mesh = cli_mesh(&o->paths), *log = mesh != NULL ? find_log(mesh) : NULL;
    if (mesh == NULL)
        return CLI_NOT_UP;
    (void)snprintf(target, sizeof target, "/device/archive?value=%s", words);
    dbe_err err = log != NULL ? cli_service_ask(log, target, true, &said, &diag)
                              : dbe_fail(&diag, DBE_E_NOT_FOUND, NULL, 0, "this mesh keeps no audit log");
    if (err == DBE_OK)
        fputs(base_buf_cstr(&said), stdout);
    base_buf_free(&said);
    json_decref(mesh);
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_FAILED, "audit archive", err, &diag);
}
