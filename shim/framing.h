/* SPDX-License-Identifier: Apache-2.0
 *
 * framing.h - is the head of a request one that everybody on its way reads alike? What two programs read differently
 * lets one of them take part of a body for a request of somebody else's.
 */
#ifndef SHIM_FRAMING_H
#define SHIM_FRAMING_H

#include "shim/server.h"

/* Look at all header lines of a request with this version ("HTTP/1.1"). DBE_OK: host, length, coding and credentials
 * are said once each and cannot be read in two ways. DBE_E_ARGUMENT: *p names what is wrong; the connection has to end
 * with that answer, since nobody knows where this request does. Source: RFC 9112, 3.2, 5.1, 6.1 and 6.3; RFC 9110,
 * 5.3. */
dbe_err shim_framing_check(struct MHD_Connection *connection, const char *version, struct shim_problem *p);

/* MHD_OPTION_UNESCAPE_CALLBACK. A text with "%00" stays as it came: paths are C strings from here on, and what follows
 * the NUL would be lost. Gives back the length of `text`. */
size_t shim_unescape(void *cls, struct MHD_Connection *connection, char *text);

#endif
