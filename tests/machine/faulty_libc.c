/* Preloaded into a process (LD_PRELOAD), it makes calls of the C library fail as on odd file systems.
 *
 * FAIL_FLOCK=37         every flock fails with this error
 * FAIL_FOLDER_SYNC=22   every fsync of a folder fails with this error
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

static int asked(const char *name) {
    const char *value = getenv(name);
    return value ? atoi(value) : 0;
}

int flock(int descriptor, int operation) {
    if (asked("FAIL_FLOCK")) {
        errno = asked("FAIL_FLOCK");
        return -1;
    }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(descriptor, operation);
}

int fsync(int descriptor) {
    struct stat about;
    if (asked("FAIL_FOLDER_SYNC") && fstat(descriptor, &about) == 0 && S_ISDIR(about.st_mode)) {
        errno = asked("FAIL_FOLDER_SYNC");
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}
