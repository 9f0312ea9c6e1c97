/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_bench.c - the verb bench: speed and memory of a model, held against what the machine can do in the same run.
 *
 * Loading is held against reading the file (warm, by plain reads of one thread) into fresh memory, which has to be made
 * as the weights' has, and into a buffer in use; decoding against the read bandwidth of the memory (bandwidth.c),
 * measured between passes all along, because on shared machines it changes within seconds; memory against the file's
 * size.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "tool.h"

enum { PROMPT_DEFAULT = 512, ANSWER_DEFAULT = 128, READ_CHUNK = 4 << 20, READ_EVERY_MS = 150, JSON_MAX = 1 << 16 };

struct bench {
    struct llm_model *m, *draft; /* draft: NULL without */
    struct llm_tokens given;     /* the prompt, where it is not made up */
    uint32_t prompt, answer, sessions;
    uint64_t decoded, passes;   /* tokens of all sessions after each one's first; passes for them */
    uint64_t drafted, accepted; /* guesses among the rows of these passes, and the right ones of them */
    uint64_t text;              /* hash over the answers */
    double file_s, fresh_s, load_s, prefill_s, decode_s;
    double read_bytes_per_s, best_read; /* beside decoding, in the mean over its time; at best */
    struct llm_reader *reader;
    uint64_t file_bytes, rss_bytes, peak_bytes;
};

static double seconds_since(uint64_t ns)
{
    return (double)(base_mono_ns() - ns) / 1e9;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

/* Read the file a chunk at a time: each to where it would stand in the whole file, or all to the same place. */
static double time_read(int fd, uint8_t *to, bool whole, uint64_t bytes)
{
    const uint64_t start = base_mono_ns();
    ssize_t n;

    for (uint64_t at = 0; at < bytes; at += (uint64_t)n) {
        n = pread(fd, whole ? to + at : to, BASE_MIN((uint64_t)READ_CHUNK, bytes - at), (off_t)at);
        if (n <= 0)
            break;
    }
    return seconds_since(start);
}

static dbe_err time_reads(int fd, struct bench *b)
{
    struct llm_arena fresh;

    DBE_TRY(llm_arena_init(&fresh, READ_CHUNK));
    (void)time_read(fd, fresh.at, false, b->file_bytes); /* the file, too, is in memory then */
    b->file_s = time_read(fd, fresh.at, false, b->file_bytes);
    llm_arena_free(&fresh);
    for (int turn = 0; turn < 2; turn++) { /* the first one has a hypervisor make the pages, for loading as well */
        DBE_TRY(llm_arena_init(&fresh, (size_t)b->file_bytes));
        b->fresh_s = time_read(fd, fresh.at, true, b->file_bytes);
        llm_arena_free(&fresh);
    }
    return DBE_OK;
}

static dbe_err read_file(const char *path, struct bench *b, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, "model", 0, "%.120s: cannot be opened", path);
    b->file_bytes = (uint64_t)st.st_size;
    return time_reads(fd, b);
}

/* A line of /proc/self/status such as "VmRSS:   123 kB", in bytes; 0: not there. */
static uint64_t status_bytes(const char *key)
{
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key), NULL, 10);
    if (f)
        (void)fclose(f);
    return kib * 1024;
}

static uint64_t answered(struct llm_session *const *sessions, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += llm_session_answer_tokens(sessions[i]);
    return sum;
}

/* Sessions of a bench that are not done yet. */
struct live {
    struct llm_session *sessions[LLM_SESSIONS_MAX];
    uint64_t *texts[LLM_SESSIONS_MAX]; /* hash of each one's answer so far */
    size_t count;
};

/* FNV-1a over the tokens of an answer. */
static void add_text(const struct llm_piece *piece, uint64_t *text)
{
    for (size_t i = 0; i < piece->prob_count; i++)
        *text = (*text ^ (uint32_t)piece->probs[i].id) * UINT64_C(0x100000001b3);
}

/* One pass for all that are not done. */
static dbe_err step(struct llm_model *m, struct live *live)
{
    struct llm_piece pieces[LLM_SESSIONS_MAX];
    dbe_err errs[LLM_SESSIONS_MAX];
    size_t left = 0;

    DBE_TRY(llm_batch_step(m, live->sessions, live->count, pieces, errs));
    for (size_t i = 0; i < live->count; i++) {
        DBE_TRY(errs[i]);
        add_text(&pieces[i], live->texts[i]);
        if (pieces[i].done)
            continue;
        live->sessions[left] = live->sessions[i];
        live->texts[left++] = live->texts[i];
    }
    live->count = left;
    return DBE_OK;
}

static bool all_began(struct llm_session *const *sessions, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (llm_session_answer_tokens(sessions[i]) == 0)
            return false;
    return true;
}

/* How fast memory is read just now. */
static double look(struct bench *b)
{
    const double now = llm_reader_run(b->reader, 0);

    b->best_read = BASE_MAX(b->best_read, now);
    return now;
}

/* Each session has a row in every pass, and gets a token for it; what more there is was guessed. */
static dbe_err decode(struct bench *b, struct llm_session *const *sessions, struct live *live)
{
    const uint64_t tokens = answered(sessions, b->sessions);
    struct llm_model_stats before, after;
    double read = look(b), readable = 0;
    uint64_t turns = 0;

    llm_model_stats(b->m, &before);
    while (live->count > 0) {
        const uint64_t began = base_mono_ns();
        const double last = read;
        do {
            turns += live->count;
            DBE_TRY(step(b->m, live));
        } while (live->count > 0 && base_mono_ns() - began < READ_EVERY_MS * (uint64_t)BASE_NS_PER_MS);
        const double took = seconds_since(began);
        read = look(b);
        b->decode_s += took;
        readable += took * (last + read) / 2;
    }
    b->read_bytes_per_s = b->decode_s > 0 ? readable / b->decode_s : 0;
    llm_model_stats(b->m, &after);
    b->decoded = answered(sessions, b->sessions) - tokens;
    b->passes = after.passes - before.passes;
    b->drafted = after.decode_rows - before.decode_rows - turns;
    b->accepted = b->decoded - turns;
    return DBE_OK;
}

static dbe_err run_sessions(struct bench *b, struct llm_session *const *sessions)
{
    uint64_t texts[LLM_SESSIONS_MAX];
    struct live live = {.count = b->sessions};
    const uint64_t start = base_mono_ns();

    for (size_t i = 0; i < live.count; i++) {
        live.sessions[i] = sessions[i];
        live.texts[i] = &texts[i];
        texts[i] = UINT64_C(0xcbf29ce484222325);
    }
    while (live.count > 0 && !all_began(sessions, b->sessions))
        DBE_TRY(step(b->m, &live));
    b->prefill_s = seconds_since(start);
    DBE_TRY(decode(b, sessions, &live));
    for (size_t i = 0; i < b->sessions; i++)
        b->text = b->text * 31 + texts[i];
    return DBE_OK;
}

/* The prompt of session k: the given one, or one that differs from all others. */
static void make_prompt(const struct bench *b, uint32_t k, int32_t *ids)
{
    for (uint32_t i = 0; i < b->prompt; i++)
        ids[i] =
            b->given.count > 0 ? b->given.ids[i] : (int32_t)((i * 7919u + k * 104729u) % llm_model_info(b->m)->n_vocab);
}

/* Greedy sessions; `sampling` brings what speculation and what probabilities are asked for, so that runs are alike. */
static dbe_err generate(const struct llm_session_params *sampling, struct bench *b, struct dbe_diag *diag)
{
    const struct llm_session_params params = {.max_tokens = b->answer + 1,
                                              .ignore_eos = true,
                                              .echo = sampling->echo,
                                              .logprobs = sampling->logprobs,
                                              .lookup_tokens = sampling->lookup_tokens,
                                              .draft = b->draft,
                                              .draft_tokens = sampling->draft_tokens};
    BASE_AUTO_FREE int32_t *ids = base_alloc(b->prompt, sizeof *ids);
    struct llm_session *sessions[LLM_SESSIONS_MAX] = {0};
    dbe_err err = ids ? DBE_OK : DBE_E_NOMEM;

    for (uint32_t k = 0; err == DBE_OK && k < b->sessions; k++) {
        make_prompt(b, k, ids);
        err = llm_session_new(b->m, ids, b->prompt, &params, &sessions[k], diag);
    }
    if (err == DBE_OK)
        err = run_sessions(b, sessions);
    for (size_t k = 0; k < b->sessions; k++)
        llm_session_free(sessions[k]);
    return err;
}

/* ---- the result -------------------------------------------------------------------------------------------------- */

static double acceptance(const struct bench *b)
{
    return b->drafted > 0 ? (double)b->accepted / (double)b->drafted : 0;
}

static int print_json(const struct llm_model_info *i, const struct bench *b, double decode, double moved)
{
    struct base_buf out;

    base_buf_init(&out, JSON_MAX);
    base_buf_str(&out, "{\"model\":");
    base_json_str(&out, i->name, strlen(i->name));
    base_buf_fmt(&out,
                 ",\"quantisation\":\"%s\",\"kernel\":\"%s\",\"threads\":%u,\"prompt\":%u,\"answer\":%u"
                 ",\"sessions\":%u",
                 i->quantisation, i->kernel, i->threads, b->prompt, b->answer, b->sessions);
    base_buf_fmt(&out,
                 ",\"passes\":%" PRIu64 ",\"drafted\":%" PRIu64 ",\"accepted\":%" PRIu64
                 ",\"acceptance\":%.4f,\"answer_hash\":\"%016" PRIx64 "\"",
                 b->passes, b->drafted, b->accepted, acceptance(b), b->text);
    base_buf_fmt(
        &out,
        ",\"tokens_per_pass\":%.3f,\"prefill_tokens_per_s\":%.2f,\"first_token_s\":%.6f,\"decode_tokens_per_s\":%.2f"
        ",\"decode_gb_per_s\":%.3f,\"read_gb_per_s\":%.3f,\"best_read_gb_per_s\":%.3f,\"decode_of_read\":%.4f",
        b->passes > 0 ? (double)b->decoded / (double)b->passes : 0.0, b->sessions * b->prompt / b->prefill_s,
        b->prefill_s, decode, moved / 1e9, b->read_bytes_per_s / 1e9, b->best_read / 1e9,
        b->read_bytes_per_s > 0 ? moved / b->read_bytes_per_s : 0.0);
    base_buf_fmt(&out,
                 ",\"load_s\":%.6f,\"file_read_s\":%.6f,\"fresh_read_s\":%.6f,\"file_bytes\":%" PRIu64
                 ",\"weights_bytes\":%" PRIu64 ",\"pass_bytes\":%" PRIu64 ",\"workspace_bytes\":%" PRIu64
                 ",\"rss_bytes\":%" PRIu64 ",\"peak_bytes\":%" PRIu64 "}",
                 b->load_s, b->file_s, b->fresh_s, b->file_bytes, i->weights_bytes, i->pass_bytes, i->workspace_bytes,
                 b->rss_bytes, b->peak_bytes);
    return tool_print(&out);
}

static int print(const struct tool_args *a, const struct llm_model_info *i, const struct bench *b)
{
    const double decode = b->decode_s > 0 ? (double)b->decoded / b->decode_s : 0;
    const double moved = b->decode_s > 0 ? (double)(b->passes * i->pass_bytes) / b->decode_s : 0;

    if (a->json)
        return print_json(i, b, decode, moved);
    printf("model %s (%s), kernel %s, %u threads\n", i->name, i->quantisation, i->kernel, i->threads);
    printf("load     %10.3f s, reading the file takes %.3f s into fresh memory, %.3f s into used\n", b->load_s,
           b->fresh_s, b->file_s);
    printf("memory   %10.1f MB resident (peak %.1f), the file has %.1f\n", (double)b->rss_bytes / 1e6,
           (double)b->peak_bytes / 1e6, (double)b->file_bytes / 1e6);
    if (b->sessions > 1)
        printf("%u sessions, figures are of all together\n", b->sessions);
    printf("prompt   %10.2f tokens/s over %u, first token after %.3f s\n", b->sessions * b->prompt / b->prefill_s,
           b->prompt, b->prefill_s);
    printf("decode   %10.2f tokens/s over %u, %.2f a pass, %.2f GB/s of weights\n", decode, b->answer,
           b->passes > 0 ? (double)b->decoded / (double)b->passes : 0.0, moved / 1e9);
    if (b->drafted > 0)
        printf("guessed  %10" PRIu64 " tokens, of which %.1f %% were right\n", b->drafted, 100 * acceptance(b));
    printf("reading  %10.2f GB/s meanwhile, of which decode uses %.1f %%; %.2f at best\n", b->read_bytes_per_s / 1e9,
           b->read_bytes_per_s > 0 ? 100 * moved / b->read_bytes_per_s : 0.0, b->best_read / 1e9);
    return 0;
}

static dbe_err measure(const struct tool_args *a, struct bench *b, struct dbe_diag *diag)
{
    if (a->draft)
        DBE_TRY(tool_load_draft(a, &b->draft, diag));
    DBE_TRY(llm_reader_new(llm_model_info(b->m)->threads, &b->reader));
    return generate(&a->sampling, b, diag);
}

static int load_and_measure(const struct tool_args *a, struct bench *b)
{
    struct dbe_diag diag = {0};
    dbe_err err = read_file(a->model, b, &diag);

    if (err != DBE_OK)
        return tool_fail(err, &diag);
    const uint64_t start = base_mono_ns();
    b->m = tool_load(a);
    b->load_s = seconds_since(start);
    if (!b->m)
        return 1;
    b->rss_bytes = status_bytes("VmRSS:");
    b->peak_bytes = status_bytes("VmHWM:");
    err = measure(a, b, &diag);
    return err == DBE_OK ? print(a, llm_model_info(b->m), b) : tool_fail(err, &diag);
}

int tool_bench(const struct tool_args *a)
{
    struct bench b = {.prompt = a->prompt_tokens ? a->prompt_tokens : PROMPT_DEFAULT,
                      .answer = a->n ? a->n : ANSWER_DEFAULT,
                      .sessions = a->sessions ? a->sessions : 1};

    if (a->tokens && tool_parse_tokens(a->tokens, &b.given) != DBE_OK)
        return tool_wrong("--tokens takes numbers with commas between, not \"%s\"", a->tokens);
    if (a->tokens)
        b.prompt = (uint32_t)b.given.count;
    const int status = load_and_measure(a, &b);
    llm_reader_free(b.reader);
    llm_model_free(b.m);
    llm_model_free(b.draft);
    llm_tokens_free(&b.given);
    return status;
}
