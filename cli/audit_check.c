/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_check.c - a log or a proof verified, and the outcome in words or as JSON.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/audit_key.h"
#include "crypto/crypto.h"

enum { PROOF_FILE_MAX = 64 * 1024 };

static void put_json(struct base_buf *b, const char *key, const char *text)
{
    base_buf_fmt(b, ",\"%s\":", key);
    base_json_str(b, text, strlen(text));
}

/* In the form of the other verbs of `dsmil`. */
static int complain(const char *what, dbe_err err, const struct dbe_diag *diag, bool json)
{
    const char *why = diag->text[0] != '\0' ? diag->text : dbe_err_text(err);
    struct base_buf b;

    fprintf(stderr, "dsmil: audit: %s%s%s (%s)\n", strstr(why, what) != NULL ? "" : what,
            strstr(why, what) != NULL ? "" : ": ", why, dbe_err_name(err));
    if (json) {
        base_buf_init(&b, 4096);
        base_buf_str(&b, "{\"ok\":false,\"error\":{\"code\":");
        base_json_str(&b, dbe_err_name(err), strlen(dbe_err_name(err)));
        put_json(&b, "message", why);
        base_buf_str(&b, "}}");
        puts(base_buf_cstr(&b));
        base_buf_free(&b);
    }
    return AUDIT_EXIT_FAILED;
}

static void print_json(const struct audit_report *r, const char *outcome)
{
    char root[2 * AUDIT_HASH_BYTES + 1];
    struct base_buf b;

    base_hex(r->root, sizeof r->root, root);
    base_buf_init(&b, 4096);
    base_buf_fmt(&b, "{\"ok\":%s", r->finding.what == AUDIT_RIGHT ? "true" : "false");
    put_json(&b, "outcome", outcome);
    base_buf_fmt(&b,
                 ",\"entries\":%" PRIu64 ",\"checkpoints\":%" PRIu64 ",\"signed_entries\":%" PRIu64
                 ",\"anchors\":%" PRIu64 ",\"missing_records\":%" PRIu64 ",\"gap_records\":%" PRIu64
                 ",\"unfinished_bytes\":%" PRIu64,
                 r->entries, r->checkpoints, r->signed_entries, r->anchors, r->missing, r->gaps, r->torn_bytes);
    base_buf_fmt(&b, ",\"archived_entries\":%" PRIu64 ",\"archived_anchors\":%" PRIu64, r->archived,
                 r->archived_anchors);
    put_json(&b, "root", root);
    if (r->finding.what != AUDIT_RIGHT) {
        base_buf_fmt(&b, ",\"entry\":%" PRIu64, r->finding.entry);
        put_json(&b, "finding", r->finding.text);
    }
    base_buf_str(&b, "}");
    puts(base_buf_cstr(&b));
    base_buf_free(&b);
}

static void print_words(const struct audit_report *r)
{
    printf("%" PRIu64 " entries, %" PRIu64 " checkpoints that cover %" PRIu64 " of them, %" PRIu64 " anchors\n",
           r->entries, r->checkpoints, r->signed_entries, r->anchors);
    if (r->archived > 0)
        printf("entries 0 to %" PRIu64 " are archived and were not read; a signed statement and the checkpoints prove "
               "their root\n",
               r->archived - 1);
    if (r->archived_anchors > 0)
        printf("%" PRIu64
               " of the anchors are about archived entries alone: give the archive to hold them against it\n",
               r->archived_anchors);
    if (r->missing > 0)
        printf("%" PRIu64 " records of senders never came\n", r->missing);
    if (r->gaps > 0)
        printf("%" PRIu64 " records were lost by their senders, who say so\n", r->gaps);
    if (r->torn_bytes > 0)
        printf("%" PRIu64 " bytes of an unfinished line at the end\n", r->torn_bytes);
    if (r->finding.what == AUDIT_RIGHT)
        printf("the log is right\n");
    else
        printf("THE LOG IS NOT RIGHT: %s\n", r->finding.text);
}

static const struct {
    int code;
    const char *name;
} outcomes[] = {
    [AUDIT_RIGHT] = {AUDIT_EXIT_RIGHT, "right"},
    [AUDIT_WRONG_CHAIN] = {AUDIT_EXIT_CHAIN, "chain"},
    [AUDIT_WRONG_SIGNATURE] = {AUDIT_EXIT_SIGNATURE, "signature"},
    [AUDIT_WRONG_ANCHOR] = {AUDIT_EXIT_ANCHOR, "anchor"},
};

int audit_check_log(const struct audit_place *place, const char *keys, const char *const *anchors, size_t count,
                    bool json)
{
    struct audit_report r;
    struct audit_keys k;
    struct dbe_diag diag = {0};
    dbe_err err = crypto_init(&diag);

    if (err == DBE_OK)
        err = audit_keys_open(&k, place->dir, keys, &diag);
    if (err != DBE_OK)
        return complain(keys, err, &diag, json);
    const struct audit_verify what = {
        .place = *place, .key = audit_certs_find, .ctx = &k.certs, .anchors = anchors, .anchor_count = count};
    err = audit_verify(&what, &r, &diag);
    audit_keys_close(&k);
    if (err != DBE_OK)
        return complain(place->dir, err, &diag, json);
    if (json)
        print_json(&r, outcomes[r.finding.what].name);
    else
        print_words(&r);
    return outcomes[r.finding.what].code;
}

static void say_proof(const struct audit_proof_file *p, bool json)
{
    const struct audit_checkpoint *c = &p->note.checkpoint, *old = &p->older.checkpoint;

    if (json && p->consistency)
        printf("{\"ok\":true,\"kind\":\"consistency\",\"size\":%" PRIu64 ",\"older_size\":%" PRIu64 "}\n", c->size,
               old->size);
    else if (json)
        printf("{\"ok\":true,\"kind\":\"inclusion\",\"index\":%" PRIu64 ",\"size\":%" PRIu64 "}\n", p->index, c->size);
    else if (p->consistency)
        printf("the log of %" PRIu64 " entries begins with the one of %" PRIu64 ", both signed for %s\n", c->size,
               old->size, c->origin);
    else
        printf("entry %" PRIu64 " is in the log of %" PRIu64 " entries, signed for %s:\n%.*s\n", p->index, c->size,
               c->origin, (int)p->line.len, p->line.at);
}

int audit_check_proof(const char *dir, const char *keys, const char *path, bool json)
{
    struct audit_proof_file p;
    struct base_buf text = {0};
    struct audit_keys k = {0};
    struct dbe_diag diag = {0};
    dbe_err err = crypto_init(&diag);

    if (err == DBE_OK)
        err = base_file_read(path, PROOF_FILE_MAX, &text, &diag);
    if (err == DBE_OK)
        err = audit_keys_open(&k, dir, keys, &diag);
    if (err != DBE_OK) {
        base_buf_free(&text);
        return complain(path, err, &diag, json);
    }
    err = audit_proof_get((const char *)text.data, text.len, &p, &diag);
    if (err == DBE_OK)
        err = audit_proof_verify(&p, audit_certs_find, &k.certs, &diag);
    if (err == DBE_OK)
        say_proof(&p, json);
    base_buf_free(&text);
    audit_keys_close(&k);
    if (err == DBE_OK)
        return AUDIT_EXIT_RIGHT;
    (void)complain(path, err, &diag, json);
    return err == DBE_E_NOMEM || err == DBE_E_IO ? AUDIT_EXIT_FAILED : AUDIT_EXIT_SIGNATURE;
}
