/* SPDX-License-Identifier: Apache-2.0
 *
 * words.c - how every verb speaks to people and reads its options.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

const char *cli_self = "dsmil";

static struct { /* for who reads JSON alone */
    bool said;
    dbe_err err;
    char text[sizeof((struct dbe_diag *)NULL)->text];
} json;

static void remember(dbe_err err, const char *text)
{
    json.err = err;
    snprintf(json.text, sizeof json.text, "%s", text);
}

int cli_fail(int code, const char *what, dbe_err err, const struct dbe_diag *diag)
{
    const char *why = diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(err);
    struct base_buf safe; /* it repeats what stands in files */

    base_buf_init(&safe, 2 * sizeof diag->text);
    base_text_shown(&safe, why, strlen(why), false);
    fprintf(stderr, "dsmil: %s: %s (%s)\n", what, base_buf_cstr(&safe), dbe_err_name(err));
    base_buf_free(&safe);
    remember(err, why);
    return code;
}

int cli_wrong(const char *verb, const char *fmt, ...)
{
    struct dbe_diag diag = {0};
    struct base_buf safe; /* it repeats what was typed, or what a script made of something else */
    va_list args;

    va_start(args, fmt);
    vsnprintf(diag.text, sizeof diag.text, fmt, args);
    va_end(args);
    base_buf_init(&safe, 2 * sizeof diag.text);
    base_text_shown(&safe, diag.text, strlen(diag.text), false);
    const char *space = verb[0] != '\0' ? " " : "";
    fprintf(stderr, "dsmil:%s%s%s %s; `dsmil%s%s --help` tells how\n", space, verb, verb[0] != '\0' ? ":" : "",
            base_buf_cstr(&safe), space, verb);
    base_buf_free(&safe);
    remember(DBE_E_ARGUMENT, diag.text);
    return CLI_USAGE;
}

int cli_json_alone(int argc, char **argv, const char *doc, bool *ret_json)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("usage: dsmil %s [--json]      %s\n", argv[0], doc);
        return -1;
    }
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--json") != 0)
            return cli_wrong(argv[0], "it takes no \"%s\"", argv[i]);
    *ret_json = argc > 1;
    return CLI_OK;
}

const char *cli_opt(int argc, char **argv, int *i, const char *name)
{
    size_t len = strlen(name);

    if (strncmp(argv[*i], name, len) != 0)
        return NULL;
    if (argv[*i][len] == '=')
        return argv[*i] + len + 1;
    if (argv[*i][len] != '\0' || *i + 1 >= argc)
        return NULL;
    return argv[++*i];
}

bool cli_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    const uint64_t n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || n < min || n > max)
        return false;
    *ret = n;
    return true;
}

bool cli_number(const char *text, double max, double *ret)
{
    char *end;
    const double n = strtod(text, &end);

    if (end == text || *end != '\0' || !(n >= 0 && n <= max))
        return false;
    *ret = n;
    return true;
}

void cli_json_said(void)
{
    json.said = true;
}

bool cli_failed_otherwise(void)
{
    return json.err != DBE_OK && json.err != DBE_E_UNAVAILABLE;
}

int cli_json_failure(int code)
{
    const dbe_err err = json.err != DBE_OK   ? json.err
                        : code == CLI_USAGE  ? DBE_E_ARGUMENT
                        : code == CLI_NOT_UP ? DBE_E_UNAVAILABLE
                                             : DBE_E_STATE;

    if (!json.said)
        (void)cli_print_json(json_pack("{s:{s:s,s:o}}", "error", "code", dbe_err_name(err), "message",
                                       cli_json_text(json.err != DBE_OK ? json.text : dbe_err_text(err))));
    return code;
}

int cli_print_json(json_t *obj)
{
    int rc = obj == NULL ? -1 : json_dumpf(obj, stdout, CLI_JSON_FLAGS);

    json.said = json.said || rc == 0;

    json_decref(obj);
    putchar('\n');
    return rc == 0 ? CLI_OK : CLI_FAILED;
}

json_t *cli_json_text(const char *text)
{
    json_t *ret = json_string(text);
    char *copy = ret == NULL ? base_strdup(text) : NULL;

    for (char *at = copy; at != NULL && *at != '\0'; at++)
        if ((*at & 0x80) != 0)
            *at = '?';
    if (copy != NULL)
        ret = json_string(copy);
    base_free(copy);
    return ret;
}

void cli_print_text(const char *text)
{
    struct base_buf safe;
    const size_t len = strlen(text);

    if (isatty(STDOUT_FILENO) != 1) {
        fputs(text, stdout);
        return;
    }
    base_buf_init(&safe, len + 1);
    base_text_shown(&safe, text, len, true);
    fwrite(safe.data, 1, safe.len, stdout);
    base_buf_free(&safe);
}

bool cli_colour(int fd)
{
    const char *no = getenv("NO_COLOR");
    return isatty(fd) == 1 && (no == NULL || no[0] == '\0');
}
