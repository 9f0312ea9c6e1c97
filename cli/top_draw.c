/* SPDX-License-Identifier: Apache-2.0
 *
 * top_draw.c - the view of `dsmil top` as lines, and the terminal it stands on.
 *
 * Not:  no curses: a cleared line, a cursor that goes home and the alternate screen are all that is needed, and every
 *       terminal of the last decades has them. Whatever ends the program, the terminal is as it was.
 */
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/top.h"

enum {
    FRAME_MAX_BYTES = 1 << 20,
    LINE_BYTES = 512,
    LOOK_MS = 1000,
    ROWS_DEFAULT = 24,
    COLUMNS_DEFAULT = 80,
    NAMES_LEAST = 12
};

/* ---- lines ------------ */

struct page {
    struct base_buf *out;
    size_t columns, rows, used;
    int names;         /* columns of the first column */
    bool colour, full; /* full: the terminal's, where lines end with what clears the rest */
};

static void put_line(struct page *p, const char *attribute, const char *text)
{
    size_t len = 0, columns = 0;

    if (p->rows > 0 && p->used == p->rows)
        return;
    while (text[len] != '\0') { /* whole characters */
        columns += ((uint8_t)text[len] & 0xC0) != 0x80;
        if (columns > p->columns)
            break;
        len++;
    }
    const bool styled = p->colour && attribute[0] != '\0';
    base_buf_fmt(p->out, "%s%s%s", styled ? "\x1b[" : "", styled ? attribute : "", styled ? "m" : "");
    base_buf_bytes(p->out, text, len);
    base_buf_str(p->out, styled ? "\x1b[0m" : "");
    base_buf_str(p->out, p->full ? "\x1b[K\n" : "\n");
    p->used++;
}

/* A number in six columns, or "-". */
static const char *shown(double value, char out[16])
{
    if (!isfinite(value))
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, fmin(value, 9999999));
    return out;
}

static const char *shown_bytes(double bytes, char out[16])
{
    static const char units[] = "BKMGT";
    size_t unit = 0;

    while (bytes >= 1024 && unit + 2 < sizeof units) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 16, unit > 0 && bytes < 10 ? "%.1f%c" : "%.0f%c", fmin(bytes, 99999), units[unit]);
    return out;
}

static const char *shown_time(double seconds, char out[16])
{
    const unsigned s = (unsigned)fmin(fmax(seconds, 0), 1e9);

    if (s < 100)
        snprintf(out, 16, "%us", s);
    else if (s < 6000)
        snprintf(out, 16, "%um", s / 60);
    else
        snprintf(out, 16, s < 360000 ? "%uh" : "%ud", s < 360000 ? s / 3600 : s / 86400);
    return out;
}

static void service_line(struct page *p, const struct top_service *s)
{
    const bool well = strcmp(s->health, "healthy") == 0;
    char line[LINE_BYTES], kv[16] = "-", n[9][16];

    if (s->kv_limit > 0)
        snprintf(kv, sizeof kv, "%.0f%%", fmin(100 * s->kv_used / s->kv_limit, 999));
    snprintf(line, sizeof line, "%-*s %4d %-9.9s %4.0f %6s %6s %6s %6s %6s %6s %5.0f %5.0f %4s %6s %5s %4d", p->names,
             s->name, s->device, well || strcmp(s->state, "ready") == 0 ? s->health : s->state, s->channels,
             shown(s->requests_s, n[0]), shown(s->now.tokens > 0 ? s->tokens_s : NAN, n[1]),
             shown(s->first_token_p50, n[2]), shown(s->first_token_p99, n[3]), shown(s->latency_p50, n[4]),
             shown(s->latency_p99, n[5]), fmin(s->in_flight, 99999), fmin(s->queued, 99999), kv,
             shown_bytes(s->memory, n[6]), shown_time(s->up_s, n[7]), s->restarts);
    put_line(p, well && s->scraped ? "" : "31", line);
}

static void draw(const struct top *t, struct page *p)
{
    double requests = 0, tokens = 0;
    p->names = NAMES_LEAST;
    char line[LINE_BYTES], a[16], b[16];

    if (!t->up) {
        put_line(p, "31", "the mesh is down; this goes on when it is up");
        return;
    }
    for (size_t i = 0; i < t->count; i++) {
        const struct top_service *s = &t->services[i];
        if (!s->seen)
            continue;
        p->names = BASE_MAX(p->names, (int)strlen(s->name));
        requests += s->now.http_requests > 0 && isfinite(s->requests_s) ? s->requests_s : 0;
        tokens += isfinite(s->tokens_s) ? s->tokens_s : 0;
    }
    snprintf(line, sizeof line, "mesh %.100s, gateway 127.0.0.1:%u, %s requests/s, %s tokens/s, %.200s", t->mesh,
             t->port, shown(requests, a), shown(tokens, b), t->model);
    put_line(p, "1", line);
    put_line(p, "", "");
    snprintf(line, sizeof line, "%*s %13s %13s", p->names + 34, "", "first ms", "latency ms");
    put_line(p, "2", line);
    snprintf(line, sizeof line, "%-*s %4s %-9s %4s %6s %6s %6s %6s %6s %6s %5s %5s %4s %6s %5s %4s", p->names,
             "service", "dev", "health", "chan", "req/s", "tok/s", "p50", "p99", "p50", "p99", "runs", "waits", "KV",
             "memory", "up", "died");
    put_line(p, "7", line);
    for (size_t i = 0; i < t->count; i++)
        if (t->services[i].seen)
            service_line(p, &t->services[i]);
    put_line(p, "", "");
    put_line(p, "1", t->rule_count > 0 ? "refused, by rule" : "nothing was refused");
    for (size_t i = 0; i < t->rule_count; i++) {
        struct base_buf rule;
        base_buf_init(&rule, 4 * TOP_RULE_BYTES);
        base_text_shown(&rule, t->rules[i].name, strlen(t->rules[i].name), false);
        snprintf(line, sizeof line, "  %-*s %10.0f", TOP_RULE_BYTES / 2, base_buf_cstr(&rule), t->rules[i].count);
        base_buf_free(&rule);
        put_line(p, "", line);
    }
}

void top_text(const struct top *t, size_t columns, size_t rows, bool colour, struct base_buf *out)
{
    struct page page = {.out = out, .columns = columns, .rows = rows, .colour = colour};

    draw(t, &page);
}

/* ---- the terminal ------------ */

static volatile sig_atomic_t ended, suspended;

static void on_signal(int signo)
{
    if (signo == SIGTSTP)
        suspended = 1;
    else if (signo != SIGWINCH) /* a new size only ends the wait */
        ended = 1;
}

static void say(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

/* True if what is typed comes to us key by key. */
static bool enter(struct termios *saved)
{
    struct termios keys;
    const bool typed = tcgetattr(STDIN_FILENO, saved) == 0;

    if (typed) {
        keys = *saved;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        keys.c_cc[VMIN] = 0;
        keys.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    say("\x1b[?1049h\x1b[?25l");
    return typed;
}

static void leave(const struct termios *saved, bool typed)
{
    say("\x1b[?25h\x1b[?1049l");
    if (typed)
        tcsetattr(STDIN_FILENO, TCSANOW, saved);
}

static void show(const struct top *t)
{
    struct winsize size = {.ws_row = ROWS_DEFAULT, .ws_col = COLUMNS_DEFAULT};
    struct base_buf frame;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2 || size.ws_col < 2)
        size = (struct winsize){.ws_row = ROWS_DEFAULT, .ws_col = COLUMNS_DEFAULT};
    base_buf_init(&frame, FRAME_MAX_BYTES);
    struct page page = {.out = &frame,
                        .columns = size.ws_col,
                        .rows = size.ws_row - 1u,
                        .colour = cli_colour(STDOUT_FILENO),
                        .full = true};
    base_buf_str(&frame, "\x1b[H");
    draw(t, &page);
    base_buf_str(&frame, "\x1b[J");
    fwrite(frame.data, 1, frame.len, stdout);
    fflush(stdout);
    base_buf_free(&frame);
}

/* Until the next look is due, or something happens. */
static void wait_until(const struct top *t, uint64_t due_ns, bool typed)
{
    for (;;) {
        const uint64_t now = base_mono_ns();
        struct pollfd pfd = {.fd = typed ? STDIN_FILENO : -1, .events = POLLIN};
        char key;

        if (ended != 0 || suspended != 0 || now >= due_ns)
            return;
        const int n = poll(&pfd, 1, (int)((due_ns - now) / BASE_NS_PER_MS) + 1);
        if (n < 0)
            show(t); /* the size may be another */
        if (n > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
            ended = 1;
    }
}

int top_live(struct top *t)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    const struct sigaction act = {.sa_handler = on_signal};
    struct sigaction old[BASE_ARRAY_LEN(signals)];
    struct termios saved;

    for (size_t i = 0; i < BASE_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &act, &old[i]);
    bool typed = enter(&saved);
    while (ended == 0) {
        const uint64_t due_ns = base_mono_ns() + LOOK_MS * (uint64_t)BASE_NS_PER_MS;
        top_look(t);
        show(t);
        wait_until(t, due_ns, typed);
        if (suspended != 0 && ended == 0) {
            leave(&saved, typed);
            suspended = 0;
            raise(SIGSTOP);
            typed = enter(&saved);
        }
    }
    leave(&saved, typed);
    for (size_t i = 0; i < BASE_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &old[i], NULL);
    return CLI_OK;
}
