/* SPDX-License-Identifier: Apache-2.0
 *
 * model_file.h - a model's file while it is loaded: one open file, read by the loader and, at the same time on another
 * CPU, by a thread that computes its digest.
 *
 * In:   a path. Out: a descriptor to load from; the digest of what was loaded.
 * Not:  no loading (llm/), no judgement of the digest.
 */
#ifndef L7_WORKER_MODEL_FILE_H
#define L7_WORKER_MODEL_FILE_H

#include <pthread.h>
#include <sys/stat.h>

#include "crypto/crypto.h"

enum { MODEL_FILE_SHOWN_BYTES = 8, MODEL_FILE_HEX = 2 * MODEL_FILE_SHOWN_BYTES + 1 };

struct model_file {
    int fd; /* to read at offsets, until model_file_end */
    struct stat before;
    pthread_t thread;
    uint8_t digest[CRYPTO_HASH_BYTES];
    dbe_err err; /* of the thread */
};

/* Open and begin to compute the digest. E_NOT_FOUND, E_IO (also: not a regular file), E_NOMEM. */
dbe_err model_file_begin(struct model_file *f, const char *path, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Wait for the digest and close; on success what was read meanwhile is what the digest, SHA3-512 shortened, is of.
 * `ret_hex` may be NULL. E_IO: somebody wrote into the file since model_file_begin, or it cannot be read. Writes
 * through a mapping of the file are seen only once the kernel has noticed them. */
dbe_err model_file_end(struct model_file *f, char ret_hex[MODEL_FILE_HEX], struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
