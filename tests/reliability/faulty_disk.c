/* Preloaded into a process (LD_PRELOAD), it makes one call of the C library fail that reads or writes below a folder.
 *
 * A process that has called fault_arm counts such calls. Call number `at` fails with `error`, or ends the process with
 * the signal -`error` if that is negative; with `lasting`, all later ones fail, too. Kinds: 0 reads (open for reading, read), 1 writes (create, write, sync,
 * rename, link, mkdir, truncate). Deleting never fails: a full or failing disk allows it, and cleaning up must work.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char under[PATH_MAX];
static int kind, error_number, lasting;
static long at, calls;

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

void fault_arm(const char *folder, int wanted, long number, int error, int for_good) {
    calls = 0, kind = wanted, at = number, error_number = error, lasting = for_good;
    strncpy(under, folder, sizeof under - 1);
}

long fault_calls(void) { return calls; }

static int fails(int what, const char *path) {
    if (!under[0] || what != kind || strncmp(path, under, strlen(under)) != 0) return 0;
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (number != at && !(lasting && number > at && at > 0)) return 0;
    if (error_number < 0) kill(getpid(), -error_number);
    errno = error_number;
    return 1;
}

static int fails_of(int what, int descriptor) {
    char link[64], path[PATH_MAX];
    if (!under[0] || what != kind) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(what, path);
}

static int fails_at(int what, int folder, const char *name) {
    char link[64], path[PATH_MAX];
    if (!under[0] || what != kind) return 0;
    if (name[0] == '/') return fails(what, name);
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    snprintf(path + length, sizeof path - length, "/%s", name);
    return fails(what, path);
}

static int is_write(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)) ? 1 : 0; }

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        if (fails_at(is_write(flags), AT_FDCWD, path)) return -1;                                                      \
        return REAL(name, path, flags, mode);                                                                          \
    }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name)                                                                                                  \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        if (fails_at(is_write(flags), folder, path)) return -1;                                                        \
        return REAL(name, folder, path, flags, mode);                                                                  \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

FILE *fopen64(const char *path, const char *mode) {
    return fails_at(strpbrk(mode, "wa+") != NULL, AT_FDCWD, path) ? NULL : REAL(fopen64, path, mode);
}
ssize_t read(int descriptor, void *to, size_t size) {
    return fails_of(0, descriptor) ? -1 : REAL(read, descriptor, to, size);
}
ssize_t write(int descriptor, const void *from, size_t size) {
    return fails_of(1, descriptor) ? -1 : REAL(write, descriptor, from, size);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    return fails_of(1, out) ? -1 : REAL(copy_file_range, in, from, out, to, size, flags);
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t size) {
    extern ssize_t sendfile64(int, int, off64_t *, size_t);
    return fails_of(1, out) ? -1 : REAL(sendfile64, out, in, from, size);
}
int fsync(int descriptor) { return fails_of(1, descriptor) ? -1 : REAL(fsync, descriptor); }
int ftruncate64(int descriptor, off64_t size) { return fails_of(1, descriptor) ? -1 : REAL(ftruncate64, descriptor, size); }
int truncate64(const char *path, off64_t size) { return fails(1, path) ? -1 : REAL(truncate64, path, size); }
int mkdir(const char *path, mode_t mode) { return fails_at(1, AT_FDCWD, path) ? -1 : REAL(mkdir, path, mode); }
int rename(const char *from, const char *to) { return fails_at(1, AT_FDCWD, to) ? -1 : REAL(rename, from, to); }
int link(const char *from, const char *to) { return fails_at(1, AT_FDCWD, to) ? -1 : REAL(link, from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return fails_at(1, b, to) ? -1 : REAL(linkat, a, from, b, to, flags);
}
