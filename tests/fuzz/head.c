/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
	int fd;
	struct hf_span left;
	struct hf_task task;
	unsigned (*count)(void *arg);
	void *arg;
};

/* Each turn: sends what fits, reads what came, ends the loop when the head has no connection left. */
static void step(void *arg)
{
	struct peer *p = arg;
	uint8_t sink[65536];

	while (p->left.len) {
		ssize_t n = send(p->fd, p->left.ptr, p->left.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		p->left = n < 0 ? hf_span(NULL, 0) : hf_span_skip(p->left, (size_t)n);	/* closed already */
		if (p->left.len == 0)
			shutdown(p->fd, SHUT_WR);
	}
	while (recv(p->fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
		;
	if (p->count(p->arg) > 0)
		hf_task_next_turn(fuzz_loop(), &p->task);
	else
		hf_loop_stop(fuzz_loop());
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	(void)arg;
	(void)c;
	(void)in;
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	(void)arg;
	(void)c;
	(void)err;
	(void)detail;
}

void fuzz_head(struct hf_span in, void (*take)(void *arg, struct hf_conn *conn), unsigned (*count)(void *arg), void *arg)
{
	static const struct hf_conn_ops nobody = { .data = on_data, .closed = on_closed };
	struct peer p = { .left = in, .count = count, .arg = arg };
	struct hf_conn *conn;
	int fds[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	FUZZ_CHECK(hf_conn_create(fuzz_loop(), fds[0], &(struct hf_conn_cfg){ 0 }, &nobody, NULL, &conn) == 0);
	p.fd = fds[1];
	if (in.len == 0)
		shutdown(p.fd, SHUT_WR);
	take(arg, conn);
	hf_task_init(&p.task, step, &p);
	hf_task_next_turn(fuzz_loop(), &p.task);
	hf_loop_run(fuzz_loop());
	hf_task_cancel(&p.task);
	close(p.fd);
}
