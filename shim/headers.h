/* SPDX-License-Identifier: Apache-2.0
 *
 * headers.h - decisions about single HTTP header values. Pure; values are hostile, NULL stands for an absent header.
 */
#ifndef SHIM_HEADERS_H
#define SHIM_HEADERS_H

#include "base/base.h"

/* Host names this very machine: localhost, 127.0.0.1 or [::1], with or without a port. A browser that was led here by a
 * name of somebody else's (DNS rebinding) sends that name. */
bool shim_host_is_local(const char *host);
/* Absent, or a page of this machine: http or https, local host. "null" (sandboxed pages, files) is foreign. */
bool shim_origin_is_local(const char *origin);
/* The key of "Bearer <key>", into the value; NULL: there is none. */
const char *shim_bearer(const char *authorization);
/* `authorization` is "Bearer <key>", compared in constant time. */
bool shim_bearer_matches(const char *authorization, const char *key);

#endif
