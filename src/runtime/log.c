/* SPDX-License-Identifier: Apache-2.0
 *
 * log.c - the log: one JSON object a line, written in one piece.
 *
 * In:   level, kind of event, message, the request it belongs to
 * Out:  timestamp, level, device_id, layer, service, event_type, message, and request_id, tenant, context where
 *       there is one
 * Not:  no secrets, no claim bytes, no payload: nobody passes them in. A line is bounded, and so are lines a
 *       second; what is left out is counted and said.
 */
#include "runtime/priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOG_MESSAGE_MAX = 1024 };

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

void svc_timestamp(uint64_t unix_ms, char out[32])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL)
        memset(&tm, 0, sizeof tm);
    size_t n = strftime(out, 24, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%03uZ", (unsigned)(unix_ms % 1000));
}

static void put_text(struct base_buf *b, const char *key, const char *text)
{
    base_buf_fmt(b, ",\"%s\":", key);
    base_json_str(b, text, strlen(text));
}

static void put_head(struct svc *svc, struct base_buf *b, enum svc_level level)
{
    char when[32];

    svc_timestamp(base_wall_ms(), when);
    base_buf_fmt(b, "{\"timestamp\":\"%s\",\"level\":\"%s\",\"device_id\":%u,\"layer\":%u", when, level_names[level],
                 svc->dev->device_id, svc->dev->layer);
    put_text(b, "service", svc->service);
}

static void put_event(struct base_buf *b, const struct svc_event *e)
{
    char id[37];

    if (e->request_id != NULL) {
        base_uuid_text(e->request_id, id);
        put_text(b, "request_id", id);
    }
    if (e->tenant != NULL && e->tenant[0] != '\0')
        put_text(b, "tenant", e->tenant);
    if (e->field_count == 0)
        return;
    for (size_t i = 0; i < e->field_count; i++) {
        const struct svc_field *f = &e->fields[i];
        base_buf_str(b, i == 0 ? ",\"context\":{" : ",");
        base_json_str(b, f->key, strlen(f->key));
        base_buf_str(b, ":");
        if (f->text != NULL)
            base_json_str(b, f->text, strlen(f->text));
        else
            base_buf_fmt(b, "%llu", (unsigned long long)f->number);
    }
    base_buf_str(b, "}");
}

static void write_line(struct svc *svc, const struct base_buf *b)
{
    size_t done = 0;

    while (done < b->len) {
        ssize_t n = write(svc->cfg.log_fd, b->data + done, b->len - done);
        if (n <= 0)
            return; /* a log that cannot be written has nobody left to tell */
        done += (size_t)n;
    }
}

/* One line. A message that makes it too long is left out of it rather than cut inside of an escape. */
static void emit(struct svc *svc, enum svc_level level, const struct svc_event *e, const char *message)
{
    uint8_t line[SVC_LOG_LINE_MAX];
    struct base_buf b;

    for (int with_message = 1; with_message >= 0; with_message--) {
        base_buf_init_fixed(&b, line, sizeof line);
        put_head(svc, &b, level);
        put_text(&b, "event_type", e->type != NULL ? e->type : "service");
        put_text(&b, "message", with_message ? message : "(line too long)");
        if (with_message)
            put_event(&b, e);
        base_buf_str(&b, "}\n");
        if (b.err == DBE_OK) {
            write_line(svc, &b);
            return;
        }
    }
}

/* True if this second has room for one more line. Says first how many the last seconds left out. */
static bool admit(struct svc *svc)
{
    uint64_t second = base_mono_ns() / BASE_NS_PER_S;

    if (second != svc->log_second) {
        uint64_t suppressed = svc->log_suppressed;
        svc->log_second = second;
        svc->log_lines = 0;
        svc->log_suppressed = 0;
        if (suppressed > 0) {
            const struct svc_field field = {.key = "lines", .number = suppressed};
            const struct svc_event e = {.type = "log_suppressed", .fields = &field, .field_count = 1};
            emit(svc, SVC_WARN, &e, "more log lines than a second takes were left out");
        }
    }
    if (svc->log_lines >= SVC_LOG_LINES_PER_S) {
        svc->log_suppressed++;
        return false;
    }
    svc->log_lines++;
    return true;
}

static void log_va(struct svc *svc, enum svc_level level, const struct svc_event *e, const char *fmt, va_list args)
    DBE_PRINTF(4, 0);
static void log_va(struct svc *svc, enum svc_level level, const struct svc_event *e, const char *fmt, va_list args)
{
    char message[LOG_MESSAGE_MAX];

    if (level < svc->cfg.level || !admit(svc))
        return;
    vsnprintf(message, sizeof message, fmt, args);
    emit(svc, level, e, message);
}

void svc_log_event(struct svc *svc, enum svc_level level, const struct svc_event *event, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_va(svc, level, event, fmt, args);
    va_end(args);
}

void svc_log(struct svc *svc, enum svc_level level, const struct svc_req *req, const char *fmt, ...)
{
    const struct svc_event e = {.request_id = req != NULL ? req->id : NULL,
                                .tenant = req != NULL ? req->labels.tenant : NULL};
    va_list args;

    va_start(args, fmt);
    log_va(svc, level, &e, fmt, args);
    va_end(args);
}
