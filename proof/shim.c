/* Between a process and the kernel (LD_PRELOAD): writes down what it writes and syncs below one folder, says
 * that the disk is full while a file says so, and shifts the clock by what a file holds.
 *
 *   SHIM_FOLDER   the folder that is watched; others are left alone
 *   SHIM_JOURNAL  where to append what happens there; none: nothing is written down
 *   SHIM_FULL     while this file exists, writes below the folder fail with ENOSPC
 *   SHIM_CLOCK    a file with seconds to add to the real-time clock, as text
 *
 * A line of the journal: "W <path> <offset> <bytes>\n" and the bytes, "T <path> <length>\n", "S <path>\n",
 * "D <path>\n" (removed), "R <path> <new path>\n". Everything goes out in one write, so that a kill leaves whole entries or a last torn one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *folder, *full, *clock_file;
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    folder = getenv("SHIM_FOLDER");
    full = getenv("SHIM_FULL");
    clock_file = getenv("SHIM_CLOCK");
    const char *path = getenv("SHIM_JOURNAL");
    if (path) journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Whether the descriptor is a file below the folder; its path without the folder. */
static int watched(int fd, char *path) {
    if (!folder || fd == journal) return 0;
    char link[64], whole[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, sizeof whole - 1);
    size_t head = strlen(folder);
    if (length <= (ssize_t)head) return 0;
    whole[length] = 0;
    if (strncmp(whole, folder, head) || whole[head] != '/') return 0;
    strcpy(path, whole + head + 1);
    return 1;
}

static int is_full(int fd) {
    char path[PATH_MAX];
    return full && syscall(SYS_faccessat, AT_FDCWD, full, F_OK) == 0 && watched(fd, path);
}

static void note(const char *head, size_t head_bytes, const void *body, size_t bytes) {
    struct iovec parts[2] = {{(void *)head, head_bytes}, {(void *)body, bytes}};
    pthread_mutex_lock(&lock);
    if (syscall(SYS_writev, journal, parts, bytes ? 2 : 1) < 0) abort();
    pthread_mutex_unlock(&lock);
}

static void note_write(int fd, const void *body, ssize_t bytes, off_t offset) {
    char path[PATH_MAX], head[PATH_MAX + 64];
    if (journal < 0 || bytes <= 0 || !watched(fd, path)) return;
    int length = snprintf(head, sizeof head, "W %s %lld %zd\n", path, (long long)offset, bytes);
    note(head, length, body, bytes);
}

static void note_path(char what, const char *path, long long number) {
    char head[PATH_MAX + 64];
    int length = what == 'T' ? snprintf(head, sizeof head, "T %s %lld\n", path, number)
                             : snprintf(head, sizeof head, "%c %s\n", what, path);
    note(head, length, NULL, 0);
}

#define FULL(fd)                                                                                                       \
    if (is_full(fd)) {                                                                                                 \
        errno = ENOSPC;                                                                                                \
        return -1;                                                                                                     \
    }

ssize_t pwrite64(int fd, const void *body, size_t bytes, off64_t offset) {
    FULL(fd)
    ssize_t done = syscall(SYS_pwrite64, fd, body, bytes, offset);
    note_write(fd, body, done, offset);
    return done;
}
ssize_t pwrite(int fd, const void *body, size_t bytes, off_t offset) { return pwrite64(fd, body, bytes, offset); }

ssize_t write(int fd, const void *body, size_t bytes) {
    FULL(fd)
    off_t offset = journal >= 0 ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = syscall(SYS_write, fd, body, bytes);
    if (offset >= 0) note_write(fd, body, done, offset);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    FULL(fd)
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    FULL(fd)
    return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return pwritev(fd, parts, count, offset); }

int posix_fallocate64(int fd, off64_t offset, off64_t bytes) {
    if (is_full(fd)) return ENOSPC;
    return syscall(SYS_fallocate, fd, 0, offset, bytes) ? errno : 0;
}
int posix_fallocate(int fd, off_t offset, off_t bytes) { return posix_fallocate64(fd, offset, bytes); }

static int synced(int fd, long number) {
    char path[PATH_MAX];
    int done = syscall(number, fd);
    if (done == 0 && journal >= 0 && watched(fd, path)) note_path('S', path, 0);
    return done;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int ftruncate64(int fd, off64_t bytes) {
    char path[PATH_MAX];
    int done = syscall(SYS_ftruncate, fd, bytes);
    if (done == 0 && journal >= 0 && watched(fd, path)) note_path('T', path, bytes);
    return done;
}
int ftruncate(int fd, off_t bytes) { return ftruncate64(fd, bytes); }

int unlink(const char *path) {
    int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    size_t head = folder ? strlen(folder) : 0;
    if (done == 0 && journal >= 0 && head && !strncmp(path, folder, head) && path[head] == '/')
        note_path('D', path + head + 1, 0);
    return done;
}

int rename(const char *old, const char *new) {
    int done = syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
    size_t head = folder ? strlen(folder) : 0;
    if (done == 0 && journal >= 0 && head && !strncmp(old, folder, head) && !strncmp(new, folder, head)) {
        char line[2 * PATH_MAX + 8];
        int length = snprintf(line, sizeof line, "R %s %s\n", old + head + 1, new + head + 1);
        note(line, length, NULL, 0);
    }
    return done;
}

static long long shift(void) {
    if (!clock_file) return 0;
    char text[32] = "";
    int fd = syscall(SYS_openat, AT_FDCWD, clock_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return length > 0 ? atoll(text) : 0;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, which, now);
    if (done == 0 && which == CLOCK_REALTIME) now->tv_sec += shift();
    return done;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
