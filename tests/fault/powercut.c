/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A model of a power cut, preloaded into the daemon: beside every data file F below $HF_POWERCUT_DIR it keeps
 * F.durable with only what a disk must have kept: writes that a later fdatasync/fsync covered, and writes
 * through O_DSYNC descriptors. After a kill the test puts F.durable in F's place.
 *
 * Knows just what LMDB does: open, pwrite, pwritev, write, writev (after lseek), fdatasync, fsync, close. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define N_FDS 1024
#define N_FILES 16
struct range { off_t at; size_t len; };
struct file {
	char path[512];
	int real, durable;	/* our own descriptors */
	struct range *dirty;
	size_t n_dirty, cap;
};
static struct file files[N_FILES];
static struct { struct file *file; bool dsync; } fds[N_FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(const char *what)
{
	fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
	abort();
}

static void keep(struct file *f, off_t at, size_t len)
{
	char buf[65536];

	while (len > 0) {
		size_t want = len < sizeof(buf) ? len : sizeof(buf);
		ssize_t n = pread(f->real, buf, want, at);

		if (n < 0)
			die("pread");
		if (n == 0)
			return;		/* truncated since */
		if (REAL(pwrite)(f->durable, buf, (size_t)n, at) != n)
			die("pwrite");
		at += n;
		len -= (size_t)n;
	}
}

static void written(int fd, off_t at, ssize_t n)
{
	if (n <= 0 || fd < 0 || fd >= N_FDS || !fds[fd].file)
		return;
	pthread_mutex_lock(&lock);
	struct file *f = fds[fd].file;

	if (fds[fd].dsync) {
		keep(f, at, (size_t)n);
	} else {
		if (f->n_dirty == f->cap) {
			f->cap = f->cap ? 2 * f->cap : 256;
			f->dirty = realloc(f->dirty, f->cap * sizeof(*f->dirty));
			if (!f->dirty)
				die("realloc");
		}
		f->dirty[f->n_dirty++] = (struct range){ at, (size_t)n };
	}
	pthread_mutex_unlock(&lock);
}

static void synced(int fd)
{
	if (fd < 0 || fd >= N_FDS || !fds[fd].file)
		return;
	pthread_mutex_lock(&lock);
	struct file *f = fds[fd].file;

	for (size_t i = 0; i < f->n_dirty; i++)
		keep(f, f->dirty[i].at, f->dirty[i].len);
	f->n_dirty = 0;
	pthread_mutex_unlock(&lock);
}

static struct file *file_of(const char *path)
{
	struct file *f = files;

	for (; f < files + N_FILES && f->path[0]; f++)
		if (!strcmp(f->path, path))
			return f;
	if (f == files + N_FILES)
		die("too many files");
	char name[600];
	struct stat st;

	snprintf(f->path, sizeof(f->path), "%s", path);
	snprintf(name, sizeof(name), "%s.durable", path);
	f->real = REAL(open)(path, O_RDONLY | O_CLOEXEC);
	f->durable = REAL(open)(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f->real < 0 || f->durable < 0 || fstat(f->real, &st) != 0)
		die(name);
	keep(f, 0, (size_t)st.st_size);		/* what was there before is safe */
	return f;
}

static int opened(int fd, const char *path, int flags)
{
	const char *dir = getenv("HF_POWERCUT_DIR");
	size_t n = dir ? strlen(dir) : 0;

	if (fd < 0 || fd >= N_FDS)
		return fd;
	pthread_mutex_lock(&lock);
	fds[fd].file = NULL;
	if (n && !strncmp(path, dir, n) && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_DIRECTORY) &&
	    !strstr(path, "lock") && !strstr(path, ".durable")) {
		fds[fd].file = file_of(path);
		fds[fd].dsync = (flags & O_DSYNC) != 0;
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

#define OPEN(name)                                                                  \
	int name(const char *path, int flags, ...)                                  \
	{                                                                           \
		va_list ap;                                                         \
		va_start(ap, flags);                                                \
		mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0; \
		va_end(ap);                                                         \
		return opened(REAL(name)(path, flags, mode), path, flags);          \
	}
OPEN(open)
OPEN(open64)

#define PWRITE(name, off)                                                           \
	ssize_t name(int fd, const void *buf, size_t len, off at)                   \
	{                                                                           \
		ssize_t n = REAL(name)(fd, buf, len, at);                           \
		written(fd, at, n);                                                 \
		return n;                                                           \
	}
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, off)                                                          \
	ssize_t name(int fd, const struct iovec *iov, int cnt, off at)              \
	{                                                                           \
		ssize_t n = REAL(name)(fd, iov, cnt, at);                           \
		written(fd, at, n);                                                 \
		return n;                                                           \
	}
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t write(int fd, const void *buf, size_t len)
{
	ssize_t n = REAL(write)(fd, buf, len);
	bool ours = fd >= 0 && fd < N_FDS && fds[fd].file && n > 0;

	written(fd, ours ? lseek(fd, 0, SEEK_CUR) - n : 0, n);
	return n;
}

ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	ssize_t n = REAL(writev)(fd, iov, cnt);
	bool ours = fd >= 0 && fd < N_FDS && fds[fd].file && n > 0;

	written(fd, ours ? lseek(fd, 0, SEEK_CUR) - n : 0, n);
	return n;
}

#define SYNC(name)                                                                  \
	int name(int fd)                                                            \
	{                                                                           \
		int r = REAL(name)(fd);                                             \
		if (r == 0)                                                         \
			synced(fd);                                                 \
		return r;                                                           \
	}
SYNC(fdatasync)
SYNC(fsync)

int close(int fd)
{
	if (fd >= 0 && fd < N_FDS && fds[fd].file) {
		pthread_mutex_lock(&lock);
		fds[fd].file = NULL;
		pthread_mutex_unlock(&lock);
	}
	return REAL(close)(fd);
}
