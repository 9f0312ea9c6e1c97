/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_priv.h - what the files of `dsmil keys` share: options as read, words for people, exit codes.
 */
#ifndef CLI_KEYS_PRIV_H
#define CLI_KEYS_PRIV_H

#include "cli/cli.h"
#include "dbe/identity.h"

enum { KEYS_TIME_BYTES = 24 };

struct keys_opts {
    char dir[CLI_PATH_MAX];
    const char *mesh, *name; /* name: --name, or the one plain word that a verb takes */
    const char *classification, *compartments, *reason, *fingerprint;
    struct dbe_issue what;
    struct dbe_seal seal;
    uint32_t days;
    bool json, device_set, role_set, revoke;
};

/* Read options and, with `takes_word`, at most one plain word. Anything but CLI_OK was said on stderr. */
int keys_options(int argc, char **argv, bool takes_word, struct keys_opts *o);
/* Ceilings of --classification and --compartments into the request: both or neither, what is not given keeps its
 * default. */
int keys_ceilings(struct keys_opts *o);
/* "dsmil: keys: what value" on stderr; CLI_USAGE. */
int keys_wrong(const char *what, const char *value);
/* Exit code of a library's error. */
int keys_code(dbe_err err);
/* "2026-11-21T03:40:00Z". */
void keys_time_text(uint64_t unix_ms, char ret[KEYS_TIME_BYTES]);
const char *keys_role_text(uint8_t role);
const char *keys_classification_text(uint8_t classification);
void keys_compartments_text(uint32_t mask, char *ret, size_t cap); /* "SOC,DEV" */
void keys_print_identity(const char *name, const struct dbe_identity *id);
json_t *keys_identity_json(const char *name, const struct dbe_identity *id);

/* Verbs; argv[0] is the verb. */
int keys_renew(int argc, char **argv);
int keys_revoke(int argc, char **argv);
int keys_verify(int argc, char **argv);
int keys_seal(int argc, char **argv);
int keys_bundle(int argc, char **argv);

#endif
