/* SPDX-License-Identifier: Apache-2.0
 *
 * headers.c - Host, Origin and Authorization: is this value acceptable?
 *
 * In:   header values as a client sent them
 * Out:  yes or no
 * Not:  no HTTP parsing (libmicrohttpd's), no state
 */
#include "shim/headers.h"

#include <string.h>
#include <strings.h>

enum { PORT_DIGITS_MAX = 5 };

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits > 0 && digits <= PORT_DIGITS_MAX && text[digits] == '\0';
}

bool shim_host_is_local(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

    if (host == NULL)
        return false;
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i]);
        if (strncasecmp(host, names[i], len) == 0 &&
            (host[len] == '\0' || (host[len] == ':' && is_port(host + len + 1))))
            return true;
    }
    return false;
}

bool shim_origin_is_local(const char *origin)
{
    if (origin == NULL)
        return true;
    if (strncasecmp(origin, "http://", 7) == 0)
        return shim_host_is_local(origin + 7);
    if (strncasecmp(origin, "https://", 8) == 0)
        return shim_host_is_local(origin + 8);
    return false;
}

const char *shim_bearer(const char *authorization)
{
    if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    return authorization + 7 + strspn(authorization + 7, " ");
}

bool shim_bearer_matches(const char *authorization, const char *key)
{
    const char *given = shim_bearer(authorization);

    if (given == NULL || key == NULL || key[0] == '\0')
        return false;
    size_t len = strlen(key); /* the length of the key is no secret; its bytes are */
    return strlen(given) == len && base_equal_ct(given, key, len);
}
