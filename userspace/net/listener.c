/* SPDX-License-Identifier: GPL-3.0-or-later */
/* net/listener.c - listening sockets. */
#include "net/listener.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { ACCEPTS_PER_TURN = 64, BACKLOG = 4096, STALE_WAIT_MS = 2000, STALE_PAUSE_MS = 10 };

struct hf_listener {
	struct hf_loop *loop;
	struct hf_watch *watch;
	hf_accept_fn fn;
	void *arg;
	int fd, spare;
	struct hf_log_limit full_limit, error_limit;
	bool *gone;	/* set when fn destroys the listener */
};

static const char address_form[] = "ADDRESS:PORT, such as \"0.0.0.0:8883\" or \"[::]:8883\"";

static int parse_addr(const char *text, struct sockaddr_storage *ret_ss, socklen_t *ret_len)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };
	const char *colon = strrchr(text, ':');
	char host[64];
	int64_t port;
	size_t n;

	if (!colon || hf_parse_i64(hf_span_str(colon + 1), 0, 65535, &port) < 0)
		return HF_EINVALID;
	n = (size_t)(colon - text);
	if (n == 0 || n >= sizeof host)
		return HF_EINVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	memset(ret_ss, 0, sizeof *ret_ss);
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &in6.sin6_addr) != 1)
			return HF_EINVALID;
		in6.sin6_port = htons((uint16_t)port);
		memcpy(ret_ss, &in6, sizeof in6);
		*ret_len = sizeof in6;
		return 0;
	}
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return HF_EINVALID;
	in.sin_port = htons((uint16_t)port);
	memcpy(ret_ss, &in, sizeof in);
	*ret_len = sizeof in;
	return 0;
}

const char *hf_listen_refuse(const char *text)
{
	struct sockaddr_storage ss;
	socklen_t len;

	if (parse_addr(text, &ss, &len) != 0)
		return address_form;
	return ((struct sockaddr_in *)&ss)->sin_port != 0 ? NULL : "a port from 1 to 65535";	/* IPv6 has it there, too */
}

int hf_listen_tcp(const char *text, bool reuse_port, int *ret_fd)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int on = 1, r = parse_addr(text, &ss, &len);
	hf_autoclose int fd = -1;

	if (r < 0) {
		hf_log(HF_LOG_ERR, "net.listen", "%s: expected %s", text, address_form);
		return r;
	}
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) ||
	    (ss.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		hf_log(HF_LOG_ERR, "net.listen", "%s: %s%s", text, hf_strerror(r),
		       r == -EACCES ? " (ports below 1024 need root or CAP_NET_BIND_SERVICE)" : "");
		return r;
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* A process that is being killed answers until the kernel has taken it down; so whoever answers is watched for a
 * moment. */
static int wait_until_silent(const struct sockaddr_un *un)
{
	uint64_t now = hf_clock_mono_ms(), end = now + STALE_WAIT_MS;

	for (; now < end; now = hf_clock_mono_ms()) {
		hf_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		struct pollfd ended = { .fd = fd, .events = POLLIN };

		if (fd < 0)
			return -errno;
		if (connect(fd, (const struct sockaddr *)un, sizeof *un) < 0)
			return errno == ECONNREFUSED || errno == ENOENT ? 0 : -EADDRINUSE;
		poll(&ended, 1, (int)(end - now));
		poll(NULL, 0, STALE_PAUSE_MS);
	}
	return -EADDRINUSE;
}

/* A file that nobody answers on is a leftover of a process that died. */
static int remove_stale(const struct sockaddr_un *un)
{
	struct stat st;
	int r;

	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	r = wait_until_silent(un);
	if (r < 0)
		return r;
	return unlink(un->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int hf_listen_unix(const char *path, unsigned mode, int gid, int *ret_fd)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	hf_autoclose int fd = -1;
	int r;

	if (n == 0 || n >= sizeof un.sun_path) {
		hf_log(HF_LOG_ERR, "net.listen", "%s: a socket's path has 1 to %zu bytes", path, sizeof un.sun_path - 1);
		return HF_EINVALID;
	}
	memcpy(un.sun_path, path, n);
	r = remove_stale(&un);
	if (r < 0) {
		hf_log(HF_LOG_ERR, "net.listen", "%s: %s", path, hf_strerror(r));
		return r;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Nobody can connect before listen: the rights are in place by then. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof un) < 0 ||
	    chmod(path, (mode_t)mode) < 0 ||
	    (gid >= 0 && chown(path, (uid_t)-1, (gid_t)gid) < 0) || listen(fd, BACKLOG) < 0) {
		r = -errno;
		hf_log(HF_LOG_ERR, "net.listen", "%s: %s", path, hf_strerror(r));
		return r;
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* Without descriptors a waiting peer would keep the socket readable for ever: take it and refuse it. */
static void refuse_one(struct hf_listener *l, int err)
{
	int fd;

	hf_log_limited(&l->full_limit, HF_LOG_ERR, "net.accept", "connection refused: %s", hf_strerror(err));
	if (l->spare < 0)
		return;
	close(l->spare);
	fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_readable(void *arg, int events, int err)
{
	struct hf_listener *l = arg;
	bool gone = false;

	(void)events;
	(void)err;
	l->gone = &gone;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN && !gone; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof peer;
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			l->fn(l->arg, fd, &peer);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EMFILE || errno == ENFILE)
			refuse_one(l, -errno);
		else if (errno != EAGAIN && errno != EWOULDBLOCK)
			hf_log_limited(&l->error_limit, HF_LOG_ERR, "net.accept", "%s", hf_strerror(-errno));
		break;
	}
	if (!gone)
		l->gone = NULL;
}

int hf_listener_create(struct hf_loop *loop, int fd, hf_accept_fn fn, void *arg, struct hf_listener **ret_l)
{
	struct hf_listener *l = calloc(1, sizeof *l);
	int r;

	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	l->loop = loop;
	l->fd = fd;
	l->fn = fn;
	l->arg = arg;
	l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	r = hf_watch_create(loop, fd, on_readable, l, &l->watch);
	if (r == 0)
		r = hf_watch_set(l->watch, HF_READABLE);
	if (r < 0) {
		hf_listener_destroy(&l);
		return r;
	}
	*ret_l = l;
	return 0;
}

void hf_listener_destroy(struct hf_listener **pl)
{
	struct hf_listener *l = *pl;

	*pl = NULL;
	if (!l)
		return;
	if (l->gone)
		*l->gone = true;
	hf_watch_destroy(&l->watch);
	close(l->fd);
	if (l->spare >= 0)
		close(l->spare);
	free(l);
}
