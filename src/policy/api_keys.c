/* SPDX-License-Identifier: Apache-2.0
 *
 * api_keys.c - see api_keys.h.
 */
#include "policy/api_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbe/registry.h"

enum { HEX_BYTES = 2 * CRYPTO_HASH_BYTES, NUMBER_DIGITS_MAX = 18, ID_RANDOM_BYTES = 4 };

#define HEAD "dsmil-api-keys 1"
#define ID_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define TENANT_LETTERS ID_LETTERS "_.-"

/* ---- one row ---------------------------------------------------------------------------------------------------- */

bool pol_api_key_compartments(const char *text, uint32_t *ret)
{
    uint32_t mask = 0;

    for (const char *at = text;; at++) {
        char name[32];
        size_t len = strcspn(at, "+");
        if (len == 0 || len >= sizeof name)
            return false;
        memcpy(name, at, len);
        name[len] = '\0';
        const struct dbe_num_row *row = dbe_reg_compartment_named(name);
        if (row == NULL || row->num == DBE_COMPARTMENT_KINETIC)
            return false;
        mask |= row->num;
        at += len;
        if (*at == '\0')
            break;
    }
    *ret = mask;
    return true;
}

static bool is_word(const char *text, const char *letters, size_t max)
{
    const size_t len = strlen(text);

    return len > 0 && len <= max && strspn(text, letters) == len;
}

dbe_err pol_api_key_check(const struct pol_api_key *key, struct dbe_diag *diag)
{
    if (!is_word(key->id, ID_LETTERS, POL_API_KEY_ID_MAX))
        return dbe_fail(diag, DBE_E_CONFIG, "id", 0, "an id has 1 to %d letters and digits", POL_API_KEY_ID_MAX);
    if (!is_word(key->tenant, TENANT_LETTERS, DBE_TENANT_MAX_BYTES))
        return dbe_fail(diag, DBE_E_CONFIG, "tenant", 0, "a tenant has 1 to %d letters, digits, '_', '.' or '-'",
                        DBE_TENANT_MAX_BYTES);
    if (dbe_reg_classification(key->classification) == NULL)
        return dbe_fail(diag, DBE_E_CONFIG, "classification", 0, "no such classification");
    if (key->compartments == 0 || (key->compartments & DBE_COMPARTMENT_KINETIC) != 0)
        return dbe_fail(diag, DBE_E_CONFIG, "compartments", 0, "compartments are one or more, and never KINETIC");
    for (const char *c = key->comment; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            return dbe_fail(diag, DBE_E_CONFIG, "comment", 0, "a comment is one line without control characters");
    return base_utf8_valid(key->comment, strlen(key->comment))
               ? DBE_OK
               : dbe_fail(diag, DBE_E_CONFIG, "comment", 0, "a comment is UTF-8");
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hash(const char *text, uint8_t ret[CRYPTO_HASH_BYTES])
{
    if (strlen(text) != HEX_BYTES)
        return false;
    for (size_t i = 0; i < CRYPTO_HASH_BYTES; i++) {
        const int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool take(char *to, size_t cap, const char *from)
{
    const int n = snprintf(to, cap, "%s", from);

    return n >= 0 && (size_t)n < cap;
}

/* `line` is cut at its spaces. NULL: fine, else what was expected. */
static const char *read_row(char *line, struct pol_api_key *ret)
{
    char *words[6], *rest = line;
    const struct dbe_num_row *classification;

    for (size_t i = 0; i < BASE_ARRAY_LEN(words); i++) {
        words[i] = strsep(&rest, " ");
        if (words[i] == NULL || words[i][0] == '\0')
            return "id, hash, tenant, classification, compartments and time, with single spaces between";
    }
    if (!take(ret->id, sizeof ret->id, words[0]))
        return "an id of at most 16 letters and digits";
    if (!read_hash(words[1], ret->hash))
        return "a SHA3-512 as 128 lower-case hex digits";
    if (!take(ret->tenant, sizeof ret->tenant, words[2]))
        return "a tenant of at most 64 characters";
    classification = dbe_reg_classification_named(words[3]);
    if (classification == NULL)
        return "the name of a classification";
    ret->classification = (uint8_t)classification->num;
    if (!pol_api_key_compartments(words[4], &ret->compartments))
        return "names of compartments joined by '+', without KINETIC";
    if (!is_word(words[5], "0123456789", NUMBER_DIGITS_MAX))
        return "a time in Unix seconds";
    ret->created_unix = strtoull(words[5], NULL, 10);
    return take(ret->comment, sizeof ret->comment, rest != NULL ? rest : "") ? NULL : "a comment of at most 120 bytes";
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static dbe_err read_line(char *line, size_t number, struct pol_api_key *ret, size_t cap, size_t *count,
                         struct dbe_diag *diag)
{
    struct pol_api_key key = {0};
    struct dbe_diag why = {0};

    if (line[0] == '\0' || line[0] == '#')
        return DBE_OK;
    if (*count == cap)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, number, "line %zu: more than %zu keys", number, cap);
    const char *expected = read_row(line, &key);
    if (expected != NULL)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, number, "line %zu: expected %s", number, expected);
    if (pol_api_key_check(&key, &why) != DBE_OK)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, number, "line %zu: %.100s", number, why.text);
    for (size_t i = 0; i < *count; i++)
        if (strcmp(ret[i].id, key.id) == 0)
            return dbe_fail(diag, DBE_E_CONFIG, NULL, number, "line %zu: the id %s stands twice", number, key.id);
    ret[(*count)++] = key;
    return DBE_OK;
}

dbe_err pol_api_keys_read(const char *text, size_t len, struct pol_api_key *ret, size_t cap, size_t *ret_count,
                          struct dbe_diag *diag)
{
    size_t count = 0, number = 0;
    dbe_err err = DBE_OK;

    if (len > POL_API_KEYS_FILE_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "the file is larger than %d bytes", POL_API_KEYS_FILE_MAX);
    if (memchr(text, '\0', len) != NULL)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "the file holds a NUL");
    char *copy = base_alloc(len + 1, 1);
    if (copy == NULL)
        return DBE_E_NOMEM;
    memcpy(copy, text, len);
    char *rest = copy, *line = strsep(&rest, "\n");
    if (strcmp(line, HEAD) != 0)
        err = dbe_fail(diag, DBE_E_CONFIG, NULL, 1, "line 1: expected \"%s\"", HEAD);
    for (number = 2; err == DBE_OK && (line = strsep(&rest, "\n")) != NULL; number++)
        err = read_line(line, number, ret, cap, &count, diag);
    base_free(copy);
    if (err == DBE_OK)
        *ret_count = count;
    return err;
}

void pol_api_keys_write(const struct pol_api_key *keys, size_t count, struct base_buf *out)
{
    base_buf_str(out, HEAD "\n");
    for (size_t i = 0; i < count; i++) {
        const struct pol_api_key *k = &keys[i];
        const struct dbe_num_row *classification = dbe_reg_classification(k->classification);
        char hex[HEX_BYTES + 1];
        bool first = true;
        base_hex(k->hash, sizeof k->hash, hex);
        base_buf_fmt(out, "%s %s %s %s ", k->id, hex, k->tenant, classification != NULL ? classification->name : "?");
        for (uint32_t bit = 1; bit != 0; bit <<= 1) {
            const struct dbe_num_row *row = (k->compartments & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
            if (row == NULL)
                continue;
            base_buf_fmt(out, "%s%s", first ? "" : "+", row->name);
            first = false;
        }
        base_buf_fmt(out, " %" PRIu64 "%s%s\n", k->created_unix, k->comment[0] != '\0' ? " " : "", k->comment);
    }
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

dbe_err pol_api_key_new(char ret_key[POL_API_KEY_TEXT_BYTES], struct pol_api_key *ret)
{
    uint8_t random[POL_API_KEY_RANDOM_BYTES], id[ID_RANDOM_BYTES];

    DBE_TRY(base_random(id, sizeof id));
    DBE_TRY(base_random(random, sizeof random));
    memcpy(ret_key, "dsk-", 4);
    base_hex(random, sizeof random, ret_key + 4);
    base_wipe(random, sizeof random);
    base_hex(id, sizeof id, ret->id);
    return crypto_sha3_512(ret_key, strlen(ret_key), ret->hash);
}

const struct pol_api_key *pol_api_keys_find(const struct pol_api_key *keys, size_t count, const char *key)
{
    const struct pol_api_key *found = NULL;
    uint8_t hash[CRYPTO_HASH_BYTES];

    if (crypto_sha3_512(key, strlen(key), hash) != DBE_OK)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (base_equal_ct(keys[i].hash, hash, sizeof hash))
            found = &keys[i];
    return found;
}
