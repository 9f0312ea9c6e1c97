/* SPDX-License-Identifier: Apache-2.0
 *
 * probe.h - speak DBE to the running router directly, with an identity of ten minutes, to show what it refuses.
 */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include "cli/cli.h"

enum probe_kind {
    PROBE_CONTROL,      /* the same request with nothing wrong: must be answered, or the others show nothing */
    PROBE_KINETIC,      /* compartment KINETIC beside SOC, under a valid claim */
    PROBE_EXEC,         /* classification EXEC to a layer 7 device */
    PROBE_FORGED_CLAIM, /* a claim signed by a key that is not the sender's */
    PROBE_FOREIGN_MESH, /* a node whose certificate another mesh's CA signed */
};

struct probe_result {
    bool answered;     /* a chat answer came back */
    bool at_handshake; /* refused before any message was read */
    dbe_err code;      /* the refusal's code, DBE_OK if answered */
    char rule[64], reason[256];
    double ms;
};

/* Run one probe against the router at run/l7-router.sock. An error means that the probe itself could not be made. */
dbe_err probe_run(const struct cli_paths *paths, enum probe_kind kind, struct probe_result *ret,
                  struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
