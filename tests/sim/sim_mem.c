/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_mem.c - counts what is allocated and not freed. The linker's --wrap puts these functions between every other
 * object file and base's memory functions, so nothing of the product is built differently.
 */
#include "sim.h"

static int64_t live;

int64_t sim_mem_live(void)
{
    return live;
}

void *__real_base_alloc(size_t count, size_t size);
void *__real_base_realloc(void *ptr, size_t count, size_t size);
char *__real_base_strdup(const char *text);
void __real_base_free(void *ptr);
void __real_base_free_p(void *pp);
void *__real_base_secret_alloc(size_t len);
void __real_base_secret_free(void *ptr, size_t len);

void *__wrap_base_alloc(size_t count, size_t size);
void *__wrap_base_alloc(size_t count, size_t size)
{
    void *p = __real_base_alloc(count, size);

    live += p != NULL;
    return p;
}

void *__wrap_base_realloc(void *ptr, size_t count, size_t size);
void *__wrap_base_realloc(void *ptr, size_t count, size_t size)
{
    bool fresh = ptr == NULL;
    void *p = __real_base_realloc(ptr, count, size);

    live += fresh && p != NULL;
    return p;
}

char *__wrap_base_strdup(const char *text);
char *__wrap_base_strdup(const char *text)
{
    char *p = __real_base_strdup(text);

    live += p != NULL;
    return p;
}

void __wrap_base_free(void *ptr);
void __wrap_base_free(void *ptr)
{
    live -= ptr != NULL;
    __real_base_free(ptr);
}

void __wrap_base_free_p(void *pp);
void __wrap_base_free_p(void *pp)
{
    void *ptr;

    memcpy(&ptr, pp, sizeof ptr);
    live -= ptr != NULL;
    __real_base_free_p(pp);
}

void *__wrap_base_secret_alloc(size_t len);
void *__wrap_base_secret_alloc(size_t len)
{
    void *p = __real_base_secret_alloc(len);

    live += p != NULL;
    return p;
}

void __wrap_base_secret_free(void *ptr, size_t len);
void __wrap_base_secret_free(void *ptr, size_t len)
{
    live -= ptr != NULL;
    __real_base_secret_free(ptr, len);
}
