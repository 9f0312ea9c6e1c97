/* SPDX-License-Identifier: Apache-2.0
 *
 * dump.c - `dsmil dump FILE|-`: messages and records explained, or written as a capture that tshark opens. In: raw
 * bytes or hex text, one message after the other or whole records. Opens nothing that is sealed. Exit code 1: something
 * in it is broken, and is shown as such.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "payload/explain.h"
#include "dbe/msg.h"

enum { DUMP_INPUT_MAX_BYTES = 64 * 1024 * 1024, DUMP_CHUNK_BYTES = 65536 };
/* pcap, as old as tcpdump: a header, then each packet with a header of its own, all little-endian here. */
enum { PCAP_LINKTYPE_USER0 = 147, PCAP_PACKET_MAX_BYTES = 262144 };
#define PCAP_MAGIC UINT32_C(0xA1B2C3D4)

static int usage(FILE *out, int code)
{
    fprintf(out, "usage: dsmil dump [--json] [--pcap OUT] FILE|-\n\n"
                 "Explains DBE messages, one after the other as a record holds them, or whole records, byte by byte.\n"
                 "FILE holds them raw or as hex text; - is standard input.\n\n"
                 "  --json      the same as one JSON object\n"
                 "  --pcap OUT  write them as a capture (link type USER0) for tshark with contrib/wireshark/dbe.lua\n\n"
                 "Exit code 1 means that something is broken: what, where and by which clause is in the output.\n");
    return code;
}

static dbe_err read_all(int fd, struct base_buf *out, struct dbe_diag *diag)
{
    for (;;) {
        uint8_t chunk[DUMP_CHUNK_BYTES];
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got == 0)
            return DBE_OK;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dbe_fail(diag, DBE_E_IO, NULL, 0, "cannot read: %s", strerror(errno));
        base_buf_bytes(out, chunk, (size_t)got);
        if (out->err != DBE_OK)
            return dbe_fail(diag, out->err, NULL, 0, "more than %d bytes", DUMP_INPUT_MAX_BYTES);
    }
}

/* Is this hex text: digits, white space, colons and commas, and an even number of digits? */
static bool is_hex(const struct base_buf *in)
{
    size_t digits = 0;

    for (size_t i = 0; i < in->len; i++)
        if (memchr("0123456789abcdefABCDEF", in->data[i], 22) != NULL)
            digits++;
        else if (memchr(" \t\r\n:,", in->data[i], 6) == NULL)
            return false;
    return digits > 0 && digits % 2 == 0;
}

/* Hex text becomes bytes, in place: two digits never take less room than their byte. */
static void from_hex(struct base_buf *b)
{
    size_t digits = 0, len = 0;
    char pair[3] = "";

    for (size_t i = 0; i < b->len; i++) {
        if (memchr(" \t\r\n:,", b->data[i], 6) != NULL)
            continue;
        pair[digits++ % 2] = (char)b->data[i];
        if (digits % 2 == 0 && base_unhex(pair, b->data + len, 1) == DBE_OK)
            len++;
    }
    b->len = len;
}

static dbe_err load(const char *path, struct base_buf *in, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = -1;

    if (strcmp(path, "-") == 0) {
        DBE_TRY(read_all(STDIN_FILENO, in, diag));
    } else {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return dbe_fail(diag, errno == ENOENT ? DBE_E_NOT_FOUND : DBE_E_IO, NULL, 0, "%s: %s", path,
                            strerror(errno));
        DBE_TRY(read_all(fd, in, diag));
    }
    if (is_hex(in))
        from_hex(in);
    return DBE_OK;
}

/* ---- pcap ------------ */

static void put_le32(struct base_buf *b, uint32_t v)
{
    const uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

    base_buf_bytes(b, le, sizeof le);
}

/* Length of the message or record at `p`, all that is left where it says no length that is there. */
static size_t unit_len(const uint8_t *p, size_t left)
{
    size_t len = left;

    if (explain_is_record(p, left)) {
        if (left >= DBE_RECORD_HEADER_BYTES)
            len = DBE_RECORD_HEADER_BYTES + (size_t)base_get_u32(p);
    } else if (left >= DBE_HEADER_BYTES && dbe_msg_peek_len(p, &len) != DBE_OK) {
        len = left;
    }
    return BASE_MIN(len, left);
}

/* A packet each; one that is larger than a packet of a capture may be is cut there, which its header says. */
static dbe_err write_pcap(const char *path, const struct base_buf *in, struct dbe_diag *diag)
{
    struct base_buf b;
    uint32_t count = 0;
    dbe_err err;

    base_buf_init(&b, 4 * (size_t)DUMP_INPUT_MAX_BYTES);
    put_le32(&b, PCAP_MAGIC);
    put_le32(&b, 4U << 16 | 2); /* version 2.4, the minor number in the upper half */
    put_le32(&b, 0);
    put_le32(&b, 0);
    put_le32(&b, PCAP_PACKET_MAX_BYTES);
    put_le32(&b, PCAP_LINKTYPE_USER0);
    for (size_t at = 0; at < in->len && b.err == DBE_OK; count++) {
        size_t len = unit_len(in->data + at, in->len - at), kept = BASE_MIN(len, (size_t)PCAP_PACKET_MAX_BYTES);
        put_le32(&b, 0); /* the bytes know no time: a second of 1970, and one microsecond after the other */
        put_le32(&b, count % 1000000);
        put_le32(&b, (uint32_t)kept);
        put_le32(&b, (uint32_t)len);
        base_buf_bytes(&b, in->data + at, kept);
        at += len;
    }
    err = b.err != DBE_OK ? dbe_fail(diag, b.err, NULL, 0, "no memory for the capture")
                          : base_file_write(path, b.data, b.len, 0600, diag);
    base_buf_free(&b);
    return err;
}

/* ---- text ------------ */

/* Twice: once for the length, once for the text. */
static int print(const struct base_buf *in, bool json)
{
    struct payload_out count = {0}, text = {0};
    bool good = explain_all(in->data, in->len, json, &count);

    text.out = base_alloc(count.len + 1, 1);
    text.cap = count.len;
    if (text.out == NULL)
        return cli_fail(CLI_FAILED, "dump", DBE_E_NOMEM, NULL);
    (void)explain_all(in->data, in->len, json, &text);
    (void)fwrite(text.out, 1, text.len, stdout);
    base_free(text.out);
    cli_json_said();
    return good ? CLI_OK : CLI_FAILED;
}

int cli_dump(int argc, char **argv)
{
    const char *file = NULL, *pcap = NULL;
    struct base_buf in;
    struct dbe_diag diag = {0};
    bool json = false;
    dbe_err err;
    int code;

    for (int i = 1; i < argc; i++) {
        const char *value = cli_opt(argc, argv, &i, "--pcap");
        if (value != NULL)
            pcap = value;
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout, CLI_OK);
        else if (file == NULL && (argv[i][0] != '-' || argv[i][1] == '\0'))
            file = argv[i];
        else
            return cli_wrong("dump", "\"%s\" is no option, or one file too many", argv[i]);
    }
    if (file == NULL)
        return cli_wrong("dump", "which file? - is standard input");
    base_buf_init(&in, DUMP_INPUT_MAX_BYTES);
    err = load(file, &in, &diag);
    if (err == DBE_OK && pcap != NULL)
        err = write_pcap(pcap, &in, &diag);
    if (err != DBE_OK)
        code = cli_fail(CLI_FAILED, "dump", err, &diag);
    else
        code = pcap != NULL && !json ? CLI_OK : print(&in, json);
    base_buf_free(&in);
    return code;
}
