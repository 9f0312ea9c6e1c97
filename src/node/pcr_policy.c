/* SPDX-License-Identifier: Apache-2.0
 *
 * pcr_policy.c - which nodes must show a quote, and what their registers must hold.
 *
 * In:   the text of <dir>/pcrs.policy    Out: yes or no for an identity and its registers
 * Does not: read files (keystore.c) or quotes (evidence.c).
 */
#include <stdio.h>
#include <string.h>

#include "evidence.h"

static const char clause[] = "PCR policy";

enum { PCR_NONE = 0xFF, WORDS_MAX = 4, WORD_MAX_BYTES = 72 };
enum who { WHO_ALL, WHO_ROLE, WHO_DEVICE };

struct pcr_line {
    enum who who;
    uint8_t value; /* role or device */
    uint8_t pcr;   /* PCR_NONE: a quote, whatever it says */
    uint8_t digest[TPM_DIGEST_BYTES];
};

struct pcr_policy {
    size_t count;
    struct pcr_line lines[PCR_POLICY_LINES_MAX];
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* 0 to `max` in decimal; -1: something else. */
static int number(const char *word, int max)
{
    int value = 0;

    for (const char *at = word; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || at - word > 2)
            return -1;
        value = value * 10 + (*at - '0');
    }
    return word[0] == '\0' || value > max ? -1 : value;
}

static bool read_who(const char *word, struct pcr_line *line)
{
    const struct dbe_role_row *role = dbe_reg_role_path(word);
    int device = number(word, UINT8_MAX);

    if (strcmp(word, "*") == 0) {
        line->who = WHO_ALL;
    } else if (role != NULL) {
        line->who = WHO_ROLE;
        line->value = role->role;
    } else if (device >= 0 && dbe_reg_device((uint8_t)device) != NULL) {
        line->who = WHO_DEVICE;
        line->value = (uint8_t)device;
    } else {
        return false;
    }
    return true;
}

/* Words of one line, without its comment. Returns their count; WORDS_MAX + 1: too many or too long. */
static size_t split(const char *at, const char *end, char words[WORDS_MAX][WORD_MAX_BYTES])
{
    size_t count = 0;

    while (at < end && *at != '#') {
        size_t n = 0;
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
            at++;
        while (at + n < end && at[n] != ' ' && at[n] != '\t' && at[n] != '\r' && at[n] != '#')
            n++;
        if (n == 0)
            continue;
        if (count == WORDS_MAX || n >= WORD_MAX_BYTES)
            return WORDS_MAX + 1;
        memcpy(words[count], at, n);
        words[count++][n] = '\0';
        at += n;
    }
    return count;
}

/* NULL, or what is wrong with the line. */
static const char *read_line(char words[WORDS_MAX][WORD_MAX_BYTES], size_t count, struct pcr_line *line)
{
    if (count < 2 || count > WORDS_MAX || !read_who(words[0], line))
        return "it begins with a role, a device's number or *, and says `quote` or `register = sha256`";
    line->pcr = PCR_NONE;
    if (count == 2 && strcmp(words[1], "quote") == 0)
        return NULL;
    int pcr = number(words[1], TPM_PCRS - 1);
    if (count != WORDS_MAX || pcr < 0 || strcmp(words[2], "=") != 0)
        return "after the name stands `quote` or `register = sha256`, the register from 0 to 23";
    line->pcr = (uint8_t)pcr;
    if (strlen(words[3]) != 2 * sizeof line->digest ||
        base_unhex(words[3], line->digest, sizeof line->digest) != DBE_OK)
        return "the value is 64 hexadecimal digits";
    return NULL;
}

static dbe_err read_lines(const char *text, size_t len, struct pcr_policy *p, struct dbe_diag *diag)
{
    const char *at = text, *end = text + len;

    for (unsigned n = 1; at < end; n++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char words[WORDS_MAX][WORD_MAX_BYTES];
        stop = stop != NULL ? stop : end;
        size_t count = split(at, stop, words);
        at = stop + (stop < end);
        if (count == 0)
            continue;
        if (p->count == PCR_POLICY_LINES_MAX)
            return dbe_fail(diag, DBE_E_CONFIG, clause, n, "pcrs.policy has more than %d lines", PCR_POLICY_LINES_MAX);
        const char *wrong = read_line(words, count, &p->lines[p->count]);
        if (wrong != NULL)
            return dbe_fail(diag, DBE_E_CONFIG, clause, n, "pcrs.policy, line %u: %s", n, wrong);
        p->count++;
    }
    return DBE_OK;
}

dbe_err pcr_policy_parse(const char *text, size_t len, struct pcr_policy **ret, struct dbe_diag *diag)
{
    if (len > PCR_POLICY_MAX_BYTES || memchr(text, '\0', len) != NULL)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "pcrs.policy is too long, or no text");
    struct pcr_policy *p = base_alloc(1, sizeof *p);
    if (p == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for pcrs.policy");
    dbe_err err = read_lines(text, len, p, diag);
    if (err != DBE_OK) {
        base_free(p);
        return err;
    }
    *ret = p;
    return DBE_OK;
}

void pcr_policy_free(struct pcr_policy *policy)
{
    base_free(policy);
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

static bool is_about(const struct pcr_line *line, const struct dbe_identity *id)
{
    return line->who == WHO_ALL || (line->who == WHO_ROLE ? line->value == id->role : line->value == id->device);
}

bool pcr_policy_wants(const struct pcr_policy *policy, const struct dbe_identity *id)
{
    for (size_t i = 0; policy != NULL && i < policy->count; i++)
        if (is_about(&policy->lines[i], id))
            return true;
    return false;
}

/* The value shown of a register, NULL if it is not shown. */
static const uint8_t *value_of(uint32_t pcrs, const uint8_t *values, unsigned pcr)
{
    if ((pcrs >> pcr & 1) == 0)
        return NULL;
    return values + (size_t)__builtin_popcount(pcrs & ((UINT32_C(1) << pcr) - 1)) * TPM_DIGEST_BYTES;
}

dbe_err pcr_policy_check(const struct pcr_policy *policy, const struct dbe_identity *id, uint32_t pcrs,
                         const uint8_t *values, struct dbe_diag *diag)
{
    uint32_t asked = 0, held = 0;

    for (size_t i = 0; policy != NULL && i < policy->count; i++) {
        const struct pcr_line *line = &policy->lines[i];
        if (line->pcr == PCR_NONE || !is_about(line, id))
            continue;
        const uint8_t *value = value_of(pcrs, values, line->pcr);
        asked |= UINT32_C(1) << line->pcr;
        if (value != NULL && memcmp(value, line->digest, TPM_DIGEST_BYTES) == 0)
            held |= UINT32_C(1) << line->pcr;
    }
    if (asked == held)
        return DBE_OK;
    return dbe_fail(diag, DBE_E_EVIDENCE, clause, 0, "register (PCR) %d of %.110s is not what the policy wants",
                    __builtin_ctz(asked & ~held), id->spiffe_id);
}
