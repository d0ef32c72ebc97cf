// Counts what a process does to the files below one folder, and strikes at the n-th time: it kills
// the process half-way in it, sends it SIGTERM, or has the disk full from then on. Preloaded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, TERM, FULL };

static char folder[PATH_MAX];
static atomic_long seen, at;
static atomic_int mode;

void strike_arm(const char* below, long when, int how) {
  strncpy(folder, below, sizeof folder - 1);
  seen = 0;
  at = when;
  mode = how;
}

long strike_seen(void) { return seen; }

#define REAL(name)               \
  static __typeof__(name)* real; \
  if (!real) real = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)

static int below(const char* path) {
  size_t length = strlen(folder);
  return length && path && !strncmp(path, folder, length);
}

static int below_fd(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

static int below_at(int fd, const char* path) {
  return path && path[0] != '/' && fd != AT_FDCWD ? below_fd(fd) : below(path);
}

// Returns whether this is the time; a disk that is full stays so.
static int now(void) {
  long count = ++seen;
  if (mode == TERM && count == at) raise(SIGTERM);
  return (mode == KILL && count == at) || (mode == FULL && count >= at);
}

static void die(void) { kill(getpid(), SIGKILL); }

// For what needs no space: it goes on if the disk is full.
static void step(int concerned) {
  if (concerned && now() && mode == KILL) die();
}

// For what needs space: returns whether there is none.
static int need(int concerned) {
  if (!concerned || !now()) return 0;
  if (mode == KILL) die();
  errno = ENOSPC;
  return 1;
}

static int creates(int flags) { return flags & (O_CREAT | O_TRUNC); }

#define OPEN(name)                                      \
  int name(const char* path, int flags, ...) {          \
    REAL(name);                                         \
    va_list rest;                                       \
    va_start(rest, flags);                              \
    mode_t permissions = va_arg(rest, mode_t);          \
    va_end(rest);                                       \
    if (need(creates(flags) && below(path))) return -1; \
    return real(path, flags, permissions);              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                           \
  int name(int fd, const char* path, int flags, ...) {         \
    REAL(name);                                                \
    va_list rest;                                              \
    va_start(rest, flags);                                     \
    mode_t permissions = va_arg(rest, mode_t);                 \
    va_end(rest);                                              \
    if (need(creates(flags) && below_at(fd, path))) return -1; \
    return real(fd, path, flags, permissions);                 \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                      \
  FILE* name(const char* path, const char* how) {        \
    REAL(name);                                          \
    if (need(how[0] != 'r' && below(path))) return NULL; \
    return real(path, how);                              \
  }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void* bytes, size_t count) {
  REAL(write);
  if (below_fd(fd) && now()) {
    if (mode == KILL) {
      real(fd, bytes, count / 2);
      die();
    }
    errno = ENOSPC;
    return -1;
  }
  return real(fd, bytes, count);
}

#define PWRITE(name, offset_type)                                             \
  ssize_t name(int fd, const void* bytes, size_t count, offset_type offset) { \
    REAL(name);                                                               \
    if (below_fd(fd) && now()) {                                              \
      if (mode == KILL) {                                                     \
        real(fd, bytes, count / 2, offset);                                   \
        die();                                                                \
      }                                                                       \
      errno = ENOSPC;                                                         \
      return -1;                                                              \
    }                                                                         \
    return real(fd, bytes, count, offset);                                    \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec* parts, int count) {
  REAL(writev);
  if (need(below_fd(fd))) return -1;
  return real(fd, parts, count);
}

size_t fwrite(const void* bytes, size_t size, size_t count, FILE* file) {
  REAL(fwrite);
  if (below_fd(fileno(file)) && now()) {
    if (mode == KILL) {
      real(bytes, 1, size * count / 2, file);
      fflush(file);
      die();
    }
    errno = ENOSPC;
    return 0;
  }
  return real(bytes, size, count, file);
}

int fflush(FILE* file) {
  REAL(fflush);
  if (file && need(below_fd(fileno(file)))) return EOF;
  return real(file);
}

int fclose(FILE* file) {
  REAL(fclose);
  int full = need(below_fd(fileno(file)));
  int result = real(file);
  return full ? EOF : result;
}

int rename(const char* from, const char* to) {
  REAL(rename);
  step(below(to));
  return real(from, to);
}

int unlink(const char* path) {
  REAL(unlink);
  step(below(path));
  return real(path);
}

int remove(const char* path) {
  REAL(remove);
  step(below(path));
  return real(path);
}

int unlinkat(int fd, const char* path, int flags) {
  REAL(unlinkat);
  step(below_at(fd, path));
  return real(fd, path, flags);
}

int rmdir(const char* path) {
  REAL(rmdir);
  step(below(path));
  return real(path);
}

int mkdir(const char* path, mode_t permissions) {
  REAL(mkdir);
  if (need(below(path))) return -1;
  return real(path, permissions);
}

int ftruncate(int fd, off_t length) {
  REAL(ftruncate);
  step(below_fd(fd));
  return real(fd, length);
}

int ftruncate64(int fd, off64_t length) {
  REAL(ftruncate64);
  step(below_fd(fd));
  return real(fd, length);
}
