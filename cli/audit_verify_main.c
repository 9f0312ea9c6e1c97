/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_verify_main.c - dsmil-audit-verify: checks a log of Device 14 by itself.
 *
 * A small program of its own: it opens no socket, runs no service, writes no file, and can be carried to another
 * machine together with a copy of the log and the CA's certificate.
 */
#include <stdio.h>
#include <string.h>

#include "cli/audit_key.h"

static int usage(FILE *out, int code)
{
    fputs(
        "usage: dsmil-audit-verify [--json] --keys DIR [--archive DIR] [--anchor FILE]... [--proof FILE] AUDIT-DIR\n\n"
        "  AUDIT-DIR       the log: segments, checkpoints, certs\n"
        "  --keys DIR      where ca.crt of the mesh lies, and ca.crl if there is one\n"
        "  --archive DIR   where segments lie that were put away (default: archive/ of AUDIT-DIR, if it is there)\n"
        "  --anchor FILE   what a service remembers of the log; may be given often\n"
        "  --proof FILE    verify this proof instead of the log\n"
        "  --json          one JSON object\n\n"
        "Exit codes: 0 right, 1 could not be read, 2 usage, 4 an entry was changed, removed, inserted or moved,\n"
        "5 a checkpoint or proof is not signed by Device 14 of this mesh or leads nowhere, 6 entries that a "
        "checkpoint\n"
        "or an anchor saw are missing or are others.\n",
        out);
    return code;
}

int main(int argc, char **argv)
{
    const char *anchors[AUDIT_ANCHORS_MAX], *keys = NULL, *dir = NULL, *proof = NULL, *archive = NULL;
    struct audit_place place;
    char found[AUDIT_PATH_MAX];
    size_t count = 0;
    bool json = false;

    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, AUDIT_EXIT_RIGHT);
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (argv[i][0] != '-' && dir == NULL) {
            dir = argv[i];
        } else if (strcmp(argv[i], "--keys") == 0 && next != NULL) {
            keys = argv[++i];
        } else if (strcmp(argv[i], "--archive") == 0 && next != NULL) {
            archive = argv[++i];
        } else if (strcmp(argv[i], "--proof") == 0 && next != NULL) {
            proof = argv[++i];
        } else if (strcmp(argv[i], "--anchor") == 0 && next != NULL && count < AUDIT_ANCHORS_MAX) {
            anchors[count++] = argv[++i];
        } else {
            return usage(stderr, AUDIT_EXIT_USAGE);
        }
    }
    if (dir == NULL || keys == NULL)
        return usage(stderr, AUDIT_EXIT_USAGE);
    if (proof != NULL)
        return audit_check_proof(dir, keys, proof, json);
    place = (struct audit_place){dir, archive != NULL ? archive : audit_find_archive(dir, found)};
    return audit_check_log(&place, keys, anchors, count, json);
}
