/* SPDX-License-Identifier: Apache-2.0
 *
 * gen_handshake_seeds.c - writes those seeds of fuzz_handshake that hold a message 1 or records of an open channel.
 *
 * In:   the folder to write to (fuzz/corpus/fuzz_handshake)
 * Out:  responder, inside-0 to -2, channel, channel-datagram
 * Not:  no test runs it. By hand, when message 1 changes, and for inside-* when the registry hash does; the files are
 *       kept in the tree. The other seeds hold neither.
 */
#include <stdio.h>

#include "fuzz_handshake.h"

static const char *folder;

static void write_file(const char *name, const struct base_buf *b)
{
    char path[4096];

    MUST(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && b->err == DBE_OK);
    FILE *f = fopen(path, "we");
    MUST(f != NULL && fwrite(b->data, 1, b->len, f) == b->len && fclose(f) == 0);
}

/* Mode 0: message 1, to a responder. */
static void responder(void)
{
    struct fake_pair p;
    struct base_buf b;

    base_buf_init(&b, 65536);
    fuzz_pair(&p, 1, false);
    MUST(sess_start(p.i, &p.to_r) == DBE_OK);
    base_buf_u8(&b, 0);
    base_buf_bytes(&b, p.to_r.data, p.to_r.len);
    write_file("responder", &b);
    fake_pair_free(&p);
    base_buf_free(&b);
}

static void put_record(struct base_buf *b, uint8_t type, const void *body, size_t len)
{
    base_buf_u8(b, type);
    base_buf_u16(b, (uint16_t)len);
    base_buf_bytes(b, body, len);
}

/* Mode 7: a message, a handshake inside the channel begun, given up, and switched to all the same. */
static void inside(uint8_t stage)
{
    uint8_t alert[SESS_ALERT_RECORD_BYTES];
    const uint8_t next = SESS_FIRST_EPOCH + 1;
    struct sess_config config = fake_config(SESS_INITIATOR, &alice); /* its registry hash is the build's */
    struct sess *inner = NULL;
    struct base_buf b, msg;
    char name[16];

    base_buf_init(&b, 65536);
    base_buf_init(&msg, 65536);
    random_state = 1;
    MUST(sess_new(&config, &inner) == DBE_OK && sess_start(inner, &msg) == DBE_OK);
    base_buf_u8(&b, 7);
    base_buf_u8(&b, stage);
    put_record(&b, SESS_REC_DATA, "hi", 2);
    put_record(&b, SESS_REC_REHANDSHAKE, msg.data, msg.len);
    sess_alert_put(DBE_E_CLOSED, alert);
    put_record(&b, SESS_REC_REHANDSHAKE, alert, sizeof alert);
    put_record(&b, SESS_REC_SWITCH, &next, 1);
    (void)snprintf(name, sizeof name, "inside-%u", stage);
    write_file(name, &b);
    sess_free(inner);
    base_buf_free(&msg);
    base_buf_free(&b);
}

/* Mode 5: what the initiator of an open channel sends; the last byte says over what. */
static void channel(const char *name, bool datagram)
{
    struct fake_pair p;
    struct base_buf b;

    base_buf_init(&b, 65536);
    fuzz_pair(&p, 1, datagram);
    MUST(fake_handshake(&p) == DBE_OK);
    base_buf_u8(&b, 5);
    MUST(sess_seal(p.i, "first", 5, 1, &b) == DBE_OK);
    if (!datagram) {
        MUST(sess_rekey(p.i, 1, &b) == DBE_OK);
        MUST(sess_seal(p.i, "after", 5, 1, &b) == DBE_OK);
        MUST(sess_rehandshake(p.i, NULL, 0, 1, &b) == DBE_OK);
        MUST(sess_close(p.i, &b) == DBE_OK);
    }
    base_buf_u8(&b, datagram);
    write_file(name, &b);
    fake_pair_free(&p);
    base_buf_free(&b);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    folder = argv[1];
    fuzz_init();
    responder();
    for (uint8_t stage = 0; stage < 3; stage++)
        inside(stage);
    channel("channel", false);
    channel("channel-datagram", true);
    return 0;
}
