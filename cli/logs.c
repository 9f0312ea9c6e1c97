/* SPDX-License-Identifier: Apache-2.0
 *
 * logs.c - `dsmil logs`: the log files of all services as one, in the order of time.
 *
 * In:   <state>/log/NAME.log and the NAME.log.1 before it: JSON lines, lines of a crash, and whatever else a process
 *       said on its way out
 * Out:  one line each, for eyes or as JSON
 * Not:  a line's text may come from anywhere, so none of it steers the terminal.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
    SOURCES_MAX = 128,
    LINE_MAX_BYTES = 65536,
    FOLLOW_MS = 200,
    NAME_MAX_BYTES = 64,
    LEVELS = 4,
    ID_LEAST = 8,
    NAME_COLUMNS = 22
};

static const char *const level_names[LEVELS] = {"DEBUG", "INFO", "WARNING", "ERROR"};
static const int level_colours[LEVELS] = {2, 0, 33, 31};

/* One file that is read line by line, and the line that is next. */
struct source {
    char path[CLI_PATH_MAX], name[NAME_MAX_BYTES];
    FILE *file;
    struct base_buf line; /* complete if `ready`, else what there is of it so far */
    bool ready, rotated;
    json_t *entry;    /* NULL: the line is no JSON object */
    uint64_t time_ms; /* the line's; where it has none, that of the line before */
};

struct logs {
    const char *service, *request;
    int level;
    uint64_t since_ms;
    bool json, follow, colour;
    bool named; /* `service` is the name of a file, or stands in a line */
    struct cli_paths paths;
    struct source *sources;
    size_t count;
};

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil logs [OPTIONS]      what the services wrote, merged by time\n\n"
          "  -f, --follow       go on as they write more\n"
          "  --service NAME     this service alone, as `dsmil status` names it\n"
          "  --level LEVEL      this level and above: debug, info, warning, error\n"
          "  --request ID       lines of one request; the beginning of its id will do\n"
          "  --since DURATION   the last 90s, 15m, 4h or 2d\n"
          "  --json             JSON objects, one a line, as they were written\n",
          out);
    return code;
}

/* ---- what a line says ------------ */

/* "2026-01-31T12:00:00.123Z" as Unix milliseconds, 0 if it is none. */
static uint64_t parse_time(const char *text)
{
    struct tm tm = {0};
    const char *end = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    time_t seconds = end != NULL ? timegm(&tm) : -1;
    unsigned ms = 0;

    if (seconds < 0)
        return 0;
    if (*end == '.' && strspn(end + 1, "0123456789") == 3)
        ms = (unsigned)strtoul(end + 1, NULL, 10);
    return (uint64_t)seconds * 1000 + ms;
}

static int level_of(const char *text)
{
    for (int i = 0; text != NULL && i < LEVELS; i++)
        if (strcasecmp(text, level_names[i]) == 0)
            return i;
    return text != NULL && strcasecmp(text, "warn") == 0 ? 2 : -1;
}

static const char *text_of(const json_t *entry, const char *key)
{
    return json_string_value(json_object_get(entry, key));
}

static void understand(struct source *s)
{
    s->entry = json_loadb((const char *)s->line.data, s->line.len, 0, NULL);
    if (!json_is_object(s->entry)) {
        json_decref(s->entry);
        s->entry = NULL;
        return;
    }
    uint64_t at = parse_time(text_of(s->entry, "timestamp"));
    json_int_t unix_s = json_integer_value(json_object_get(s->entry, "unix_s")); /* of a crash, which has no calendar */
    if (at == 0 && unix_s > 0 && unix_s < INT64_C(100000000000))
        at = (uint64_t)unix_s * 1000;
    if (at != 0)
        s->time_ms = at;
}

/* ---- files ------------ */

static bool known(const struct logs *l, const char *path)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->sources[i].path, path) == 0)
            return true;
    return false;
}

static void add_source(struct logs *l, const char *path)
{
    const char *base = strrchr(path, '/') + 1;
    FILE *file;

    if (l->count == SOURCES_MAX || known(l, path) || (file = fopen(path, "re")) == NULL)
        return;
    struct source *s = &l->sources[l->count++];
    *s = (struct source){.file = file};
    snprintf(s->path, sizeof s->path, "%s", path);
    snprintf(s->name, sizeof s->name, "%.*s", (int)BASE_MIN(strcspn(base, "."), (size_t)NAME_MAX_BYTES - 1), base);
    base_buf_init(&s->line, LINE_MAX_BYTES);
}

static void find_sources(struct logs *l, bool older)
{
    char pattern[CLI_PATH_MAX + 16];
    glob_t found = {0};

    snprintf(pattern, sizeof pattern, "%s/*.log%s", l->paths.log, older ? ".1" : "");
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            add_source(l, found.gl_pathv[i]);
    globfree(&found);
}

/* At the end of the file: is another one at its path by now, or less of the same one? Then that is next. */
static bool reopen(struct source *s)
{
    struct stat here, there;

    if (fstat(fileno(s->file), &here) != 0 || stat(s->path, &there) != 0)
        return false;
    const bool same = here.st_ino == there.st_ino && here.st_dev == there.st_dev;
    if (same && there.st_size >= ftello(s->file))
        return false;
    if (!same && !s->rotated) {
        s->rotated = true; /* what was written between our last read and the renaming comes first */
        clearerr(s->file);
        return true;
    }
    FILE *file = fopen(s->path, "re");
    if (file == NULL)
        return false;
    fclose(s->file);
    s->file = file;
    s->rotated = false;
    return true;
}

/* Read up to the end of a line. A line that is too long keeps its beginning. */
static bool read_line(struct source *s)
{
    int c;

    while ((c = getc_unlocked(s->file)) != EOF) {
        if (c == '\n')
            return true;
        if (s->line.len < LINE_MAX_BYTES)
            base_buf_u8(&s->line, (uint8_t)c);
    }
    clearerr(s->file);
    return false;
}

static void fill(struct source *s, bool follow)
{
    while (!s->ready) {
        bool whole = read_line(s);
        if (!whole && follow && reopen(s))
            continue;
        s->ready = whole || (!follow && s->line.len > 0);
        if (!s->ready)
            return;
        if (s->line.len == 0)
            s->ready = false; /* an empty line */
        else
            understand(s);
    }
}

static void take(struct source *s)
{
    json_decref(s->entry);
    s->entry = NULL;
    s->ready = false;
    base_buf_clear(&s->line);
}

/* ---- choosing and showing ------------ */

/* Of the request whose id begins so, or, as the gateway writes of an HTTP request, with that in its message. */
static bool names_request(const json_t *entry, const char *id)
{
    const char *request = text_of(entry, "request_id"), *message = text_of(entry, "message");

    if (request != NULL)
        return strncasecmp(request, id, strlen(id)) == 0;
    return message != NULL && strlen(id) >= ID_LEAST && strcasestr(message, id) != NULL;
}

static bool wanted(struct logs *l, const struct source *s)
{
    const char *service = text_of(s->entry, "service");
    const int level = s->entry != NULL ? level_of(text_of(s->entry, "level")) : LEVELS - 1;
    const bool of_service =
        l->service == NULL || strcmp(l->service, s->name) == 0 || (service != NULL && strcmp(l->service, service) == 0);

    l->named = l->named || of_service;
    if (s->time_ms < l->since_ms || (level >= 0 && level < l->level))
        return false;
    if (!of_service)
        return false;
    return l->request == NULL || names_request(s->entry, l->request);
}

static void put_safe(struct base_buf *b, const char *text)
{
    base_text_shown(b, text, strlen(text), false);
}

static void put_fields(struct base_buf *b, const json_t *entry)
{
    static const char *const crash[] = {"pid", "ago_us", "number"};
    const json_t *value;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)json_object_get(entry, "context"), key, value)
    {
        char *plain = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        base_buf_str(b, "  ");
        put_safe(b, key);
        base_buf_str(b, "=");
        put_safe(b, json_is_string(value) ? json_string_value(value) : plain != NULL ? plain : "?");
        free(plain);
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(crash); i++)
        if (json_is_integer(json_object_get(entry, crash[i])))
            base_buf_fmt(b, "  %s=%lld", crash[i], (long long)json_integer_value(json_object_get(entry, crash[i])));
    if (text_of(entry, "tenant") != NULL) {
        base_buf_str(b, "  tenant=");
        put_safe(b, text_of(entry, "tenant"));
    }
    if (text_of(entry, "request_id") != NULL) {
        base_buf_str(b, "  request=");
        put_safe(b, text_of(entry, "request_id"));
    }
}

/* "2026-01-31 12:00:00.123 WARNING l7-router    policy_violation: what happened  key=value" */
static void show_line(const struct logs *l, const struct source *s)
{
    const char *service = text_of(s->entry, "service"), *type = text_of(s->entry, "event_type");
    const char *message = text_of(s->entry, "message");
    const bool crash = type != NULL && strcmp(type, "crash") == 0;
    const int level = s->entry != NULL ? level_of(text_of(s->entry, "level")) : -1;
    const int colour = crash ? 31 : level >= 0 ? level_colours[level] : 0;
    time_t seconds = (time_t)(s->time_ms / 1000);
    char when[32] = "-";
    struct base_buf b;
    struct tm tm;

    base_buf_init(&b, 4 * LINE_MAX_BYTES);
    if (s->time_ms != 0 && gmtime_r(&seconds, &tm) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    base_buf_fmt(&b, "%s.%03u ", when, (unsigned)(s->time_ms % 1000));
    if (l->colour && colour != 0)
        base_buf_fmt(&b, "\x1b[%dm", colour);
    base_buf_fmt(&b, "%-7s%s ",
                 crash        ? "CRASH"
                 : level >= 0 ? level_names[level]
                              : "-",
                 l->colour && colour != 0 ? "\x1b[0m" : "");
    size_t at = b.len;
    put_safe(&b, service != NULL ? service : s->name);
    while (b.err == DBE_OK && b.len < at + NAME_COLUMNS)
        base_buf_u8(&b, ' ');
    base_buf_u8(&b, ' ');
    if (type != NULL && !crash && strcmp(type, "service") != 0) {
        put_safe(&b, type);
        base_buf_str(&b, ": ");
    }
    if (message != NULL)
        put_safe(&b, message);
    else
        base_text_shown(&b, (const char *)s->line.data, s->line.len, false);
    put_fields(&b, s->entry);
    base_buf_u8(&b, '\n');
    fwrite(b.data, 1, b.len, stdout);
    base_buf_free(&b);
}

static void show_json(const struct source *s)
{
    if (s->entry != NULL) {
        fwrite(s->line.data, 1, s->line.len, stdout);
        putchar('\n');
        return;
    }
    struct base_buf b;
    base_buf_init(&b, 8 * LINE_MAX_BYTES);
    base_buf_str(&b, "{\"event_type\":\"text\",\"service\":");
    base_json_str(&b, s->name, strlen(s->name));
    base_buf_str(&b, ",\"message\":");
    base_json_str(&b, (const char *)s->line.data, s->line.len);
    base_buf_str(&b, "}\n");
    fwrite(b.data, 1, b.len, stdout);
    base_buf_free(&b);
}

/* The earliest line of all files; false if there is none now. */
static bool step(struct logs *l)
{
    struct source *first = NULL;

    for (size_t i = 0; i < l->count; i++) {
        struct source *s = &l->sources[i];
        fill(s, l->follow);
        if (s->ready && (first == NULL || s->time_ms < first->time_ms))
            first = s;
    }
    if (first == NULL)
        return false;
    if (wanted(l, first)) {
        if (l->json)
            show_json(first);
        else
            show_line(l, first);
    }
    take(first);
    return true;
}

/* By a line, or by a file without any. */
static bool is_named(struct logs *l)
{
    for (size_t i = 0; i < l->count && !l->named; i++)
        l->named = strcmp(l->service, l->sources[i].name) == 0;
    return l->named;
}

/* Nobody is called so, here. */
static int no_such_service(const struct logs *l)
{
    struct dbe_diag diag = {0};
    struct base_buf names;

    base_buf_init(&names, sizeof diag.text);
    for (size_t i = 0; i < l->count; i++) {
        const char *suffix = strrchr(l->sources[i].path, '.');
        if (strcmp(suffix, ".log") == 0) /* not its file before, ".log.1" */
            base_buf_fmt(&names, "%s%s", names.len > 0 ? ", " : "", l->sources[i].name);
    }
    dbe_err err = l->count == 0
                      ? dbe_fail(&diag, DBE_E_NOT_FOUND, NULL, 0, "nothing is logged in %.150s yet", l->paths.log)
                      : dbe_fail(&diag, DBE_E_NOT_FOUND, NULL, 0, "no service \"%.40s\"; there are %s", l->service,
                                 base_buf_cstr(&names));
    base_buf_free(&names);
    return cli_fail(CLI_USAGE, "logs", err, &diag);
}

static int run(struct logs *l)
{
    const struct timespec pause = {.tv_nsec = FOLLOW_MS * (long)BASE_NS_PER_MS};

    find_sources(l, true);
    for (;;) {
        find_sources(l, false);
        while (step(l)) {
            if (ferror(stdout))
                return CLI_FAILED;
        }
        if (fflush(stdout) != 0)
            return CLI_FAILED;
        if (l->service != NULL && !is_named(l))
            return no_such_service(l);
        cli_json_said(); /* a line each, and nothing beside them */
        if (!l->follow)
            return CLI_OK;
        nanosleep(&pause, NULL);
    }
}

/* ---- command line ------------ */

/* "90s", "15m", "4h", "2d" in milliseconds. */
static bool parse_duration(const char *text, uint64_t *ret_ms)
{
    static const struct {
        char unit;
        uint64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    const size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 8 || text[digits] == '\0' || text[digits + 1] != '\0')
        return false;
    for (size_t i = 0; i < BASE_ARRAY_LEN(units); i++)
        if (text[digits] == units[i].unit) {
            *ret_ms = strtoull(text, NULL, 10) * units[i].ms;
            return true;
        }
    return false;
}

static int parse(int argc, char **argv, struct logs *l)
{
    uint64_t ms, now = base_wall_ms();
    const char *v;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout, -1);
        if (strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--follow") == 0)
            l->follow = true;
        else if (strcmp(argv[i], "--json") == 0)
            l->json = true;
        else if ((v = cli_opt(argc, argv, &i, "--service")) != NULL)
            l->service = v;
        else if ((v = cli_opt(argc, argv, &i, "--request")) != NULL)
            l->request = v;
        else if ((v = cli_opt(argc, argv, &i, "--level")) != NULL && (l->level = level_of(v)) >= 0)
            continue;
        else if (v == NULL && (v = cli_opt(argc, argv, &i, "--since")) != NULL && parse_duration(v, &ms))
            l->since_ms = now > ms ? now - ms : 0;
        else
            return cli_wrong("logs", "\"%s\" is no option, or not with that value", argv[i]);
    }
    return CLI_OK;
}

int cli_logs(int argc, char **argv)
{
    static struct logs l;
    struct dbe_diag diag = {0};
    int code = parse(argc, argv, &l);
    dbe_err err;

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if ((err = cli_paths_init(&l.paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    l.sources = base_alloc(SOURCES_MAX, sizeof *l.sources);
    if (l.sources == NULL)
        return cli_fail(CLI_FAILED, "logs", DBE_E_NOMEM, NULL);
    l.colour = cli_colour(STDOUT_FILENO);
    code = run(&l);
    for (size_t i = 0; i < l.count; i++) {
        take(&l.sources[i]);
        base_buf_free(&l.sources[i].line);
        fclose(l.sources[i].file);
    }
    base_free(l.sources);
    return code;
}
