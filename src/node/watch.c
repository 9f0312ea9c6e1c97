/* SPDX-License-Identifier: Apache-2.0
 *
 * watch.c - the key directory of a running node: a new list of revoked certificates is obeyed as soon as it is there.
 *
 * In:   inotify(7) on the directory, and a look at the file every second for where inotify does not reach
 * Out:  lists to the trust anchor, peers judged again, the owner told
 * Does not: load keys or certificates: the owner decides when its identity changes.
 */
#include "node_impl.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static const char clause[] = "key directory";
static const char file_name[] = "ca.crl";

/* What changes when the file does. */
struct file_mark {
    uint64_t inode, bytes, sec, nsec;
};

struct node_watch {
    struct dbe_node   *node;
    int                fd; /* inotify; -1: this system has none left, the look has to do */
    struct base_watch *watch;
    struct node_due    due;
    struct file_mark   mark;
    char               dir[PATH_MAX];
};

const char *watch_dir(const struct dbe_node *node)
{
    return node->watch != NULL ? node->watch->dir : NULL;
}

static struct file_mark mark_of(const char *dir)
{
    char path[PATH_MAX + sizeof file_name + 1];
    struct base_buf b;
    struct stat st;

    base_buf_init_fixed(&b, path, sizeof path);
    base_buf_fmt(&b, "%s/%s", dir, file_name);
    if (stat(base_buf_cstr(&b), &st) != 0)
        return (struct file_mark){0};
    return (struct file_mark){(uint64_t)st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                              (uint64_t)st.st_mtim.tv_nsec};
}

static bool same_mark(const struct file_mark *a, const struct file_mark *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->sec == b->sec && a->nsec == b->nsec;
}

/* Read the list if the file is another than before. One that cannot be read leaves the list before it in force, and is
 * told once. */
static void look(struct node_watch *w)
{
    struct dbe_node *node = w->node;
    const struct file_mark mark = mark_of(w->dir);
    struct dbe_diag diag = {0};

    if (same_mark(&mark, &w->mark))
        return;
    w->mark = mark; /* taken before the reading: what changes meanwhile is seen by the next look */
    dbe_err err = dbe_trust_load_revocations(node->config.trust, w->dir, &diag);
    if (err == DBE_OK || err == DBE_E_EXISTS)
        gossip_adopted(node, NULL);
    else if (err != DBE_E_NOT_FOUND && node->config.ops->on_revocations != NULL)
        node->config.ops->on_revocations(node->config.ctx, node->list_number, err, &diag);
}

static void next_look(struct node_watch *w)
{
    dues_set(&w->node->dues, &w->due, base_mono_ns() + (uint64_t)NODE_WATCH_LOOK_MS * BASE_NS_PER_MS);
}

static void on_due(struct node_due *due)
{
    struct node_watch *w = (struct node_watch *)(void *)((char *)due - offsetof(struct node_watch, due));

    next_look(w);
    look(w);
}

static void on_inotify(void *ctx, int fd, unsigned events)
{
    struct node_watch *w = ctx;
    struct dbe_node *node = w->node;
    char told[4096];

    (void)events;
    while (read(fd, told, sizeof told) > 0) /* what happened does not matter: the file itself is looked at */
        ;
    node_enter(node);
    look(w);
    node_leave(node);
}

static void open_inotify(struct node_watch *w)
{
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd < 0)
        return;
    if (inotify_add_watch(w->fd, w->dir, IN_CLOSE_WRITE | IN_MOVED_TO) < 0 ||
        base_loop_watch(w->node->loop, w->fd, BASE_LOOP_READ, on_inotify, w, &w->watch) != DBE_OK) {
        (void)close(w->fd);
        w->fd = -1;
    }
}

dbe_err dbe_node_watch_keys(struct dbe_node *node, const char *dir, struct dbe_diag *diag)
{
    struct stat st;

    if (node->watch != NULL)
        return dbe_fail(diag, DBE_E_STATE, clause, 0, "a node watches one key directory");
    if (strlen(dir) >= sizeof node->watch->dir)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "the path is too long");
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return dbe_fail(diag, DBE_E_NOT_FOUND, clause, 0, "%.120s is no directory", dir);
    struct node_watch *w = base_alloc(1, sizeof *w);
    if (w == NULL || dues_reserve(&node->dues, &w->due, on_due) != DBE_OK) {
        base_free(w);
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to watch %.100s", dir);
    }
    w->node = node;
    memcpy(w->dir, dir, strlen(dir) + 1);
    open_inotify(w);
    node->watch = w;
    node_enter(node);
    next_look(w);
    look(w);
    node_leave(node);
    return DBE_OK;
}

void watch_free(struct dbe_node *node)
{
    struct node_watch *w = node->watch;

    if (w == NULL)
        return;
    dues_release(&node->dues, &w->due);
    base_watch_free(w->watch);
    base_close_p(&w->fd);
    base_free(w);
    node->watch = NULL;
}
