/* SPDX-License-Identifier: Apache-2.0
 *
 * completion.c - `dsmil completion SHELL`: verbs and options for the Tab key of bash, zsh and fish.
 *
 * In:   the table of verbs in main.c, and what each verb's own --help says. There is no second list that could go
 *       stale: an option that help tells of is completed, and tests hold help against what verbs take.
 * Out:  a script on stdout
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

enum { WORDS_MAX = 96, WORD_MAX_BYTES = 40, HELP_MAX_BYTES = 65536 };

struct word {
    char text[WORD_MAX_BYTES];
    bool option, value; /* an option, and one that is followed by a value; neither: a verb of the verb */
};

struct verb_words {
    const char *name, *doc;
    struct word words[WORDS_MAX];
    size_t count;
};

/* ---- reading help ------------ */

/* Standard output of `run VERB --help`, in a process of its own. */
static dbe_err help_of(const char *name, int (*run)(int, char **), struct base_buf *out)
{
    char help[] = "--help", verb[WORD_MAX_BYTES], *argv[] = {verb, help, NULL}, piece[4096];
    int ends[2], status;
    ssize_t n;

    snprintf(verb, sizeof verb, "%s", name);
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return DBE_E_IO;
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (dup2(ends[1], STDOUT_FILENO) < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 ||
            dup2(null, STDERR_FILENO) < 0)
            _exit(CLI_FAILED);
        const int code = run(2, argv);
        fflush(stdout);
        _exit(code);
    }
    close(ends[1]);
    while (pid > 0 && (n = read(ends[0], piece, sizeof piece)) > 0)
        base_buf_bytes(out, piece, (size_t)n);
    close(ends[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != CLI_OK)
        return DBE_E_IO;
    return out->err;
}

static void add_word(struct verb_words *v, const char *text, size_t len, bool option, bool value)
{
    if (len == 0 || len >= WORD_MAX_BYTES)
        return;
    for (size_t i = 0; i < v->count; i++)
        if (strncmp(v->words[i].text, text, len) == 0 && v->words[i].text[len] == '\0') {
            v->words[i].value = v->words[i].value || value;
            return;
        }
    if (v->count == WORDS_MAX)
        return;
    struct word *w = &v->words[v->count++];
    snprintf(w->text, sizeof w->text, "%.*s", (int)len, text);
    w->option = option;
    w->value = value;
}

static size_t name_length(const char *at)
{
    size_t len = 0;

    while (islower((unsigned char)at[len]) || isdigit((unsigned char)at[len]) || (at[len] == '-' && len > 0))
        len++;
    return len;
}

/* Options: "-x" and "--word" that begin a word; a value is what follows in capitals, digits or alternatives. */
static void find_options(struct verb_words *v, const char *help)
{
    for (const char *at = strchr(help, '-'); at != NULL; at = strchr(at, '-')) {
        const bool begins = at == help || !(isalnum((unsigned char)at[-1]) || strchr("-/$.", at[-1]) != NULL);
        const size_t dashes = strspn(at, "-"), len = name_length(at + dashes);
        const char *end = at + dashes + len;
        if (begins && ((dashes == 2 && len > 1) || (dashes == 1 && len == 1))) {
            const size_t next = *end == ' ' ? strcspn(end + 1, " ]\n,") : 0;
            const bool value =
                *end == '=' || (next > 0 && (isupper((unsigned char)end[1]) || isdigit((unsigned char)end[1]) ||
                                             (end[1] != '|' && memchr(end + 1, '|', next) != NULL)));
            add_word(v, at, dashes + len, true, value);
        }
        at = end;
    }
}

/* "a | b | c" from `at` on, of which each is a verb. */
static void add_verbs(struct verb_words *v, const char *at)
{
    for (size_t len; (len = name_length(at)) > 1; at += len + 3) {
        add_word(v, at, len, false, false);
        if (strncmp(at + len, " | ", 3) != 0)
            return;
    }
}

/* Verbs of the verb: "dsmil keys init ..." wherever it stands, or "  init  ..." in a list. */
static void find_verbs(struct verb_words *v, const char *help)
{
    char lead[WORD_MAX_BYTES + 8];
    const size_t lead_len = (size_t)snprintf(lead, sizeof lead, "dsmil %s ", v->name);

    for (const char *at = strstr(help, lead); at != NULL; at = strstr(at, lead))
        add_verbs(v, at += lead_len);
    for (const char *line = help; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        const size_t len = strspn(line, " ") == 2 ? name_length(line + 2) : 0;
        const char *end = line + 2 + len;
        if (len > 1 && *end == ' ' && (strchr(" -[", end[1]) != NULL || isupper((unsigned char)end[1])))
            add_word(v, line + 2, len, false, false);
    }
}

static dbe_err read_verb(size_t n, struct verb_words *ret, bool *ret_more)
{
    int (*run)(int, char **);
    struct base_buf help;

    *ret_more = (ret->name = cli_verb(n, &ret->doc, &run)) != NULL;
    if (!*ret_more)
        return DBE_OK;
    base_buf_init(&help, HELP_MAX_BYTES);
    dbe_err err = help_of(ret->name, run, &help);
    if (err == DBE_OK) {
        find_verbs(ret, base_buf_cstr(&help));
        find_options(ret, base_buf_cstr(&help));
        add_word(ret, "--help", 6, true, false);
    }
    base_buf_free(&help);
    return err;
}

/* ---- writing scripts ------------ */

enum kind { VERBS, OPTIONS, VALUES };

static void list(const struct verb_words *v, enum kind kind, const char *between)
{
    const char *sep = "";

    for (size_t i = 0; i < v->count; i++) {
        const struct word *w = &v->words[i];
        if (kind == VERBS ? w->option : !w->option || (kind == VALUES && !w->value))
            continue;
        printf("%s%s", sep, w->text);
        sep = between;
    }
}

static void quoted(const char *text)
{
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

/* What a verb has, as a branch of `case` in bash and zsh. */
static void branch(const struct verb_words *v, const char *begin, const char *end)
{
    static const struct {
        enum kind kind;
        const char *name;
    } lists[] = {{VERBS, "verbs"}, {OPTIONS, "options"}, {VALUES, "values"}};

    printf("    %s)", v->name);
    for (size_t i = 0; i < BASE_ARRAY_LEN(lists); i++) {
        printf("\n        %s=%s", lists[i].name, begin);
        list(v, lists[i].kind, " ");
        fputs(end, stdout);
    }
    puts(" ;;");
}

static void bash_begin(void)
{
    puts("# bash completion for dsmil; made by `dsmil completion bash`\n"
         "_dsmil() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verbs='' options='' values='' "
         "all=''\n"
         "    case ${COMP_WORDS[1]-} in");
}

static void bash_verb(const struct verb_words *v)
{
    branch(v, "'", "'");
}

static void bash_end(const char *names)
{
    printf("    esac\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        all='%s'\n"
           "    else\n"
           "        # a value: the shell's own completion offers files\n"
           "        case \" $values \" in *\" $prev \"*) return ;; esac\n"
           "        case $cur in\n"
           "        -*) all=$options ;;\n"
           "        *) [ \"$COMP_CWORD\" -ne 2 ] || all=$verbs ;;\n"
           "        esac\n"
           "    fi\n"
           "    mapfile -t COMPREPLY < <(compgen -W \"$all\" -- \"$cur\")\n"
           "}\n"
           "complete -o default -F _dsmil dsmil\n",
           names);
}

static void zsh_begin(void)
{
    puts("#compdef dsmil\n"
         "# zsh completion for dsmil; made by `dsmil completion zsh`\n"
         "_dsmil() {\n"
         "    local -a all verbs options values\n"
         "    case ${words[2]-} in");
}

static void zsh_verb(const struct verb_words *v)
{
    branch(v, "(", ")");
}

static void zsh_end(const char *names)
{
    const char *name, *doc;
    int (*run)(int, char **);

    (void)names;
    puts("    esac\n    all=(");
    for (size_t i = 0; (name = cli_verb(i, &doc, &run)) != NULL; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s:%s", name, doc);
        fputs("        ", stdout);
        quoted(text);
        putchar('\n');
    }
    puts("    )\n"
         "    if (( CURRENT == 2 )); then\n"
         "        _describe verb all\n"
         "    elif (( ${values[(Ie)${words[CURRENT-1]}]} )); then\n"
         "        _files\n"
         "    elif [[ ${words[CURRENT]} == -* ]]; then\n"
         "        compadd -- $options\n"
         "    elif (( CURRENT == 3 && $#verbs )); then\n"
         "        compadd -- $verbs\n"
         "    else\n"
         "        _files\n"
         "    fi\n"
         "}\n"
         "compdef _dsmil dsmil");
}

static void fish_begin(void)
{
    puts("# fish completion for dsmil; made by `dsmil completion fish`");
}

static void fish_verb(const struct verb_words *v)
{
    printf("complete -c dsmil -f -n __fish_use_subcommand -a %s -d ", v->name);
    quoted(v->doc);
    putchar('\n');
    for (size_t i = 0; i < v->count; i++) {
        const struct word *w = &v->words[i];
        const char *flag = !w->option ? "-a" : w->text[1] == '-' ? "-l" : "-s";
        printf("complete -c dsmil -n '__fish_seen_subcommand_from %s' %s %s%s\n", v->name, flag,
               w->text + strspn(w->text, "-"), w->value ? " -r" : "");
    }
}

static void fish_end(const char *names)
{
    (void)names;
}

static const struct shell {
    const char *name;
    void (*begin)(void);
    void (*verb)(const struct verb_words *v);
    void (*end)(const char *names);
} shells[] = {{"bash", bash_begin, bash_verb, bash_end},
              {"zsh", zsh_begin, zsh_verb, zsh_end},
              {"fish", fish_begin, fish_verb, fish_end}};

static int write_script(const struct shell *shell)
{
    char names[1024] = "help";
    size_t len = strlen(names);

    shell->begin();
    for (size_t i = 0;; i++) {
        static struct verb_words v;
        bool more;
        memset(&v, 0, sizeof v);
        dbe_err err = read_verb(i, &v, &more);
        if (err != DBE_OK)
            return cli_fail(CLI_FAILED, v.name, err, NULL);
        if (!more)
            break;
        shell->verb(&v);
        len += (size_t)snprintf(names + len, sizeof names - len, " %s", v.name);
        if (len >= sizeof names)
            return cli_fail(CLI_FAILED, "completion", DBE_E_TOO_LARGE, NULL);
    }
    shell->end(names);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

int cli_completion(int argc, char **argv)
{
    const bool help = argc == 2 && strcmp(argv[1], "--help") == 0;

    for (size_t i = 0; argc == 2 && i < BASE_ARRAY_LEN(shells); i++)
        if (strcmp(argv[1], shells[i].name) == 0)
            return write_script(&shells[i]);
    if (!help)
        return cli_wrong("completion", "bash, zsh or fish?");
    fputs("usage: dsmil completion bash | zsh | fish      a script for the shell's Tab key\n\n"
          "For bash and this shell alone: source <(dsmil completion bash). `make install` puts it where bash looks.\n"
          "For zsh a file _dsmil in a folder of $fpath, for fish ~/.config/fish/completions/dsmil.fish.\n",
          stdout);
    return CLI_OK;
}
