/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c - `dsmil VERB ...`: the table of verbs, help and version. Holds no logic of a verb.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "crypto/crypto.h"

struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *args, *doc;
};

static int version(int argc, char **argv)
{
    struct dbe_diag diag = {0};
    bool json = false;
    int code = cli_json_alone(argc, argv, "version of dsmil and of its cryptography", &json);

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if (crypto_init(&diag) != DBE_OK)
        return cli_fail(CLI_FAILED, "cryptography", DBE_E_CRYPTO, &diag);
    if (json)
        return cli_print_json(json_pack("{s:s,s:s}", "version", DSMIL_VERSION, "crypto", crypto_backend_version()));
    printf("dsmil %s (%s)\n", DSMIL_VERSION, crypto_backend_version());
    return CLI_OK;
}

static const struct verb verbs[] = {
    {"up", cli_up, "[--model FILE] [--port N] [--check]",
     "start and supervise the mesh, show its first light, stay up"},
    {"down", cli_down, "", "stop the mesh"},
    {"status", cli_status, "[--json]", "what runs, how healthy it is"},
    {"ask", cli_ask, "[--no-stream] [--path] \"QUESTION\"", "ask the local model through the gateway"},
    {"chat", cli_talk, "[--system TEXT] [--temperature X]", "a conversation with the local model on the terminal"},
    {"agent", cli_agent, "summarise | classify | triage ...", "a bounded task on a text, answered as JSON"},
    {"keys", cli_keys, "init | issue | list | renew | revoke ...", "the mesh's certificate authority and identities"},
    {"api-key", cli_api_key, "add | list | remove ...", "keys by which programs use the gateway, one a tenant"},
    {"channels", cli_channels, "[rekey | renew | suite NAME]", "sealed channels; new keys, other suite"},
    {"reload", cli_reload, "[--json]", "services read their configuration again"},
    {"policy", cli_policy, "check | explain | test | reload", "a policy: is it one, what it decides and why"},
    {"roe", cli_roe, "request | approve | show ...", "tokens by which two persons permit one message"},
    {"dump", cli_dump, "[--json] [--pcap OUT] FILE|-", "explain messages and records, byte by byte"},
    {"receipt", cli_receipt, "verify | show FILE", "what a worker signed about its answer, judged offline"},
    {"audit", cli_audit, "verify | tail [-f] | prove | ...",
     "the log of decisions and security events, and whether it is right"},
    {"llm", cli_llm, "run | info | bench | quantize ...", "look at a model file, without a mesh"},
    {"first-light", cli_first_light, "[--json]", "the main job, shown: two answers, four refusals"},
    {"top", cli_top, "[--once] [--json]", "what every service does, again each second"},
    {"logs", cli_logs, "[-f] [--service NAME] [--level LEVEL]", "what the services wrote, merged by time"},
    {"completion", cli_completion, "bash | zsh | fish", "verbs and options for the shell's Tab key"},
    {"version", version, "[--json]", "version of dsmil and of its cryptography"},
};

const char *cli_verb(size_t n, const char **ret_doc, int (**ret_run)(int argc, char **argv))
{
    if (n >= BASE_ARRAY_LEN(verbs))
        return NULL;
    *ret_doc = verbs[n].doc;
    *ret_run = verbs[n].run;
    return verbs[n].name;
}

static int usage(void)
{
    printf("usage: dsmil VERB [OPTIONS]\n\n");
    for (size_t i = 0; i < BASE_ARRAY_LEN(verbs); i++)
        printf("  %-12s %-38s %s\n", verbs[i].name, verbs[i].args, verbs[i].doc);
    printf("\nState lies under $DSMIL_STATE, or ~/.local/state/dsmil. `dsmil VERB --help` tells more.\n");
    return CLI_OK;
}

static bool asks_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* One verb, whose name is argv[0]. Help is asked for behind it, or behind a verb of its own. */
static int run(int argc, char **argv)
{
    static char help[] = "--help";
    char *only_help[] = {argv[0], help, NULL};

    for (size_t i = 0; i < BASE_ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[0], verbs[i].name) != 0)
            continue;
        if ((argc > 1 && asks_help(argv[1])) || (argc > 2 && argv[1][0] != '-' && asks_help(argv[2])))
            return verbs[i].run(2, only_help);
        return verbs[i].run(argc, argv);
    }
    return cli_wrong("", "no verb \"%s\"", argv[0]);
}

static int help(int argc, char **argv)
{
    static char word[] = "--help";
    char *ask[] = {argc > 2 ? argv[2] : NULL, word, NULL};

    return argc > 2 ? run(2, ask) : usage();
}

/* Descriptors 0 to 2 are there, also where the caller closed them: else the next file that a verb opens is what it then
 * prints into. They are opened the wrong way round, so that using them fails. */
static bool hold_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

/* What a verb printed has arrived, or that is said: a full disk must not look like an answer. */
static int finish(int code, int argc, char **argv)
{
    struct dbe_diag diag = {0};
    bool json = false;

    for (int i = 1; i < argc && !json; i++)
        json = strcmp(argv[i], "--json") == 0;
    if (json && code != CLI_OK)
        (void)cli_json_failure(code);
    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return code;
    (void)dbe_fail(&diag, DBE_E_IO, NULL, 0, "what was to be printed is not whole: %s",
                   strerror(errno != 0 ? errno : EIO));
    (void)cli_fail(code, "standard output", DBE_E_IO, &diag);
    return code != CLI_OK ? code : CLI_FAILED;
}

int main(int argc, char **argv)
{
    if (!hold_standard_files())
        return CLI_FAILED;
    if (argc > 0)
        cli_self = argv[0];
    if (argc < 2)
        return cli_wrong("", "which verb?");
    if (strcmp(argv[1], "help") == 0 || asks_help(argv[1]))
        return finish(help(argc, argv), 0, NULL);
    if (strcmp(argv[1], "--version") == 0)
        return finish(version(0, NULL), 0, NULL);
    return finish(run(argc - 1, argv + 1), argc - 1, argv + 1);
}
