/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.c - `dsmil audit verify | tail | prove`: the log of Device 14, read from its files; the mesh need not be up.
 *
 * In:   <state>/audit, <state>/anchors, the key store    Out: a verdict, entries, a proof as a file
 * Not:  it writes nothing into the log.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/audit_key.h"
#include "cli/cli.h"

enum { TAIL_DEFAULT = 20, TAIL_MAX = 100000, FOLLOW_MS = 200 };

struct options {
    const char *dir, *keys, *proof, *out, *kind, *tenant, *sender, *outcome, *text; /* text: the argument */
    const char *anchors[AUDIT_ANCHORS_MAX];
    size_t anchor_count;
    uint64_t from, lines;
    bool json, follow, have_from, no_anchors;
    char dir_text[CLI_PATH_MAX], anchors_text[CLI_PATH_MAX];
    char *found[AUDIT_ANCHORS_MAX]; /* files of <state>/anchors; ours to free */
    struct cli_paths paths;
};

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil audit verify [--json] [--anchor FILE]... [--no-anchors] [--proof FILE]\n"
          "       dsmil audit tail [-f] [-n N] [--json] [--kind K] [--outcome allow|deny|ok|failed] [--tenant T]\n"
          "                        [--sender TEXT]\n"
          "       dsmil audit prove INDEX [--out FILE]\n"
          "       dsmil audit prove --from SIZE [--out FILE]\n\n"
          "  --dir DIR      the log (default: audit/ in the state folder)\n"
          "  --keys DIR     the key store with ca.crt (default: that of the state folder)\n"
          "  --anchor FILE  what a service remembers of the log (default: all of anchors/ in the state folder)\n"
          "  --proof FILE   verify this proof instead of the log\n"
          "  --from SIZE    prove that the log still begins with the checkpoint of SIZE entries\n\n"
          "Exit codes of verify: 0 right, 1 could not be read, 2 usage, 4 an entry was changed, removed, inserted or\n"
          "moved, 5 a checkpoint or proof is not signed by Device 14 of this mesh or leads nowhere, 6 entries that a\n"
          "checkpoint or an anchor saw are missing or are others.\n",
          out);
    return code;
}

static bool number(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* One option with a value; false: it is none, or its value is not good. */
static bool valued(struct options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"--dir", &o->dir},   {"--keys", &o->keys},     {"--proof", &o->proof},   {"--out", &o->out},
                 {"--kind", &o->kind}, {"--tenant", &o->tenant}, {"--sender", &o->sender}, {"--outcome", &o->outcome}};

    if (value == NULL)
        return false;
    for (size_t i = 0; i < BASE_ARRAY_LEN(texts); i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].to = value;
            return true;
        }
    if (strcmp(name, "--anchor") == 0 && o->anchor_count < AUDIT_ANCHORS_MAX) {
        o->anchors[o->anchor_count++] = value;
        return true;
    }
    if (strcmp(name, "--from") == 0)
        return o->have_from = number(value, &o->from);
    return strcmp(name, "-n") == 0 && number(value, &o->lines) && o->lines > 0 && o->lines <= TAIL_MAX;
}

static bool parse(int argc, char **argv, struct options *o)
{
    o->lines = TAIL_DEFAULT;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            o->json = true;
        else if (strcmp(argv[i], "-f") == 0)
            o->follow = true;
        else if (strcmp(argv[i], "--no-anchors") == 0)
            o->no_anchors = true;
        else if (argv[i][0] != '-' && o->text == NULL)
            o->text = argv[i];
        else if (i + 1 < argc && valued(o, argv[i], argv[i + 1]))
            i++;
        else
            return false;
    }
    return true;
}

static dbe_err find_places(struct options *o, struct dbe_diag *diag)
{
    DBE_TRY(cli_paths_init(&o->paths, diag));
    DBE_TRY(cli_join(o->dir_text, sizeof o->dir_text, o->paths.state, "audit"));
    DBE_TRY(cli_join(o->anchors_text, sizeof o->anchors_text, o->paths.state, "anchors"));
    if (o->dir == NULL)
        o->dir = o->dir_text;
    if (o->keys == NULL)
        o->keys = o->paths.keys;
    return DBE_OK;
}

/* ---- verify -------------------------------------------------------------------------------------------------- */

/* A service that writes its anchor just now has a file beside it that is not whole and soon gone. */
static int is_anchor(const struct dirent *d)
{
    const char *suffix = strrchr(d->d_name, '.');

    return suffix == NULL || (suffix != d->d_name && strcmp(suffix, ".conflict") == 0);
}

/* Every service's anchor, and what it put aside when the log did not agree with it. */
static void find_anchors(struct options *o)
{
    struct dirent **names = NULL;
    char path[CLI_PATH_MAX];
    int count = scandir(o->anchors_text, &names, is_anchor, alphasort);

    for (int i = 0; i < count; i++) {
        if (o->anchor_count < AUDIT_ANCHORS_MAX &&
            cli_join(path, sizeof path, o->anchors_text, names[i]->d_name) == DBE_OK) {
            char *copy = base_strdup(path);
            o->found[o->anchor_count] = copy;
            if (copy != NULL)
                o->anchors[o->anchor_count++] = copy;
        }
        free(names[i]);
    }
    free(names);
}

static int verify(struct options *o)
{
    if (o->proof != NULL)
        return audit_check_proof(o->dir, o->keys, o->proof, o->json);
    if (o->anchor_count == 0 && !o->no_anchors && o->dir == o->dir_text)
        find_anchors(o);
    int code = audit_check_log(o->dir, o->keys, o->anchors, o->anchor_count, o->json);
    for (size_t i = 0; i < AUDIT_ANCHORS_MAX; i++)
        base_free(o->found[i]);
    return code;
}

/* ---- tail ---------------------------------------------------------------------------------------------------- */

struct tail {
    const struct options *o;
    char **ring; /* the last `lines` that fit the filter */
    uint64_t seen;
    bool printing; /* the ring was printed: print as they come */
};

static bool is(const json_t *line, const char *key, const char *want)
{
    const char *have = json_string_value(json_object_get(line, key));

    return want == NULL || (have != NULL && strcmp(have, want) == 0);
}

static bool fits(const struct options *o, const json_t *line)
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

static void print_line(const struct options *o, const char *bytes)
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

static int tail(struct options *o)
{
    struct tail t = {.o = o, .ring = base_alloc((size_t)o->lines, sizeof(char *))};
    const struct timespec pause = {.tv_nsec = FOLLOW_MS * BASE_NS_PER_MS};
    struct audit_scan_end end = {0};
    struct audit_finding f = {0};
    struct dbe_diag diag = {0};
    dbe_err err = t.ring != NULL ? DBE_OK : DBE_E_NOMEM;

    while (err == DBE_OK) {
        err = audit_scan_more(o->dir, on_entry, &t, &end, &f, &diag);
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

/* ---- prove --------------------------------------------------------------------------------------------------- */

struct proving {
    struct audit_prover *prover;
    uint64_t index, size;
    bool inclusion;
    struct base_buf line;
};

static dbe_err on_leaf(void *ctx, const struct audit_line *line, const char *bytes, size_t len,
                       const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct proving *p = ctx;

    if (line->index >= p->size)
        return DBE_OK;
    if (p->inclusion && line->index == p->index)
        base_buf_bytes(&p->line, bytes, len);
    return audit_prover_leaf(p->prover, leaf);
}

/* The last checkpoint, and the one of `size` entries if that is asked for. */
static dbe_err find_notes(const struct base_buf *all, uint64_t size, struct audit_text *ret_last,
                          struct audit_text *ret_older, struct dbe_diag *diag)
{
    const char *at = (const char *)all->data, *end = at + all->len;
    struct audit_note n;
    size_t len;

    while (at < end && audit_note_get(at, (size_t)(end - at), &n, &len) == DBE_OK) {
        *ret_last = (struct audit_text){at, len};
        if (n.checkpoint.size == size)
            *ret_older = *ret_last;
        at += len;
    }
    if (ret_last->len == 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "there is no checkpoint yet");
    return DBE_OK;
}

static dbe_err plan(const struct options *o, const struct base_buf *notes, struct proving *p,
                    struct audit_proof_file *file, struct audit_text *last, struct audit_text *older,
                    struct dbe_diag *diag)
{
    size_t len;

    DBE_TRY(find_notes(notes, o->have_from ? o->from : UINT64_MAX, last, older, diag));
    DBE_TRY(audit_note_get(last->at, last->len, &file->note, &len));
    p->size = file->note.checkpoint.size;
    p->inclusion = !o->have_from;
    file->consistency = o->have_from;
    if (o->have_from) {
        if (older->len == 0)
            return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "there is no checkpoint of %" PRIu64 " entries", o->from);
        return audit_prover_consistency(o->from, p->size, &p->prover);
    }
    file->index = p->index;
    if (p->index >= p->size)
        return dbe_fail(diag, DBE_E_RANGE, NULL, 0, "the last checkpoint covers entries 0 to %" PRIu64 " alone",
                        p->size - 1);
    return audit_prover_inclusion(p->index, p->size, &p->prover);
}

static dbe_err make_proof(const struct options *o, uint64_t index, struct base_buf *out, struct dbe_diag *diag)
{
    struct proving p = {.index = index};
    struct audit_proof_file file = {0};
    struct audit_text last = {0}, older = {0};
    struct base_buf notes = {0};
    struct audit_scan_end end;
    struct audit_finding f = {0};

    base_buf_init(&p.line, AUDIT_LINE_MAX);
    dbe_err err = audit_read_checkpoints(o->dir, &notes, diag);
    if (err == DBE_OK)
        err = plan(o, &notes, &p, &file, &last, &older, diag);
    if (err == DBE_OK)
        err = audit_scan(o->dir, on_leaf, &p, &end, &f, diag);
    if (err == DBE_OK)
        err = audit_prover_finish(p.prover, &file.proof);
    file.line = (struct audit_text){(const char *)p.line.data, p.line.len};
    if (err == DBE_OK)
        err = audit_proof_put(&file, older, last, out);
    audit_prover_free(p.prover);
    base_buf_free(&notes);
    base_buf_free(&p.line);
    return err;
}

static int prove(struct options *o)
{
    struct base_buf out;
    struct dbe_diag diag = {0};
    uint64_t index = 0;

    if ((o->text == NULL) != o->have_from || (o->text != NULL && !number(o->text, &index)))
        return usage(stderr, CLI_USAGE);
    base_buf_init(&out, 1 << 20);
    dbe_err err = make_proof(o, index, &out, &diag);
    if (err == DBE_OK && o->out != NULL)
        err = base_file_write(o->out, out.data, out.len, 0644, &diag);
    else if (err == DBE_OK)
        fwrite(out.data, 1, out.len, stdout);
    base_buf_free(&out);
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_FAILED, "audit prove", err, &diag);
}

int cli_audit(int argc, char **argv)
{
    static struct options o; /* too large for a stack frame */
    static const struct {
        const char *name;
        int (*run)(struct options *o);
    } verbs[] = {{"verify", verify}, {"tail", tail}, {"prove", prove}};
    struct dbe_diag diag = {0};

    if (argc < 2)
        return usage(stderr, CLI_USAGE);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout, CLI_OK);
    if (!parse(argc, argv, &o))
        return usage(stderr, CLI_USAGE);
    dbe_err err = find_places(&o, &diag);
    if (err != DBE_OK)
        return cli_fail(CLI_FAILED, "audit", err, &diag);
    for (size_t i = 0; i < BASE_ARRAY_LEN(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(&o);
    return usage(stderr, CLI_USAGE);
}
