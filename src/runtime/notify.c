/* SPDX-License-Identifier: Apache-2.0
 *
 * notify.c - tell whoever started us: the ready descriptor, and the service manager's notification socket
 * (sd_notify(3)).
 *
 * Not:  no library; the protocol is one datagram of text. Failures are ignored: nobody may be listening.
 */
#include "runtime/priv.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void svc_notify(struct svc *svc, const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof addr.sun_path)
        return;
    memcpy(addr.sun_path, path, strlen(path));
    if (path[0] == '@')
        addr.sun_path[0] = '\0'; /* abstract */
    BASE_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&addr, len) < 0)
        svc_log(svc, SVC_DEBUG, NULL, "notification socket: %s", strerror(errno));
}

void svc_notify_ready(struct svc *svc)
{
    static const char word[] = "READY\n";
    int fd = (int)svc->cfg.ready_fd;

    if (fd > 0) {
        if (write(fd, word, sizeof word - 1) < 0)
            svc_log(svc, SVC_WARN, NULL, "ready descriptor %d: %s", fd, strerror(errno));
        close(fd);
        svc->cfg.ready_fd = 0;
    }
    svc_notify(svc, "READY=1\nSTATUS=ready\n");
}
