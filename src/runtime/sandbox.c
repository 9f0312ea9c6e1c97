/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.c - see sandbox.h. Two tables and the three rules that look at arguments.
 *
 * It is entered once the service stands: keys are read, sockets bound, the model loaded. So no service needs a network
 * socket any more: what listens, listens.
 */
#include "runtime/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* Names, not numbers: a call that this architecture lacks is skipped. */
static const char *const allowed[] = {
    /* bytes */
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "lseek",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "pipe2",
    "fcntl",
    "ioctl",
    "sendfile",
    "splice",
    /* files */
    "open",
    "openat",
    "openat2",
    "creat",
    "access",
    "faccessat",
    "faccessat2",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "getdents64",
    "readlink",
    "readlinkat",
    "getcwd",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "flock",
    "fchmod",
    "fchmodat",
    "chmod",
    "umask",
    "utimensat",
    "inotify_init1",
    "inotify_add_watch",
    "inotify_rm_watch",
    "memfd_create",
    /* sockets that are there; new ones by rule */
    "accept",
    "accept4",
    "bind",
    "listen",
    "connect",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    /* waiting */
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd4",
    "nanosleep",
    "clock_nanosleep",
    "pause",
    /* memory; mmap and mprotect by rule */
    "munmap",
    "mremap",
    "madvise",
    "brk",
    "mlock",
    "mlock2",
    "munlock",
    "mincore",
    "msync",
    "membarrier",
    "get_mempolicy",
    /* threads and signals; clone by rule */
    "futex",
    "futex_waitv",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "set_tid_address",
    "gettid",
    "getpid",
    "getppid",
    "tgkill",
    "kill",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "rt_sigpending",
    "sigaltstack",
    "restart_syscall",
    "exit",
    "exit_group",
    /* who and when */
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getrandom",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "times",
    "uname",
    "sysinfo",
    "getrusage",
    "getrlimit",
    "prlimit64",
    "setrlimit",
    "prctl",
    "arch_prctl",
    "getcpu",
};

/* Nobody calls these by mistake. */
static const char *const deadly[] = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "kcmp",
    "mount",
    "umount2",
    "move_mount",
    "open_tree",
    "fsopen",
    "pivot_root",
    "chroot",
    "setns",
    "unshare",
    "bpf",
    "userfaultfd",
    "perf_event_open",
    "keyctl",
    "add_key",
    "request_key",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "personality",
    "iopl",
    "ioperm",
    "io_uring_setup",
};

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const int number = seccomp_syscall_resolve_name(names[i]);
        int rc = number == __NR_SCMP_ERROR || number < 0 ? 0 : seccomp_rule_add(filter, action, number, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Memory that is not writable and executable at once: code that was written cannot run. */
static int add_memory(scmp_filter_ctx filter, int number)
{
    static const scmp_datum_t fine[] = {0, PROT_WRITE, PROT_EXEC};
    int rc = 0;

    for (size_t i = 0; i < BASE_ARRAY_LEN(fine) && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, fine[i]));
    return rc;
}

/* Threads and Unix sockets. The flags of clone3 lie in memory that a filter cannot read: it does not exist here, and
 * the C library then takes clone. */
static int add_by_argument(scmp_filter_ctx filter)
{
    int rc = add_memory(filter, SCMP_SYS(mmap));

    if (rc == 0)
        rc = add_memory(filter, SCMP_SYS(mprotect));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    return rc;
}

dbe_err svc_sandbox_enter(struct dbe_diag *diag)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc;

    if (filter == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, NULL, 0, "sandbox: no filter");
    rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0) /* a call by another table of numbers must not slip through */
        rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = add_names(filter, SCMP_ACT_ALLOW, allowed, BASE_ARRAY_LEN(allowed));
    if (rc == 0)
        rc = add_names(filter, SCMP_ACT_TRAP, deadly, BASE_ARRAY_LEN(deadly));
    if (rc == 0)
        rc = add_by_argument(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    if (rc == -ENOSYS || rc == -EINVAL)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, NULL, 0, "sandbox: this kernel has no seccomp filters");
    return rc == 0 ? DBE_OK : dbe_fail(diag, DBE_E_IO, NULL, 0, "sandbox: %s", strerror(-rc));
}
