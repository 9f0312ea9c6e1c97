/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.h - what the parts of `dsmil audit` share: the words of the command line, read once.
 */
#ifndef CLI_AUDIT_H
#define CLI_AUDIT_H

#include "cli/audit_key.h"
#include "cli/cli.h"

struct audit_options {
    const char *dir, *keys, *proof, *out, *kind, *tenant, *sender, *outcome, *archive, *before,
        *text; /* text: argument */
    const char *anchors[AUDIT_ANCHORS_MAX];
    size_t anchor_count;
    uint64_t from, lines;
    bool json, follow, have_from, no_anchors;
    char dir_text[CLI_PATH_MAX], anchors_text[CLI_PATH_MAX], archive_text[AUDIT_PATH_MAX];
    char *found[AUDIT_ANCHORS_MAX]; /* files of <state>/anchors; ours to free */
    size_t found_count;
    struct audit_place place; /* the log, and its archive where there is one */
    struct cli_paths paths;
};

int cli_audit_usage(FILE *out, int code);
bool cli_audit_number(const char *text, uint64_t *ret);
/* Every service's anchor in the state folder, and what it put aside when the log did not agree with it, as paths. */
void cli_audit_find_anchors(struct audit_options *o);
void cli_audit_free_anchors(struct audit_options *o);

/* One verb each; the exit code. */
int cli_audit_tail(struct audit_options *o);
int cli_audit_prove(struct audit_options *o);
int cli_audit_anchor(struct audit_options *o);
int cli_audit_archive(struct audit_options *o);

#endif
