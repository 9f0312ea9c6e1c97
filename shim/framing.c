/* SPDX-License-Identifier: Apache-2.0
 *
 * framing.c - see framing.h.
 *
 * In:   header lines as the HTTP library split them (hostile)
 * Out:  yes, or a refusal that names the line
 * Not:  no meaning of their values beyond where a request ends (headers.c). The library cuts a line at a NUL and takes
 *       a lone CR for its end, so neither is seen here.
 */
#include "shim/framing.h"

#include <string.h>
#include <strings.h>

enum once { HOST, LENGTH, CODING, AUTHORIZATION, ORIGIN, ROE_TOKEN, ONCE_COUNT };

static const char *const once_names[ONCE_COUNT] = {
    [HOST] = "Host",
    [LENGTH] = MHD_HTTP_HEADER_CONTENT_LENGTH,
    [CODING] = MHD_HTTP_HEADER_TRANSFER_ENCODING,
    [AUTHORIZATION] = MHD_HTTP_HEADER_AUTHORIZATION,
    [ORIGIN] = "Origin",
    [ROE_TOKEN] = "DSMIL-ROE-Token",
};

struct lines {
    const char *value[ONCE_COUNT];
    bool bad_name;     /* a name that is no token: "Host " is not Host to everybody */
    const char *twice; /* name of a line that stands there again */
};

static bool is_token(const char *name, size_t len)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return len > 0 && strlen(name) == len && strspn(name, token) == len;
}

static enum MHD_Result on_line(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value,
                               size_t value_len)
{
    struct lines *lines = cls;

    (void)kind;
    (void)value_len;
    if (!is_token(name, name_len)) {
        lines->bad_name = true;
        return MHD_YES;
    }
    for (size_t i = 0; i < ONCE_COUNT; i++) {
        if (strcasecmp(name, once_names[i]) != 0)
            continue;
        if (lines->value[i] != NULL)
            lines->twice = once_names[i];
        lines->value[i] = value != NULL ? value : "";
    }
    return MHD_YES;
}

static dbe_err check_coding(const struct lines *lines, const char *version, struct shim_problem *p)
{
    const char *coding = lines->value[CODING];

    if (coding == NULL)
        return DBE_OK;
    if (lines->value[LENGTH] != NULL)
        return shim_problem_set(p, 400, "invalid_header", once_names[CODING],
                                "A request has either 'Content-Length' or 'Transfer-Encoding', not both.");
    if (strcmp(version, "HTTP/1.0") == 0)
        return shim_problem_set(p, 400, "invalid_header", once_names[CODING],
                                "Requests of HTTP/1.0 have no 'Transfer-Encoding'.");
    if (strcasecmp(coding, "chunked") != 0)
        return shim_problem_set(p, 400, "unsupported_value", once_names[CODING],
                                "Invalid 'Transfer-Encoding': only 'chunked' is supported.");
    return DBE_OK;
}

dbe_err shim_framing_check(struct MHD_Connection *connection, const char *version, struct shim_problem *p)
{
    struct lines lines = {0};

    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_line, &lines);
    if (lines.bad_name)
        return shim_problem_set(p, 400, "invalid_header", NULL, "The name of a header is no token of HTTP.");
    if (lines.twice != NULL)
        return shim_problem_set(p, 400, "invalid_header", lines.twice, "The header '%s' is given more than once.",
                                lines.twice);
    return check_coding(&lines, version, p);
}

size_t shim_unescape(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strstr(text, "%00") != NULL ? strlen(text) : MHD_http_unescape(text);
}
