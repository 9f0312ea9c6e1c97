/* SPDX-License-Identifier: Apache-2.0
 *
 * roe_test.c - ROE tokens: two persons over one message; everything that somebody could try instead.
 */
#include "base/test.h"

#include <string.h>

#include "policy/credential_fake.h"
#include "policy/roe.h"

enum { NOW = 5000, PERSONS = 4, NOBODY = PERSONS };

/* ---- persons ------------------------------------------------------------------------------------- */

static struct person {
    struct dbe_identity id;
    struct dbe_credential cred;
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    bool enrolled;
} people[PERSONS + 1];

static const char *const spiffe[] = {"spiffe://m/l9/person/1", "spiffe://m/l9/person/2", "spiffe://m/l9/person/3",
                                     "spiffe://m/l9/person/2", /* the second once more, with another certificate */
                                     "spiffe://m/l9/person/9"};

static bool find_person(void *ctx, const uint8_t fingerprint[64], struct dbe_identity *ret_id, uint8_t *ret_pk)
{
    (void)ctx;
    for (size_t i = 0; i < BASE_ARRAY_LEN(people); i++)
        if (people[i].enrolled && memcmp(people[i].id.fingerprint, fingerprint, 64) == 0) {
            *ret_id = people[i].id;
            memcpy(ret_pk, people[i].pk, sizeof people[i].pk);
            return true;
        }
    return false;
}

static int make_people(void **state)
{
    (void)state;
    if (crypto_init(NULL) != DBE_OK)
        return -1;
    for (size_t i = 0; i < BASE_ARRAY_LEN(people); i++) {
        struct person *p = &people[i];
        p->id.role = DBE_ROLE_PERSON;
        memcpy(p->id.spiffe_id, spiffe[i], strlen(spiffe[i]));
        memset(p->id.fingerprint, (int)i + 1, sizeof p->id.fingerprint);
        p->enrolled = i != NOBODY;
        if (crypto_key_generate(&p->cred.key) != DBE_OK || crypto_key_public(p->cred.key, p->pk) != DBE_OK)
            return -1;
    }
    return 0;
}

static int free_people(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(people); i++)
        crypto_key_free(people[i].cred.key);
    return 0;
}

/* ---- a message with a token ------------------------------------------------------------------------- */

struct scene {
    struct pol_roe roe;
    struct base_buf body;
    uint8_t mem[POL_ROE_BODY_MAX];
    uint8_t a[POL_ROE_APPROVAL_BYTES], b[POL_ROE_APPROVAL_BYTES];
    /* the message */
    uint8_t type, id[16], classification, roe_level;
    uint32_t compartments;
    const char *tenant, *payload;
    bool without_body, without_id, without_a, without_b, without_labels;
    uint8_t device;
    uint64_t now_ms;
};

/* The first asked; the second and third approved. */
static void good(struct scene *s)
{
    *s = (struct scene){
        .roe = {.id = {1, 2, 3},
                .verb = DBE_MSG_L7_AGENT_TASK,
                .device = 59,
                .category = POL_ROE_ADVISORY,
                .classification_max = DBE_CLSF_SECRET,
                .roe_level = DBE_ROE_SOC_ASSIST,
                .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV,
                .not_before_ms = NOW - 1000,
                .not_after_ms = NOW + 1000,
                .tenant = "ALPHA"},
        .type = DBE_MSG_L7_AGENT_TASK,
        .id = {1, 2, 3},
        .classification = DBE_CLSF_SECRET,
        .roe_level = DBE_ROE_SOC_ASSIST,
        .compartments = DBE_COMPARTMENT_SOC,
        .tenant = "ALPHA",
        .payload = "do this",
        .device = 59,
        .now_ms = NOW,
    };
    memcpy(s->roe.requester, spiffe[0], strlen(spiffe[0]));
    assert_int_equal(crypto_sha3_512("do this", 7, s->roe.payload_digest), DBE_OK);
}

static dbe_err approve(struct scene *s, int who, uint8_t *ret, struct dbe_diag *diag)
{
    return pol_roe_approve(s->body.data, s->body.len, &people[who].id, &people[who].cred, ret, diag);
}

static void sign(struct scene *s)
{
    base_buf_init_fixed(&s->body, s->mem, sizeof s->mem);
    assert_int_equal(pol_roe_encode(&s->roe, &s->body, NULL), DBE_OK);
    assert_int_equal(approve(s, 1, s->a, NULL), DBE_OK);
    assert_int_equal(approve(s, 2, s->b, NULL), DBE_OK);
}

static dbe_err verify(const struct scene *s, struct dbe_diag *diag)
{
    static uint8_t bytes[16384];
    struct dbe_builder b;
    struct dbe_msg msg;
    struct pol_roe got;
    size_t len;

    dbe_build_begin(&b, bytes, sizeof bytes, s->type, DBE_FLAG_REPLAY_PROTECTED, 1);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, s->tenant);
    if (!s->without_labels) {
        dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, s->compartments);
        dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, s->classification);
        dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, s->roe_level);
    }
    if (!s->without_body)
        dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN, s->body.data, s->body.len);
    if (!s->without_id)
        dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN_ID, s->id, sizeof s->id);
    if (!s->without_a)
        dbe_build_bytes(&b, DBE_TLV_TWO_PERSON_SIG_A, s->a, sizeof s->a);
    if (!s->without_b)
        dbe_build_bytes(&b, DBE_TLV_TWO_PERSON_SIG_B, s->b, sizeof s->b);
    dbe_build_payload(&b, s->payload, strlen(s->payload));
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, len, &msg, NULL), DBE_OK);
    return pol_roe_verify(&msg, s->device, s->now_ms, find_person, NULL, &got, diag);
}

static void refused(const struct scene *s, const char *words)
{
    struct dbe_diag diag = {0};

    assert_int_equal(verify(s, &diag), DBE_E_ROE_TOKEN);
    if (strstr(diag.text, words) == NULL)
        fail_msg("said \"%s\", expected \"%s\"", diag.text, words);
}

/* spec 16.1, 16.5 */
static void two_persons_permit_one_message(void **state)
{
    struct scene s;

    (void)state;
    good(&s);
    sign(&s);
    assert_int_equal(verify(&s, NULL), DBE_OK);
    s.compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV; /* up to what it covers */
    s.now_ms = s.roe.not_before_ms;
    assert_int_equal(verify(&s, NULL), DBE_OK);
    s.now_ms = s.roe.not_after_ms - 1;
    assert_int_equal(verify(&s, NULL), DBE_OK);
}

/* spec 16.5 */
static void nothing_but_that_message(void **state)
{
    struct scene g, s;

    (void)state;
    good(&g);
    sign(&g);
    s = g, s.without_body = true, refused(&s, "carries no ROE token");
    s = g, s.without_id = true, refused(&s, "carries no ROE token");
    s = g, s.without_a = true, refused(&s, "carries no ROE token");
    s = g, s.without_b = true, refused(&s, "carries no ROE token");
    s = g, s.id[15] ^= 1, refused(&s, "names another token");
    s = g, s.type = DBE_MSG_L7_CHAT_REQ, refused(&s, "is for another message type");
    s = g, s.device = 60, refused(&s, "is for another device");
    s = g, s.tenant = "BRAVO", refused(&s, "is another tenant's");
    s = g, s.compartments |= DBE_COMPARTMENT_LAB, refused(&s, "does not cover the message's compartments");
    s = g, s.classification = DBE_CLSF_TS, refused(&s, "does not cover the message's classification");
    s = g, s.classification = DBE_CLSF_TS_SIM, refused(&s, "does not cover the message's classification");
    s = g, s.roe_level = DBE_ROE_TRAINING, refused(&s, "is for another ROE level");
    s = g, s.without_labels = true, refused(&s, "permits no message without labels");
    s = g, s.payload = "do thiS", refused(&s, "was approved for another payload");
    s = g, s.payload = "", refused(&s, "was approved for another payload");
    s = g, s.now_ms = s.roe.not_after_ms, refused(&s, "has expired");
    s = g, s.now_ms = s.roe.not_before_ms - 1, refused(&s, "is not valid yet");
}

/* What comes in one piece is taken apart where its lengths say so, and nowhere else. */
static void a_piece_comes_apart(void **state)
{
    static uint8_t piece[POL_ROE_PIECE_MAX + 1];
    struct pol_roe_parts parts;
    struct base_buf b;
    const char *why;
    struct scene s;

    (void)state;
    good(&s);
    sign(&s);
    base_buf_init(&b, sizeof piece);
    base_buf_str(&b, POL_ROE_MAGIC);
    base_buf_u16(&b, (uint16_t)s.body.len);
    base_buf_bytes(&b, s.body.data, s.body.len);
    base_buf_u8(&b, 2);
    base_buf_bytes(&b, s.a, sizeof s.a);
    base_buf_bytes(&b, s.b, sizeof s.b);
    const size_t len = b.len;
    memcpy(piece, b.data, len);
    base_buf_free(&b);
    assert_int_equal(pol_roe_parts_read(piece, len, &parts, &why), DBE_OK);
    assert_int_equal(parts.body_len, s.body.len);
    assert_int_equal(parts.count, 2);
    assert_memory_equal(parts.id, s.id, sizeof s.id);
    assert_memory_equal(parts.approvals[1], s.b, sizeof s.b);
    assert_null(parts.asked);
    piece[12 + 2 + s.body.len] = 1; /* one approval, and what proves the request */
    assert_int_equal(pol_roe_parts_read(piece, len, &parts, &why), DBE_OK);
    assert_int_equal(parts.count, 1);
    assert_memory_equal(parts.asked, s.b, sizeof s.b);
    piece[12 + 2 + s.body.len] = 2;
    for (size_t cut = 0; cut < len; cut += cut < 400 ? 1 : 97)
        assert_int_equal(pol_roe_parts_read(piece, cut, &parts, &why), DBE_E_MALFORMED);
    assert_int_equal(pol_roe_parts_read(piece, len + 1, &parts, &why), DBE_E_MALFORMED);
    piece[12 + 1] = 20; /* a body without an id */
    assert_int_equal(pol_roe_parts_read(piece, len, &parts, &why), DBE_E_MALFORMED);
    piece[0] ^= 1;
    assert_int_equal(pol_roe_parts_read(piece, len, &parts, &why), DBE_E_MALFORMED);
    assert_string_equal(why, "is no ROE token file");
}

/* spec 16.3, 16.4 */
static void who_asked_does_not_approve(void **state)
{
    struct scene s;
    struct dbe_diag diag = {0};

    (void)state;
    good(&s);
    sign(&s);
    assert_int_equal(approve(&s, 0, s.a, &diag), DBE_E_ROE_TOKEN);
    assert_non_null(strstr(diag.text, "spiffe://m/l9/person/1 may not approve this token: it asked for it"));
    /* nor with a signature that was made around that check */
    memcpy(s.a, people[0].id.fingerprint, 64);
    assert_int_equal(crypto_sign(people[0].cred.key, "DSMIL-DBE roe v1", s.body.data, s.body.len, s.a + 64), DBE_OK);
    refused(&s, "person/1 may not approve this token: it asked for it");
}

/* spec 16.7: another name in the place of who asked would let who asked approve */
static void who_is_named_has_asked(void **state)
{
    uint8_t proof[POL_ROE_APPROVAL_BYTES];
    struct scene s;
    struct dbe_diag diag = {0};

    (void)state;
    good(&s);
    sign(&s);
    assert_int_equal(pol_roe_ask(s.body.data, s.body.len, &people[0].id, &people[0].cred, proof, NULL), DBE_OK);
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, NULL), DBE_OK);
    assert_int_equal(pol_roe_ask(s.body.data, s.body.len, &people[1].id, &people[1].cred, proof, &diag),
                     DBE_E_ROE_TOKEN);
    assert_non_null(strstr(diag.text, "names spiffe://m/l9/person/1 as who asked"));
    /* the signature of another over it; an approval in the place of a request; a name that nobody has; another body */
    const char *words = "nothing here proves that spiffe://m/l9/person/1 asked";
    assert_int_equal(crypto_sign(people[1].cred.key, "DSMIL-DBE roe request v1", s.body.data, s.body.len, proof + 64),
                     DBE_OK);
    memcpy(proof, people[1].id.fingerprint, 64);
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, &diag), DBE_E_ROE_TOKEN);
    assert_non_null(strstr(diag.text, words));
    memcpy(proof, people[0].id.fingerprint, 64);
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, NULL), DBE_E_ROE_TOKEN);
    assert_int_equal(crypto_sign(people[0].cred.key, "DSMIL-DBE roe v1", s.body.data, s.body.len, proof + 64), DBE_OK);
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, NULL), DBE_E_ROE_TOKEN);
    assert_int_equal(pol_roe_ask(s.body.data, s.body.len, &people[0].id, &people[0].cred, proof, NULL), DBE_OK);
    people[0].id.role = DBE_ROLE_SERVICE; /* which a person may run, who then approves */
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, &diag), DBE_E_ROE_TOKEN);
    assert_non_null(strstr(diag.text, words));
    assert_int_equal(pol_roe_ask(s.body.data, s.body.len, &people[0].id, &people[0].cred, proof, &diag),
                     DBE_E_ROE_TOKEN);
    assert_non_null(strstr(diag.text, "person/1 may not ask for a token: it is no person"));
    people[0].id.role = DBE_ROLE_PERSON;
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, NULL), DBE_OK);
    s.mem[9] ^= 1;
    assert_int_equal(pol_roe_check_asked(s.body.data, s.body.len, proof, find_person, NULL, NULL), DBE_E_ROE_TOKEN);
}

/* spec 16.4 */
static void it_takes_two_persons(void **state)
{
    struct scene s;

    (void)state;
    good(&s);
    sign(&s);
    memcpy(s.b, s.a, sizeof s.b);
    refused(&s, "person/2 approved twice");
    assert_int_equal(approve(&s, 1, s.b, NULL), DBE_OK); /* the same person, signed anew */
    refused(&s, "person/2 approved twice");
    assert_int_equal(approve(&s, 3, s.b, NULL), DBE_OK); /* and with another certificate */
    refused(&s, "person/2 approved twice");
}

/* spec 16.4 */
static void only_enrolled_persons_approve(void **state)
{
    struct scene s;
    struct dbe_diag diag = {0};

    (void)state;
    good(&s);
    sign(&s);
    assert_int_equal(approve(&s, NOBODY, s.b, NULL), DBE_OK);
    refused(&s, "nobody who is enrolled here");
    people[2].id.role = DBE_ROLE_ROUTER;
    assert_int_equal(approve(&s, 2, s.b, &diag), DBE_E_ROE_TOKEN);
    people[2].id.role = DBE_ROLE_PERSON;
    assert_int_equal(approve(&s, 2, s.b, NULL), DBE_OK);
    people[2].id.role = DBE_ROLE_ROUTER;
    refused(&s, "person/3 may not approve this token: it is no person");
    people[2].id.role = DBE_ROLE_PERSON;
    people[2].enrolled = false; /* revoked, say */
    refused(&s, "nobody who is enrolled here");
    people[2].enrolled = true;
    assert_int_equal(verify(&s, NULL), DBE_OK);
}

/* spec 16.4 */
static void every_bit_is_signed(void **state)
{
    struct scene g, s;

    (void)state;
    good(&g);
    sign(&g);
    for (size_t bit = 0; bit < 8 * g.body.len; bit++) {
        s = g;
        s.body.data = s.mem;
        s.mem[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(verify(&s, NULL), DBE_E_ROE_TOKEN);
    }
    for (size_t at = 0; at < sizeof g.a; at += 97) {
        s = g;
        s.body.data = s.mem;
        s.b[at] ^= 0x10;
        assert_int_equal(verify(&s, NULL), DBE_E_ROE_TOKEN);
    }
    s = g; /* an approval of another token */
    s.roe.id[0] = 99;
    sign(&s);
    memcpy(g.b, s.b, sizeof g.b);
    g.body.data = g.mem;
    refused(&g, "the approval's signature is not that of spiffe://m/l9/person/3");
}

/* spec 16.2 */
static void what_cannot_stand_is_not_made(void **state)
{
    struct scene s;
    struct dbe_diag diag = {0};
    struct base_buf out;
    uint8_t mem[POL_ROE_BODY_MAX];

    (void)state;
    base_buf_init_fixed(&out, mem, sizeof mem);
#define CANNOT(change, words)                                                                                          \
    do {                                                                                                               \
        good(&s);                                                                                                      \
        change;                                                                                                        \
        assert_int_equal(pol_roe_encode(&s.roe, &out, &diag), DBE_E_ARGUMENT);                                         \
        assert_non_null(strstr(diag.text, words));                                                                     \
        assert_int_equal(out.len, 0);                                                                                  \
    } while (0)
    CANNOT(memset(s.roe.id, 0, sizeof s.roe.id), "id is zero");
    CANNOT(s.roe.verb = 0x30, "no message type"); /* an alias is never written */
    CANNOT(s.roe.device = 200, "device is unknown");
    CANNOT(s.roe.category = 3, "category is unknown");
    CANNOT(s.roe.category = POL_ROE_NC3, "for device 61");
    CANNOT(s.roe.device = 61, "for device 61");
    CANNOT(s.roe.compartments |= DBE_COMPARTMENT_KINETIC, "KINETIC");
    CANNOT(s.roe.classification_max = 9, "classification is unknown");
    CANNOT(s.roe.not_after_ms = s.roe.not_before_ms, "window");
    CANNOT(s.roe.not_after_ms = s.roe.not_before_ms + POL_ROE_LIFETIME_MAX_MS + 1, "window");
    CANNOT(s.roe.tenant[0] = '\0', "tenant");
    CANNOT(s.roe.requester[0] = '\0', "requester");
    CANNOT(s.roe.roe_level = 9, "ROE level");
    CANNOT(s.roe.tenant[1] = '\n', "tenant"); /* what an approver reads would not be what stands there */
    CANNOT(memcpy(s.roe.tenant, "A\xC2\x9B", 3), "tenant");
    CANNOT(s.roe.requester[3] = '\033', "requester");
    CANNOT(s.roe.requester[3] = '\177', "requester");
#undef CANNOT
}

static void every_allocation_may_fail(void **state)
{
    struct scene s;
    dbe_err err = DBE_E_NOMEM;
    uint64_t nth = 1;

    (void)state;
    good(&s);
    sign(&s);
    for (; err != DBE_OK && nth < 100; nth++) {
        base_fail_alloc_at(nth);
        err = verify(&s, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_CRYPTO);
    }
    assert_int_equal(err, DBE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_persons_permit_one_message),
        cmocka_unit_test(nothing_but_that_message),
        cmocka_unit_test(a_piece_comes_apart),
        cmocka_unit_test(who_asked_does_not_approve),
        cmocka_unit_test(it_takes_two_persons),
        cmocka_unit_test(only_enrolled_persons_approve),
        cmocka_unit_test(every_bit_is_signed),
        cmocka_unit_test(what_cannot_stand_is_not_made),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(who_is_named_has_asked),
    };
    return cmocka_run_group_tests(tests, make_people, free_people);
}
