/* SPDX-License-Identifier: Apache-2.0
 *
 * crash.c - see crash.h.
 *
 * Everything that the handler calls is async-signal-safe (signal-safety(7)): no allocation, no stdio, no lock. It runs
 * on a stack of its own, because an overflow of the ordinary one is a reason to come here.
 */
#include "runtime/crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK_BYTES = 64 * 1024, LINE_MAX_BYTES = 512, NAME_MAX_BYTES = 64 };

struct note {
    const char *what;
    uint64_t mono_ns, number;
    uint8_t id[16];
    bool has_id;
};

static struct note notes[CRASH_NOTES];
static _Atomic unsigned written;
static char service[NAME_MAX_BYTES];
static int log_fd = STDERR_FILENO;

void svc_crash_note(const char *what, const uint8_t *id, uint64_t number)
{
    unsigned n = atomic_load_explicit(&written, memory_order_relaxed);
    struct note *at = &notes[n % CRASH_NOTES];

    at->what = what;
    at->mono_ns = base_mono_ns();
    at->number = number;
    at->has_id = id != NULL;
    if (id != NULL)
        memcpy(at->id, id, sizeof at->id);
    atomic_store_explicit(&written, n + 1, memory_order_release);
}

/* ---- a line, in the handler -------------------------------------------------------------------------------------- */

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *l, const char *text)
{
    while (*text != '\0' && l->len < sizeof l->text - 2)
        l->text[l->len++] = *text++;
}

static void put_number(struct line *l, uint64_t value, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    put(l, digits + at);
}

static void put_id(struct line *l, const uint8_t id[16])
{
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            put(l, "-");
        put_number(l, id[i] >> 4, 16);
        put_number(l, id[i] & 15, 16);
    }
}

static void put_head(struct line *l)
{
    l->len = 0;
    put(l, "{\"level\":\"error\",\"event_type\":\"crash\",\"service\":\"");
    put(l, service);
    put(l, "\"");
}

static void emit(struct line *l)
{
    l->text[l->len++] = '\n';
    for (size_t done = 0; done < l->len;) {
        ssize_t n = write(log_fd, l->text + done, l->len - done);
        if (n <= 0)
            return;
        done += (size_t)n;
    }
}

static const char *name_of(int signo)
{
    switch (signo) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGILL: return "SIGILL";
    case SIGFPE: return "SIGFPE";
    case SIGABRT: return "SIGABRT";
    case SIGSYS: return "SIGSYS";
    default: return "signal";
    }
}

static uint64_t counter_of(const void *context)
{
#if defined(__x86_64__)
    return (uint64_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return ((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static void say_cause(struct line *l, int signo, const siginfo_t *info, const void *context)
{
    put_head(l);
    put(l, ",\"message\":\"died of ");
    put(l, name_of(signo));
    if (signo == SIGSYS) { /* the sandbox refused a system call that no service makes */
        put(l, ": system call ");
        put_number(l, (uint64_t)(unsigned)info->si_syscall, 10);
    } else if (signo == SIGSEGV || signo == SIGBUS) {
        put(l, " at address 0x");
        put_number(l, (uint64_t)(uintptr_t)info->si_addr, 16);
    }
    put(l, ", code at 0x");
    put_number(l, counter_of(context), 16);
    put(l, "\",\"pid\":");
    put_number(l, (uint64_t)getpid(), 10);
    put(l, ",\"unix_s\":");
    put_number(l, base_wall_ms() / 1000, 10);
    put(l, "}");
    emit(l);
}

static void say_note(struct line *l, const struct note *n, uint64_t now_ns)
{
    put_head(l);
    put(l, ",\"message\":\"before: ");
    put(l, n->what);
    put(l, "\",\"ago_us\":");
    put_number(l, now_ns > n->mono_ns ? (now_ns - n->mono_ns) / 1000 : 0, 10);
    put(l, ",\"number\":");
    put_number(l, n->number, 10);
    if (n->has_id) {
        put(l, ",\"request_id\":\"");
        put_id(l, n->id);
        put(l, "\"");
    }
    put(l, "}");
    emit(l);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    static atomic_flag once = ATOMIC_FLAG_INIT;
    struct line line;
    const unsigned end = atomic_load_explicit(&written, memory_order_acquire);

    if (!atomic_flag_test_and_set(&once)) {
        const uint64_t now_ns = base_mono_ns();
        say_cause(&line, signo, info, context);
        for (unsigned i = end > CRASH_NOTES ? end - CRASH_NOTES : 0; i != end; i++)
            if (notes[i % CRASH_NOTES].what != NULL)
                say_note(&line, &notes[i % CRASH_NOTES], now_ns);
    }
    /* SA_RESETHAND has put the default action back; a fault comes again by itself, a sent signal does not. */
    raise(signo);
}

/* ---- set-up ------------------------------------------------------------------------------------------------------ */

void svc_crash_install(const char *name, int fd)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    stack_t stack = {.ss_size = STACK_BYTES};

    log_fd = fd;
    for (size_t i = 0; i + 1 < sizeof service && name[i] != '\0'; i++)
        service[i] = name[i];
    stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) != 0)
        action.sa_flags &= ~SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < BASE_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &action, NULL);
}
