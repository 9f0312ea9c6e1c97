/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.h - which system calls a running service may still make (seccomp(2), by libseccomp).
 */
#ifndef RUNTIME_SANDBOX_H
#define RUNTIME_SANDBOX_H

#include "base/base.h"

/* Narrow this process, all threads of it and those to come, for good. What is allowed: reading and writing what is
 * open, opening files, Unix sockets, memory that is not writable and executable at once, threads, time. What no service
 * ever does - starting a program, tracing, mounting, new namespaces, loading code into the kernel - raises SIGSYS and
 * ends it; any other call answers EPERM. Needs no privilege but PR_SET_NO_NEW_PRIVS, which must be set.
 * E_UNSUPPORTED: the kernel has no seccomp; nothing changed. */
dbe_err svc_sandbox_enter(struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
