/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.c - `dsmil audit verify | tail | prove | anchor | archive`: the log of Device 14, read from its files; the mesh
 * need not be up, but for an archive, which Device 14 makes.
 *
 * In:   <state>/audit, <state>/anchors, the key store    Out: a verdict; the other verbs have a file each
 * Not:  it writes nothing into the log.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/audit.h"

enum { TAIL_DEFAULT = 20, TAIL_MAX = 100000 };

int cli_audit_usage(FILE *out, int code)
{
    fputs("usage: dsmil audit verify [--json] [--anchor FILE]... [--no-anchors] [--archive DIR] [--proof FILE]\n"
          "       dsmil audit tail [-f] [-n N] [--json] [--kind K] [--outcome allow|deny|ok|failed] [--tenant T]\n"
          "                        [--sender TEXT]\n"
          "       dsmil audit prove INDEX [--out FILE]\n"
          "       dsmil audit prove --from SIZE [--out FILE]\n"
          "       dsmil audit anchor [--json] | [NAME] --out FILE\n"
          "       dsmil audit archive --before ENTRY|DATE|DAYSd\n\n"
          "  --dir DIR      the log (default: audit/ in the state folder)\n"
          "  --keys DIR     the key store with ca.crt (default: that of the state folder)\n"
          "  --anchor FILE  what a service remembers of the log (default: all of anchors/ in the state folder)\n"
          "  --archive DIR  where segments lie that were put away (default: archive/ of the log, if it is there)\n"
          "  --before WHAT  put closed segments away that lie wholly before entry 4096, 2026-11-30, or 30d ago\n"
          "  --proof FILE   verify this proof instead of the log\n"
          "  --from SIZE    prove that the log still begins with the checkpoint of SIZE entries\n\n"
          "Exit codes of verify: 0 right, 1 could not be read, 2 usage, 4 an entry was changed, removed, inserted or\n"
          "moved, 5 a checkpoint or proof is not signed by Device 14 of this mesh or leads nowhere, 6 entries that a\n"
          "checkpoint or an anchor saw are missing or are others.\n",
          out);
    return code;
}

bool cli_audit_number(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* One option with a value; false: it is none, or its value is not good. */
static bool valued(struct audit_options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"--dir", &o->dir},       {"--keys", &o->keys},       {"--proof", &o->proof},
                 {"--out", &o->out},       {"--kind", &o->kind},       {"--tenant", &o->tenant},
                 {"--sender", &o->sender}, {"--outcome", &o->outcome}, {"--archive", &o->archive},
                 {"--before", &o->before}};

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
        return o->have_from = cli_audit_number(value, &o->from);
    return strcmp(name, "-n") == 0 && cli_audit_number(value, &o->lines) && o->lines > 0 && o->lines <= TAIL_MAX;
}

/* NULL, or the word that cannot be meant. */
static const char *parse(int argc, char **argv, struct audit_options *o)
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
            return argv[i];
    }
    return NULL;
}

static dbe_err find_places(struct audit_options *o, struct dbe_diag *diag)
{
    DBE_TRY(cli_paths_init(&o->paths, diag));
    DBE_TRY(cli_join(o->dir_text, sizeof o->dir_text, o->paths.state, "audit"));
    DBE_TRY(cli_join(o->anchors_text, sizeof o->anchors_text, o->paths.state, "anchors"));
    if (o->dir == NULL)
        o->dir = o->dir_text;
    if (o->keys == NULL)
        o->keys = o->paths.keys;
    o->place = (struct audit_place){o->dir, o->archive};
    if (o->archive == NULL)
        o->place.archive = audit_find_archive(o->dir, o->archive_text);
    return DBE_OK;
}

/* ---- verify -------------------------------------------------------------------------------------------------- */

/* A service that writes its anchor just now has a file beside it that is not whole and soon gone. */
static int is_anchor(const struct dirent *d)
{
    const char *suffix = strrchr(d->d_name, '.');

    return suffix == NULL || (suffix != d->d_name && strcmp(suffix, ".conflict") == 0);
}

void cli_audit_find_anchors(struct audit_options *o)
{
    struct dirent **names = NULL;
    char path[CLI_PATH_MAX];
    int count = scandir(o->anchors_text, &names, is_anchor, alphasort);

    for (int i = 0; i < count; i++) {
        if (o->found_count < AUDIT_ANCHORS_MAX &&
            cli_join(path, sizeof path, o->anchors_text, names[i]->d_name) == DBE_OK) {
            char *copy = base_strdup(path);
            if (copy != NULL)
                o->found[o->found_count++] = copy;
        }
        free(names[i]);
    }
    free(names);
}

void cli_audit_free_anchors(struct audit_options *o)
{
    while (o->found_count > 0)
        base_free(o->found[--o->found_count]);
}

static int verify(struct audit_options *o)
{
    cli_json_said(); /* what follows says it in each case */
    if (o->proof != NULL)
        return audit_check_proof(o->dir, o->keys, o->proof, o->json);
    if (o->anchor_count == 0 && !o->no_anchors && o->dir == o->dir_text) {
        cli_audit_find_anchors(o);
        for (size_t i = 0; i < o->found_count; i++)
            o->anchors[o->anchor_count++] = o->found[i];
    }
    int code = audit_check_log(&o->place, o->keys, o->anchors, o->anchor_count, o->json);
    cli_audit_free_anchors(o);
    return code;
}

int cli_audit(int argc, char **argv)
{
    static struct audit_options o; /* too large for a stack frame */
    static const struct {
        const char *name;
        int (*run)(struct audit_options *o);
    } verbs[] = {{"verify", verify},
                 {"tail", cli_audit_tail},
                 {"prove", cli_audit_prove},
                 {"anchor", cli_audit_anchor},
                 {"archive", cli_audit_archive}};
    struct dbe_diag diag = {0};

    size_t verb = 0;

    if (argc < 2)
        return cli_wrong("audit", "which verb?");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cli_audit_usage(stdout, CLI_OK);
    while (verb < BASE_ARRAY_LEN(verbs) && strcmp(argv[1], verbs[verb].name) != 0)
        verb++;
    if (verb == BASE_ARRAY_LEN(verbs))
        return cli_wrong("audit", "no verb \"%s\"", argv[1]);
    const char *odd = parse(argc, argv, &o);
    if (odd != NULL)
        return cli_wrong("audit", "\"%s\" is no option, or not with that value", odd);
    dbe_err err = find_places(&o, &diag);
    if (err != DBE_OK)
        return cli_fail(CLI_USAGE, "audit", err, &diag);
    return verbs[verb].run(&o);
}
