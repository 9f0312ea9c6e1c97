/* SPDX-License-Identifier: Apache-2.0
 *
 * model_file.c - a model's file while it is loaded, and its digest.
 *
 * The file is opened once, so that a file that takes its name meanwhile is of no effect. One that is written to in
 * place shows in its times: a file system takes these from a clock of few milliseconds, so a file that was changed just
 * now is waited for first, until another change could not go by the same time.
 */
#include "devices/l7_worker/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

enum { CHUNK_BYTES = 1 << 20, TICK_MS = 20 };

static void *digest_file(void *ctx)
{
    struct model_file *f = ctx;
    struct crypto_hash *hash = NULL;
    BASE_AUTO_FREE uint8_t *chunk = base_alloc(1, CHUNK_BYTES);
    off_t at = 0;
    ssize_t n = 1;

    f->err = chunk ? crypto_hash_new(&hash) : DBE_E_NOMEM;
    while (f->err == DBE_OK && n > 0) {
        n = pread(f->fd, chunk, CHUNK_BYTES, at);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        f->err = n < 0 ? DBE_E_IO : n > 0 ? crypto_hash_update(hash, chunk, (size_t)n) : DBE_OK;
        at += n;
    }
    if (f->err == DBE_OK)
        f->err = crypto_hash_peek(hash, f->digest);
    crypto_hash_free(hash);
    return NULL;
}

static uint64_t changed_ms(const struct stat *st)
{
    return (uint64_t)st->st_ctim.tv_sec * 1000 + (uint64_t)st->st_ctim.tv_nsec / 1000000;
}

dbe_err model_file_begin(struct model_file *f, const char *path, struct dbe_diag *diag)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
    dbe_err err = DBE_OK;

    *f = (struct model_file){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (f->fd < 0)
        return dbe_fail(diag, errno == ENOENT ? DBE_E_NOT_FOUND : DBE_E_IO, "model", 0, "%.120s: %s", path,
                        strerror(errno));
    if (fstat(f->fd, &f->before) != 0 || !S_ISREG(f->before.st_mode))
        err = dbe_fail(diag, DBE_E_IO, "model", 0, "%.120s: not a regular file", path);
    const uint64_t now = base_wall_ms();
    if (err == DBE_OK && now >= changed_ms(&f->before) && now - changed_ms(&f->before) < TICK_MS) {
        (void)nanosleep(&tick, NULL);
        if (fstat(f->fd, &f->before) != 0)
            err = dbe_fail(diag, DBE_E_IO, "model", 0, "%.120s: %s", path, strerror(errno));
    }
    if (err == DBE_OK && pthread_create(&f->thread, NULL, digest_file, f) != 0)
        err = dbe_fail(diag, DBE_E_NOMEM, "model", 0, "no thread for the digest of the model");
    if (err != DBE_OK)
        (void)close(f->fd);
    return err;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

dbe_err model_file_end(struct model_file *f, char ret_hex[MODEL_FILE_HEX], struct dbe_diag *diag)
{
    struct stat after;

    (void)pthread_join(f->thread, NULL);
    /* the time of change also moves when another file takes the name, which the count of links tells */
    const bool same = fstat(f->fd, &after) == 0 && after.st_size == f->before.st_size &&
                      same_time(&after.st_mtim, &f->before.st_mtim) &&
                      (same_time(&after.st_ctim, &f->before.st_ctim) || after.st_nlink != f->before.st_nlink);
    (void)close(f->fd);
    if (f->err != DBE_OK)
        return dbe_fail(diag, f->err, "model", 0, "no digest of the model file: %s", dbe_err_text(f->err));
    if (!same)
        return dbe_fail(diag, DBE_E_IO, "model", 0, "the model file was changed while it was read");
    if (ret_hex)
        base_hex(f->digest, MODEL_FILE_SHOWN_BYTES, ret_hex);
    return DBE_OK;
}
