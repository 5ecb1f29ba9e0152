/* Counts the system calls on files below a folder, and has one of them fail, fall short, or be the last one of the process.

   Preloaded into a process that `calls.py` starts, it stands before the C library's functions for all that is loaded there: Python,
   HDF5, FAISS, pyarrow. Calls that the C library makes by itself (within fopen, opendir) pass by it, so fopen is a call of its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum ending { FAIL, LASTING, SHORT, KILL };

static char folder[PATH_MAX];
static long at = -1, count;
static enum ending how;
static int error;
static struct notes { long used; char text[]; } *told;
static long room;

/* Begin to count calls on what is below a folder, to note each in `notes`, which take `bytes`, and to end number `number` (-1: none) as
   `ending` says. */
void faults_arm(const char *below, long number, int ending, int with, struct notes *notes, long bytes) {
    at = number, count = 0, how = ending, error = with, told = notes, room = bytes;
    snprintf(folder, sizeof folder, "%s/", below);
}

/* A disk that is full refuses these; those that read, close or remove go on. */
static int takes_room(const char *name) {
    static const char *const names[] = {"create", "write", "mkdir", "link", "rename", "fsync", "truncate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return 1;
    return 0;
}

/* Count a call, and say whether it is to fail; *part is set where it is to do a part only. */
static int ended(const char *name, const char *path, int *part) {
    char line[PATH_MAX + 32];
    if (!*folder || strncmp(path, folder, strlen(folder)) || strstr(path, " (deleted)")) return 0;
    long number = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
    int size = snprintf(line, sizeof line, "step %s %s", name, path) + 1;
    long used = __atomic_fetch_add(&told->used, size, __ATOMIC_SEQ_CST);
    if (used + size > room) abort();
    memcpy(told->text + used, line, size);
    if (at < 0 || number < at) return 0;
    if (number > at) return how == LASTING && takes_room(name) ? (errno = error, 1) : 0;
    if (how == KILL) kill(getpid(), SIGKILL);
    if (how == SHORT) return part ? (*part = 1, 0) : 0;
    return errno = error, 1;
}

/* The same of a name that may be one below an open folder. */
static int named(const char *name, int below, const char *path) {
    char link[64], whole[2 * PATH_MAX];
    if (*path == '/' || below == AT_FDCWD) return ended(name, path, NULL);
    snprintf(link, sizeof link, "/proc/self/fd/%d", below);
    ssize_t size = readlink(link, whole, PATH_MAX);
    if (size <= 0) return 0;
    snprintf(whole + size, sizeof whole - size, "/%s", path);
    return ended(name, whole, NULL);
}

/* The same of an open file. */
static int opened(const char *name, int file, int *part) {
    char link[64], path[PATH_MAX];
    if (!*folder) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size <= 0) return 0;
    path[size] = 0;
    return ended(name, path, part);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        REAL(int, name, const char *, int, ...); \
        return named(flags & O_CREAT ? "create" : "open", AT_FDCWD, path) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int below, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        REAL(int, name, int, const char *, int, ...); \
        return named(flags & O_CREAT ? "create" : "open", below, path) ? -1 : real(below, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, name, const char *, const char *); \
        return named(*mode == 'r' ? "open" : "create", AT_FDCWD, path) ? NULL : real(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

/* Reads and writes: those that fall short take half, one byte at least. */
#define MOVE(name, what, data, offset, given) \
    ssize_t name(int file, data bytes, size_t size offset) { \
        int part = 0; \
        REAL(ssize_t, name, int, data, size_t offset); \
        if (opened(what, file, &part)) return -1; \
        return real(file, bytes, part && size > 1 ? size / 2 : size given); \
    }
#define COMMA ,
MOVE(read, "read", void *, , )
MOVE(write, "write", const void *, , )
MOVE(pread, "read", void *, COMMA off_t at_byte, COMMA at_byte)
MOVE(pread64, "read", void *, COMMA off64_t at_byte, COMMA at_byte)
MOVE(pwrite, "write", const void *, COMMA off_t at_byte, COMMA at_byte)
MOVE(pwrite64, "write", const void *, COMMA off64_t at_byte, COMMA at_byte)

ssize_t writev(int file, const struct iovec *blocks, int number) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return opened("write", file, NULL) ? -1 : real(file, blocks, number);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    int part = 0;
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    return opened("write", to, &part) ? -1 : real(to, from, offset, part && size > 1 ? size / 2 : size);
}

/* A file whose closing fails is closed. */
int close(int file) {
    REAL(int, close, int);
    int failed = opened("close", file, NULL), before = errno, result = real(file);
    if (failed) errno = before;
    return failed ? -1 : result;
}

#define OF_FILE(name, what) \
    int name(int file) { \
        REAL(int, name, int); \
        return opened(what, file, NULL) ? -1 : real(file); \
    }
OF_FILE(fsync, "fsync")
OF_FILE(fdatasync, "fsync")

#define TRUNCATE(name, offset) \
    int name(int file, offset size) { \
        REAL(int, name, int, offset); \
        return opened("truncate", file, NULL) ? -1 : real(file, size); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int flock(int file, int operation) {
    REAL(int, flock, int, int);
    return opened("lock", file, NULL) ? -1 : real(file, operation);
}

#define MMAP(name, offset) \
    void *name(void *address, size_t size, int protection, int flags, int file, offset first) { \
        REAL(void *, name, void *, size_t, int, int, int, offset); \
        return !(flags & MAP_ANONYMOUS) && opened("map", file, NULL) ? MAP_FAILED \
                                                                    : real(address, size, protection, flags, file, first); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return named("mkdir", AT_FDCWD, path) ? -1 : real(path, mode);
}

int rename(const char *old, const char *new) {
    REAL(int, rename, const char *, const char *);
    return named("rename", AT_FDCWD, new) ? -1 : real(old, new);
}

int link(const char *old, const char *new) {
    REAL(int, link, const char *, const char *);
    return named("link", AT_FDCWD, new) ? -1 : real(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    return named("link", to, new) ? -1 : real(from, old, to, new, flags);
}

#define REMOVE(name) \
    int name(const char *path) { \
        REAL(int, name, const char *); \
        return named("remove", AT_FDCWD, path) ? -1 : real(path); \
    }
REMOVE(unlink)
REMOVE(rmdir)

int unlinkat(int below, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return named("remove", below, path) ? -1 : real(below, path, flags);
}
