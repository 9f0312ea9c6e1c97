/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_http_client.c - whatever the other side of `dsmil ask` answers: head, chunks, lengths, event lines.
 *
 * In:   an answer, as it would come over the socket; the first byte chooses whether it is read as an event stream
 * Not:  the request is ours and not fuzzed
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"

enum { INPUT_MAX = 65536 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *ctx, const char *json, size_t len)
{
    *(size_t *)ctx += len + (size_t)json[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cli_http_result res = {0};
    struct cli_sse sse;
    size_t seen = 0;
    int pair[2], room = INPUT_MAX * 2;

    if (size < 1 || size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return 0;
    cli_sse_init(&sse, on_event, &seen);
    const struct cli_http req = {
        .path = "/", .timeout_ms = 1000, .on_data = (data[0] & 1) != 0 ? cli_sse_feed : NULL, .ctx = &sse};
    if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0 &&
        send(pair[1], data + 1, size - 1, MSG_DONTWAIT) == (ssize_t)(size - 1) && shutdown(pair[1], SHUT_WR) == 0 &&
        cli_http_fd(&req, pair[0], &res, NULL) == DBE_OK)
        base_buf_free(&res.body);
    cli_sse_free(&sse);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
