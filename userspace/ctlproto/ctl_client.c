/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocking client of the control protocol. */
#include "core/clock.h"
#include "core/util.h"
#include "ctlproto/ctlproto.h"
#include <errno.h>
#include <holdfast/err.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

struct client {
	int fd;
	uint64_t deadline_ms;	/* 0 = none */
	struct hf_buf in;
	char **ret_error;
};

static int fail(struct client *c, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int fail(struct client *c, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (c->ret_error && vasprintf(c->ret_error, fmt, ap) < 0)
		*c->ret_error = NULL;
	va_end(ap);
	return code;
}

/* 1 ready, 0 timed out, <0 error. */
static int wait_for(const struct client *c, short events)
{
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = events };
		uint64_t now = hf_clock_mono_ms();
		int left = c->deadline_ms == 0 ? -1 : now >= c->deadline_ms ? 0 : (int)(c->deadline_ms - now);
		int n = poll(&p, 1, left);

		if (n >= 0 || errno != EINTR)
			return n < 0 ? -errno : n;
	}
}

static int connect_to(struct client *c, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof addr.sun_path)
		return fail(c, HF_EXIT_USAGE, "socket path is too long: %s", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, sizeof addr) < 0)
		return fail(c, HF_EXIT_UNREACHABLE, "cannot reach %s: %s%s", path, strerror(errno),
			    errno == ENOENT || errno == ECONNREFUSED ? " (is the daemon running? name its socket with -s or in the environment, see --help)" : "");
	return HF_EXIT_OK;
}

static int send_all(struct client *c, const char *text)
{
	size_t n = strlen(text);

	while (n) {
		ssize_t sent = send(c->fd, text, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			if (wait_for(c, POLLOUT) == 0)
				return fail(c, HF_EXIT_TIMEOUT, "timed out sending the request");
		} else if (sent < 0 && errno != EINTR) {
			return fail(c, HF_EXIT_UNREACHABLE, "connection lost: %s", strerror(errno));
		} else if (sent > 0) {
			text += sent;
			n -= (size_t)sent;
		}
	}
	return HF_EXIT_OK;
}

static int read_more(struct client *c)
{
	int ready = wait_for(c, POLLIN);
	uint8_t *to = hf_buf_reserve(&c->in, 65536);
	ssize_t n;

	if (ready == 0)
		return fail(c, HF_EXIT_TIMEOUT, "no answer in time");
	if (!to)
		return fail(c, HF_EXIT_REFUSED, "reply line too long");
	n = read(c->fd, to, 65536);
	if (n == 0)
		return fail(c, HF_EXIT_UNREACHABLE, "the daemon closed the connection");
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return fail(c, HF_EXIT_UNREACHABLE, "connection lost: %s", strerror(errno));
	if (n > 0)
		hf_buf_grow(&c->in, (size_t)n);
	return HF_EXIT_OK;
}

/* One reply line. -1: go on; else the exit code. */
static int on_line(struct client *c, struct hf_span line, hf_ctl_item_fn on_item, void *arg)
{
	json_t *reply = json_loadb((const char *)line.ptr, line.len, 0, NULL);
	json_t *item = json_object_get(reply, "item"), *ok = json_object_get(reply, "ok");
	json_t *error = json_object_get(reply, "error");
	int code = -1;

	if (item) {
		if (on_item)
			on_item(arg, item);
	} else if (json_is_true(ok)) {
		code = HF_EXIT_OK;
	} else if (json_is_false(ok)) {
		const char *message = json_string_value(json_object_get(error, "message"));
		const char *kind = json_string_value(json_object_get(error, "code"));

		code = fail(c, kind && strcmp(kind, "timeout") == 0 ? HF_EXIT_TIMEOUT : HF_EXIT_REFUSED, "%s",
			    message ? message : "refused");
	} else {
		code = fail(c, HF_EXIT_REFUSED, "the daemon's answer is not understood");
	}
	json_decref(reply);
	return code;
}

static int read_replies(struct client *c, hf_ctl_item_fn on_item, void *arg)
{
	for (;;) {
		struct hf_span in = hf_buf_span(&c->in), line;
		int code;

		if (!in.len || !memchr(in.ptr, '\n', in.len)) {
			code = read_more(c);
			if (code != HF_EXIT_OK)
				return code;
			continue;
		}
		hf_span_cut(&in, '\n', &line);
		code = on_line(c, line, on_item, arg);
		if (code >= 0)
			return code;
		hf_buf_consume(&c->in, line.len + 1);
	}
}

int hf_ctl_client_run(const char *socket_path, const char *cmd, json_t *args, unsigned timeout_ms,
		      hf_ctl_item_fn on_item, void *arg, char **ret_error)
{
	struct client c = { .fd = -1, .ret_error = ret_error, .in = HF_BUF_INIT(8u << 20) };
	json_t *req = json_pack("{s:i, s:s, s:o}", "id", 1, "cmd", cmd, "args", args ? args : json_object());
	hf_autofree char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	int code;

	json_decref(req);
	if (ret_error)
		*ret_error = NULL;
	c.deadline_ms = timeout_ms ? hf_clock_mono_ms() + timeout_ms : 0;
	if (!text)
		return fail(&c, HF_EXIT_REFUSED, "out of memory");
	code = connect_to(&c, socket_path);
	if (code == HF_EXIT_OK)
		code = send_all(&c, text);
	if (code == HF_EXIT_OK)
		code = send_all(&c, "\n");
	if (code == HF_EXIT_OK)
		code = read_replies(&c, on_item, arg);
	if (c.fd >= 0)
		close(c.fd);
	hf_buf_fini(&c.in);
	return code;
}
