/* Fails the Nth call that changes a file below a folder, in all processes that have this library.
 *
 * Preloaded (LD_PRELOAD). What is to fail stands in a file that all processes map, named by
 * NTH_CALL_STATE, so that N counts across processes and is set anew while they run. nth_shim.py has
 * the layout of that file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, WRITE, FSYNC, RENAME, LINK, MKDIR, UNLINK, ATTRIBUTES, READ };
enum mode { COUNT, ONCE, ON, KILL };
enum verdict { PASS, FAIL, HALF };

#define TRACED 4096
#define WORDS 256

struct state {
    int32_t armed; /* 0: nothing is counted */
    int32_t mode;
    int64_t count;
    int64_t at;
    int32_t error;
    uint32_t kinds; /* a bit for each kind that counts */
    char folder[1024];
    char trace[TRACED][WORDS]; /* "pid call path" of each call that was counted */
};

static struct state *state;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("NTH_CALL_STATE");
    int descriptor = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *found = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (found != MAP_FAILED) state = found;
    syscall(SYS_close, descriptor);
}

static int below(const char *path) {
    size_t length = strlen(state->folder);
    return strncmp(path, state->folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The path of a descriptor; -1 where it has none. */
static int of_descriptor(int descriptor, char *found) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, found, PATH_MAX - 1);
    if (length < 0) return -1;
    found[length] = 0;
    return 0;
}

/* The absolute path of what a call names, from `folder` where it is relative. */
static int absolute(int folder, const char *path, char *found) {
    char base[PATH_MAX];
    if (path == NULL) return -1;
    if (path[0] == '/') {
        snprintf(found, PATH_MAX, "%s", path);
        return 0;
    }
    if (folder == AT_FDCWD ? getcwd(base, sizeof base) == NULL : of_descriptor(folder, base) != 0)
        return -1;
    snprintf(found, 2 * PATH_MAX, "%s/%s", base, path);
    return 0;
}

static enum verdict judge(enum kind kind, const char *call, const char *path) {
    if (!below(path)) return PASS;
    int64_t number = __sync_add_and_fetch(&state->count, 1);
    if (number <= TRACED)
        snprintf(state->trace[number - 1], WORDS, "%d %s %s", (int)getpid(), call, path);
    if (state->mode == COUNT || number < state->at) return PASS;
    if (state->mode == KILL) {
        if (number > state->at) return PASS;
        if (kind == WRITE) return HALF; /* a line that is torn */
        kill(getpid(), SIGKILL);
    }
    if (state->mode == ONCE && number > state->at) return PASS;
    errno = state->error;
    /* A disk that fills shortens a write first, and refuses the next one. */
    if (kind == WRITE && state->mode == ON && number == state->at) return HALF;
    return FAIL;
}

static int counts(enum kind kind) {
    return state != NULL && state->armed && (state->kinds >> kind & 1);
}

static enum verdict at_path(enum kind kind, const char *call, int folder, const char *path) {
    char found[2 * PATH_MAX];
    if (!counts(kind) || absolute(folder, path, found) != 0) return PASS;
    return judge(kind, call, found);
}

static enum verdict at_descriptor(enum kind kind, const char *call, int descriptor) {
    char found[PATH_MAX];
    if (!counts(kind) || of_descriptor(descriptor, found) != 0) return PASS;
    return judge(kind, call, found);
}

#define NEXT(type, name, ...)                                     \
    static type (*next)(__VA_ARGS__);                             \
    if (next == NULL) next = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static enum kind opening(int flags) {
    return (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC)) ? READ : OPEN;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPENS(name)                                               \
    int name(const char *path, int flags, ...) {                  \
        NEXT(int, #name, const char *, int, ...);                 \
        va_list more;                                             \
        va_start(more, flags);                                    \
        mode_t mode = mode_of(flags, more);                       \
        va_end(more);                                             \
        if (at_path(opening(flags), "open", AT_FDCWD, path)) return -1; \
        return next(path, flags, mode);                           \
    }
#define OPENS_AT(name)                                            \
    int name(int folder, const char *path, int flags, ...) {      \
        NEXT(int, #name, int, const char *, int, ...);            \
        va_list more;                                             \
        va_start(more, flags);                                    \
        mode_t mode = mode_of(flags, more);                       \
        va_end(more);                                             \
        if (at_path(opening(flags), "open", folder, path)) return -1; \
        return next(folder, path, flags, mode);                   \
    }
#define STREAMS(name)                                             \
    FILE *name(const char *path, const char *how) {               \
        NEXT(FILE *, #name, const char *, const char *);          \
        enum kind kind = strpbrk(how, "wa+") ? OPEN : READ;       \
        if (at_path(kind, "open", AT_FDCWD, path)) return NULL;   \
        return next(path, how);                                   \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
STREAMS(fopen)
STREAMS(fopen64)

/* How much of a write is done: all, half of it, or -1. One that is to end the process does so. */
static ssize_t shortened(enum verdict verdict, size_t size) {
    if (verdict == FAIL || (verdict == HALF && size < 2 && state->mode != KILL)) return -1;
    return verdict == HALF ? (ssize_t)(size / 2) : (ssize_t)size;
}

static ssize_t written(enum verdict verdict, ssize_t done) {
    if (verdict == HALF && state->mode == KILL) kill(getpid(), SIGKILL);
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    enum verdict verdict = at_descriptor(WRITE, "write", descriptor);
    ssize_t part = shortened(verdict, size);
    return part < 0 ? -1 : written(verdict, next(descriptor, data, (size_t)part));
}

#define WRITES_AT(name)                                                           \
    ssize_t name(int descriptor, const void *data, size_t size, off64_t offset) { \
        NEXT(ssize_t, #name, int, const void *, size_t, off64_t);                 \
        enum verdict verdict = at_descriptor(WRITE, "pwrite", descriptor);        \
        ssize_t part = shortened(verdict, size);                                  \
        return part < 0 ? -1 : written(verdict, next(descriptor, data, (size_t)part, offset)); \
    }
#define SENDS(name)                                                               \
    ssize_t name(int target, int source, off64_t *offset, size_t size) {          \
        NEXT(ssize_t, #name, int, int, off64_t *, size_t);                        \
        enum verdict verdict = at_descriptor(WRITE, "sendfile", target);          \
        /* More is asked for than there is: half of that would be all. */         \
        ssize_t part = verdict == HALF ? 64 : shortened(verdict, size);           \
        return part < 0 ? -1 : written(verdict, next(target, source, offset, (size_t)part)); \
    }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)
SENDS(sendfile)
SENDS(sendfile64)

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    enum verdict verdict = at_descriptor(WRITE, "writev", descriptor);
    if (verdict == FAIL) return -1;
    return written(verdict, next(descriptor, parts, verdict == HALF ? (number + 1) / 2 : number));
}

ssize_t copy_file_range(int source, off64_t *from, int target, off64_t *to, size_t size,
                        unsigned flags) {
    NEXT(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    enum verdict verdict = at_descriptor(WRITE, "copy_file_range", target);
    ssize_t part = verdict == HALF ? 64 : shortened(verdict, size);
    return part < 0 ? -1 : written(verdict, next(source, from, target, to, (size_t)part, flags));
}

#define TRUNCATES(name)                                                     \
    int name(int descriptor, off64_t size) {                                \
        NEXT(int, #name, int, off64_t);                                     \
        enum verdict verdict = at_descriptor(WRITE, "ftruncate", descriptor); \
        if (verdict != PASS) return (int)written(verdict, -1);              \
        return next(descriptor, size);                                      \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

/* What is below the folder is not forced to the disk: no trial cuts the power, and most would wait
 * for little else. */
#define FORCES(name)                                                   \
    int name(int descriptor) {                                         \
        NEXT(int, #name, int);                                         \
        char found[PATH_MAX];                                          \
        if (at_descriptor(FSYNC, "fsync", descriptor)) return -1;      \
        if (state && of_descriptor(descriptor, found) == 0 && below(found)) return 0; \
        return next(descriptor);                                       \
    }
FORCES(fsync)
FORCES(fdatasync)

/* Of two paths the new one counts. */
#define CALL(kind, call, folder, path, ...)           \
    if (at_path(kind, call, folder, path)) return -1; \
    return next(__VA_ARGS__)

int rename(const char *old, const char *new) {
    NEXT(int, "rename", const char *, const char *);
    CALL(RENAME, "rename", AT_FDCWD, new, old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    NEXT(int, "renameat", int, const char *, int, const char *);
    CALL(RENAME, "rename", to, new, from, old, to, new);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
    CALL(RENAME, "rename", to, new, from, old, to, new, flags);
}
int link(const char *old, const char *new) {
    NEXT(int, "link", const char *, const char *);
    CALL(LINK, "link", AT_FDCWD, new, old, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    NEXT(int, "linkat", int, const char *, int, const char *, int);
    CALL(LINK, "link", to, new, from, old, to, new, flags);
}
int symlink(const char *target, const char *path) {
    NEXT(int, "symlink", const char *, const char *);
    CALL(LINK, "symlink", AT_FDCWD, path, target, path);
}
int symlinkat(const char *target, int folder, const char *path) {
    NEXT(int, "symlinkat", const char *, int, const char *);
    CALL(LINK, "symlink", folder, path, target, folder, path);
}
int mkdir(const char *path, mode_t mode) {
    NEXT(int, "mkdir", const char *, mode_t);
    CALL(MKDIR, "mkdir", AT_FDCWD, path, path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    NEXT(int, "mkdirat", int, const char *, mode_t);
    CALL(MKDIR, "mkdir", folder, path, folder, path, mode);
}
int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    CALL(UNLINK, "unlink", AT_FDCWD, path, path);
}
int unlinkat(int folder, const char *path, int flags) {
    NEXT(int, "unlinkat", int, const char *, int);
    CALL(UNLINK, flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path, folder,
         path, flags);
}
int rmdir(const char *path) {
    NEXT(int, "rmdir", const char *);
    CALL(UNLINK, "rmdir", AT_FDCWD, path, path);
}
int chmod(const char *path, mode_t mode) {
    NEXT(int, "chmod", const char *, mode_t);
    CALL(ATTRIBUTES, "chmod", AT_FDCWD, path, path, mode);
}
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    NEXT(int, "fchmodat", int, const char *, mode_t, int);
    CALL(ATTRIBUTES, "chmod", folder, path, folder, path, mode, flags);
}
int fchmod(int descriptor, mode_t mode) {
    NEXT(int, "fchmod", int, mode_t);
    if (at_descriptor(ATTRIBUTES, "chmod", descriptor)) return -1;
    return next(descriptor, mode);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    NEXT(int, "utimensat", int, const char *, const struct timespec *, int);
    CALL(ATTRIBUTES, "utime", folder, path, folder, path, times, flags);
}
