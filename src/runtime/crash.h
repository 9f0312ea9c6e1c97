/* SPDX-License-Identifier: Apache-2.0
 *
 * crash.h - the last words of a service that dies of a fault: what it was doing, written by the signal handler.
 *
 * A ring of the last CRASH_NOTES events lies in memory that is always there; the handler turns it into log lines with
 * nothing but write(2). No payload, no key and no claim ever stands in it.
 */
#ifndef RUNTIME_CRASH_H
#define RUNTIME_CRASH_H

#include "base/base.h"

enum { CRASH_NOTES = 64 };

/* Take over SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGSYS. `service` is copied. The signal's default action
 * follows once the lines are written, so that whoever waits for the process sees what killed it. */
void svc_crash_install(const char *service, int log_fd);
/* Remember an event: `what` is static text, `id` 16 bytes or NULL. The loop's thread alone. A few nanoseconds. */
void svc_crash_note(const char *what, const uint8_t *id, uint64_t number);

#endif
