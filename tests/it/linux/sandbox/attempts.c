/* Hostile code in a model's process: a library that is loaded into it by LD_PRELOAD, and acts in a thread that the process starts
 * after it has restricted itself. Each attempt is one line on standard error: `attempt NAME ERRNO`, 0 if it succeeded. None of them
 * changes anything outside but VICTIM, whose mode, time and attributes change where that is allowed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef VICTIM
#error "the test names a file that it makes: -DVICTIM"
#endif

static long reaped(pid_t child) {
    if (child == 0) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    return child;
}

static long closed(long descriptor) {
    if (descriptor >= 0) close((int)descriptor);
    return descriptor;
}

static long removed(long id) {
    if (id >= 0) shmctl((int)id, IPC_RMID, NULL);
    return id;
}

static long with_rlimit(void) {
    struct rlimit same;
    return syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, &same);
}

static long with_affinity(void) {
    cpu_set_t same;
    if (sched_getaffinity(getppid(), sizeof same, &same) != 0) return -1;
    return sched_setaffinity(getppid(), sizeof same, &same);
}

static long with_scheduler(void) {
    struct sched_param none = {0};
    return syscall(SYS_sched_setscheduler, getppid(), SCHED_OTHER, &none);
}

static long with_attributes(void) {
    int file = open("/usr", O_RDONLY), flags = 0;
    long result = ioctl(file, FS_IOC_GETFLAGS, &flags) != 0 ? -1 : ioctl(file, FS_IOC_SETFLAGS, &flags);
    closed(file);
    return result;
}

static long with_owner(void) {
    return fcntl(STDERR_FILENO, F_SETOWN, 0);
}

static long with_handle(void) {
    struct { struct file_handle head; char rest[128]; } handle = {.head.handle_bytes = 128};
    int mount;
    return name_to_handle_at(AT_FDCWD, VICTIM, &handle.head, &mount, 0);
}

static long with_watch(void) {
    int watcher = inotify_init1(0);
    if (watcher < 0) return -1;
    long result = inotify_add_watch(watcher, "/tmp", IN_CREATE);
    close(watcher);
    return result;
}

static long with_clone3(void) {
    unsigned long arguments[11] = {[4] = SIGCHLD};
    return reaped(syscall(SYS_clone3, arguments, sizeof arguments));
}

static long with_code(int later) {
    void *page = mmap(NULL, 4096, later ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return -1;
    return later ? mprotect(page, 4096, PROT_READ | PROT_EXEC) : 0;
}

static long with_times(void) {
    return utimensat(AT_FDCWD, VICTIM, NULL, 0);
}

static long with_queue_of_messages(void) {
    int id = msgget(IPC_PRIVATE, 0600);
    if (id >= 0) msgctl(id, IPC_RMID, NULL);
    return id;
}

static long with_semaphore(void) {
    int id = semget(IPC_PRIVATE, 1, 0600);
    if (id >= 0) semctl(id, 0, IPC_RMID);
    return id;
}

#define attempt(name, expression)                                                             \
    do {                                                                                      \
        errno = 0;                                                                            \
        long result = (long)(expression);                                                     \
        dprintf(STDERR_FILENO, "attempt %s %d\n", name, result == -1 ? errno : 0);            \
    } while (0)

static void attempt_all(void) {
    attempt("chmod", chmod(VICTIM, 0640));
    attempt("fchmodat2", syscall(452, AT_FDCWD, VICTIM, 0640, 0));
    attempt("chown", chown(VICTIM, getuid(), getgid()));
    attempt("setxattr", setxattr(VICTIM, "user.attempt", "1", 1, 0));
    attempt("removexattr", removexattr(VICTIM, "user.attempt"));
    attempt("utimensat", with_times());
    attempt("FS_IOC_SETFLAGS", with_attributes());
    attempt("truncate", truncate(VICTIM, 0));
    attempt("mkdir", mkdir(VICTIM "-folder", 0700) == 0 ? rmdir(VICTIM "-folder") : -1);
    attempt("prlimit", with_rlimit());
    attempt("setpriority", setpriority(PRIO_PROCESS, getppid(), getpriority(PRIO_PROCESS, getppid())));
    attempt("sched_setscheduler", with_scheduler());
    attempt("sched_setaffinity", with_affinity());
    attempt("ioprio_set", syscall(SYS_ioprio_set, 1, getppid(), syscall(SYS_ioprio_get, 1, getppid())));
    attempt("fork", reaped(fork()));
    attempt("clone", reaped(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)));
    attempt("clone3", with_clone3());
    attempt("execve", syscall(SYS_execve, VICTIM "-none", NULL, NULL) == -1 && errno == ENOENT ? 0 : -1);
    attempt("setpgid", setpgid(0, getpgid(0)));
    attempt("kill", kill(getppid(), 0));
    attempt("tgkill", syscall(SYS_tgkill, getppid(), getppid(), 0));
    attempt("tkill", syscall(SYS_tkill, getppid(), 0));
    attempt("F_SETOWN", with_owner());
    attempt("PR_SET_PDEATHSIG", prctl(PR_SET_PDEATHSIG, 0));
    attempt("pidfd_open", closed(syscall(SYS_pidfd_open, getppid(), 0)));
    attempt("shmget", removed(shmget(IPC_PRIVATE, 4096, 0600)));
    attempt("msgget", with_queue_of_messages());
    attempt("semget", with_semaphore());
    attempt("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0));
    attempt("add_key", syscall(SYS_add_key, "user", "attempt", "1", 1, KEY_SPEC_THREAD_KEYRING));
    attempt("unshare", unshare(CLONE_FS));
    attempt("userfaultfd", closed(syscall(SYS_userfaultfd, 1)));
    attempt("open_tree", closed(syscall(SYS_open_tree, AT_FDCWD, "/", 0)));
    attempt("fsopen", closed(syscall(SYS_fsopen, "tmpfs", 0)));
#ifdef __x86_64__
    attempt("fork by its own call", reaped(syscall(SYS_fork)));
    char entry[16];
    attempt("modify_ldt", syscall(SYS_modify_ldt, 0, entry, sizeof entry));
#endif
    attempt("personality", syscall(SYS_personality, 0xffffffff));
    attempt("io_uring_setup", closed(syscall(SYS_io_uring_setup, 1, (char[120]){0})));
    attempt("bpf", closed(syscall(SYS_bpf, 0, (int[4]){2, 4, 4, 1}, 16)));
    attempt("inotify", with_watch());
    attempt("name_to_handle_at", with_handle());
    attempt("socket", closed(socket(AF_UNIX, SOCK_STREAM, 0)));
    attempt("writable code", with_code(0));
    attempt("code that was written", with_code(1));
}

static int is_worker(void) {
    char line[4096] = {0};
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t length = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) fclose(file);
    return memmem(line, length, "\0worker", 8) != NULL;
}

struct start { void *(*routine)(void *); void *argument; };

static void *attempt_and_run(void *pointer) {
    struct start start = *(struct start *)pointer;
    free(pointer);
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, attempt_all);
    return start.routine(start.argument);
}

/* The first thread of a model's process is started once it has restricted itself. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    if (!is_worker()) return real(thread, attributes, routine, argument);
    struct start *start = malloc(sizeof *start);
    *start = (struct start){routine, argument};
    return real(thread, attributes, attempt_and_run, start);
}
