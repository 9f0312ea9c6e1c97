/* SPDX-License-Identifier: Apache-2.0
 *
 * words.c - how every verb speaks to people and reads its options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

const char *cli_self = "dsmil";

int cli_fail(int code, const char *what, dbe_err err, const struct dbe_diag *diag)
{
    const char *why = diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(err);

    fprintf(stderr, "dsmil: %s: %s (%s)\n", what, why, dbe_err_name(err));
    return code;
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

int cli_print_json(json_t *obj)
{
    int rc = obj == NULL ? -1 : json_dumpf(obj, stdout, CLI_JSON_FLAGS);

    json_decref(obj);
    putchar('\n');
    return rc == 0 ? CLI_OK : CLI_FAILED;
}

bool cli_colour(int fd)
{
    const char *no = getenv("NO_COLOR");
    return isatty(fd) == 1 && (no == NULL || no[0] == '\0');
}
