/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Server side of the control protocol: one request at a time per connection, replies with back-pressure. */
#include "core/log.h"
#include "core/util.h"
#include "ctlproto/ctlproto.h"
#include "net/conn.h"
#include "net/listener.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define LINE_MAX_BYTES ((size_t)1 << 20)
#define OUT_CAP ((size_t)64 << 20)
#define MAX_CONNS 128

struct hf_ctl_srv {
	struct hf_loop *loop;
	struct hf_listener *listener;
	const struct hf_ctl_cmd *cmds;
	void *arg;
	int write_gid;
	struct hf_list conns;
	unsigned n_conns;
	bool closing;	/* destroyed: freed with its last connection */
};
struct ctl_conn {
	struct hf_list node;
	struct hf_ctl_srv *srv;
	struct hf_conn *conn;
	struct hf_buf in;
	struct hf_task task;
	struct hf_ctl_call *call;	/* the one in progress */
	bool may_write, dead;
};
struct hf_ctl_call {
	struct ctl_conn *cc;	/* NULL: the client left */
	json_t *id, *args;
	const struct hf_ctl_cmd *cmd;
	struct hf_timer *timer;		/* of a call that waits on purpose */
	uint32_t late_ms;
	struct hf_buf late;		/* what is sent late_ms after the end */
	bool held;			/* here, not with the command: it ended, or */
	bool again;			/* it is to run once more */
	void (*on_drain)(void *arg);
	void *drain_arg;
	void (*on_gone)(void *arg);
	void *gone_arg;
};

static bool send_line(struct ctl_conn *cc, json_t *line)
{
	hf_autofree char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	bool room = true;

	json_decref(line);
	if (!text || cc->dead) {
		hf_log(HF_LOG_WARN, "ctl.reply", "a reply could not be built");
		return true;
	}
	if (cc->call && cc->call->late_ms) {
		hf_buf_puts(&cc->call->late, text);
		hf_buf_putc(&cc->call->late, '\n');
		return true;
	}
	hf_conn_write(cc->conn, hf_span_str(text));
	room = hf_conn_write(cc->conn, hf_span("\n", 1));
	return room;
}

static void send_error(struct ctl_conn *cc, json_t *id, const char *code, const char *message)
{
	send_line(cc, json_pack("{s:O?, s:b, s:{s:s, s:s}}", "id", id ? id : json_null(), "ok", 0, "error", "code", code,
				"message", message));
}

static void call_free(struct hf_ctl_call *call)
{
	hf_timer_destroy(&call->timer);
	hf_buf_fini(&call->late);
	json_decref(call->args);
	json_decref(call->id);
	free(call);
}

static void on_call_timer(void *arg)
{
	struct hf_ctl_call *call = arg;
	struct ctl_conn *cc = call->cc;

	call->held = false;
	if (call->again) {
		call->cmd->run(cc->srv->arg, call, call->args);
		return;
	}
	if (!cc->dead)
		hf_conn_write(cc->conn, hf_buf_span(&call->late));
	cc->call = NULL;
	hf_task_next_turn(cc->srv->loop, &cc->task);
	call_free(call);
}

/* ms UINT32_MAX: the call stays until its client leaves. */
static void hold(struct hf_ctl_call *call, uint32_t ms)
{
	call->held = true;
	if (ms == UINT32_MAX)
		return;
	if (!call->timer && hf_timer_create(call->cc->srv->loop, on_call_timer, call, &call->timer) != 0)
		hf_log(HF_LOG_ERR, "ctl.late", "no memory for a timer: the call is not answered");
	else
		hf_timer_start(call->timer, ms, 0);
}

/* Ends the call and lets the connection go on with its next request. */
static void finish(struct hf_ctl_call *call)
{
	struct ctl_conn *cc = call->cc;

	if (cc && call->late_ms) {
		hold(call, call->late_ms);
		return;
	}
	if (cc) {
		cc->call = NULL;
		hf_task_next_turn(cc->srv->loop, &cc->task);
	}
	call_free(call);
}

void hf_ctl_later(struct hf_ctl_call *call, uint32_t ms)
{
	call->again = true;
	hold(call, ms);
}

bool hf_ctl_is_again(const struct hf_ctl_call *call)
{
	return call->again;
}

void hf_ctl_drop(struct hf_ctl_call *call)
{
	struct ctl_conn *cc = call->cc;

	cc->call = NULL;
	cc->dead = true;
	hf_conn_close(cc->conn);
	call_free(call);
}

void hf_ctl_answer_late(struct hf_ctl_call *call, uint32_t ms)
{
	call->late_ms = ms;
}

bool hf_ctl_item(struct hf_ctl_call *call, json_t *item)
{
	if (!call->cc) {
		json_decref(item);
		return true;
	}
	return send_line(call->cc, json_pack("{s:O, s:o}", "id", call->id, "item", item ? item : json_null()));
}

void hf_ctl_on_drain(struct hf_ctl_call *call, void (*fn)(void *arg), void *arg)
{
	call->on_drain = fn;
	call->drain_arg = arg;
}

void hf_ctl_on_gone(struct hf_ctl_call *call, void (*fn)(void *arg), void *arg)
{
	call->on_gone = fn;
	call->gone_arg = arg;
}

void hf_ctl_ok(struct hf_ctl_call *call)
{
	if (call->cc)
		send_line(call->cc, json_pack("{s:O, s:b}", "id", call->id, "ok", 1));
	finish(call);
}

void hf_ctl_fail(struct hf_ctl_call *call, const char *code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (call->cc)
		send_error(call->cc, call->id, code, hf_utf8_ok(hf_span_str(text)) ? text : "failed (text is not UTF-8)");
	finish(call);
}

static void start(struct ctl_conn *cc, const struct hf_ctl_cmd *cmd, json_t *id, json_t *args)
{
	struct hf_ctl_call *call = calloc(1, sizeof *call);

	if (!call) {
		send_error(cc, id, "failed", "out of memory");
		return;
	}
	call->cc = cc;
	call->id = json_incref(id);
	call->cmd = cmd;
	call->args = json_incref(args);
	call->late = HF_BUF_INIT(OUT_CAP);
	cc->call = call;
	cmd->run(cc->srv->arg, call, args);
}

static void refuse_and_close(struct ctl_conn *cc, const char *why)
{
	send_error(cc, NULL, "invalid", why);
	cc->dead = true;
	hf_conn_close(cc->conn);
}

static void run_line(struct ctl_conn *cc, struct hf_span line)
{
	json_t *req = json_loadb((const char *)line.ptr, line.len, JSON_REJECT_DUPLICATES, NULL), *no_args = NULL;
	const char *name = json_string_value(json_object_get(req, "cmd"));
	json_t *id = json_object_get(req, "id"), *args = json_object_get(req, "args");
	const struct hf_ctl_cmd *cmd = cc->srv->cmds;

	if (!name || !json_is_integer(id) || (args && !json_is_object(args))) {
		refuse_and_close(cc, "a request is one line {\"id\":<integer>,\"cmd\":<text>,\"args\":{...}}");
		json_decref(req);
		return;
	}
	while (cmd->name && strcmp(cmd->name, name) != 0)
		cmd++;
	if (!cmd->name)
		send_error(cc, id, "not-found", "unknown command");
	else if (cmd->writes && !cc->may_write)
		send_error(cc, id, "denied", "this command needs root or the control group");
	else
		start(cc, cmd, id, args ? args : (no_args = json_object()));
	json_decref(no_args);
	json_decref(req);
}

static void run_lines(void *arg)
{
	struct ctl_conn *cc = arg;

	while (!cc->call && !cc->dead) {
		struct hf_span in = hf_buf_span(&cc->in), line;
		bool whole = memchr(in.ptr ? (const void *)in.ptr : "", '\n', in.len) != NULL;

		if (!whole) {
			if (in.len > LINE_MAX_BYTES)
				refuse_and_close(cc, "request line over 1 MiB");
			return;
		}
		hf_span_cut(&in, '\n', &line);
		size_t used = line.len + 1;

		if (line.len > LINE_MAX_BYTES)
			refuse_and_close(cc, "request line over 1 MiB");
		else if (line.len)
			run_line(cc, line);
		hf_buf_consume(&cc->in, used);
	}
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct ctl_conn *cc = arg;

	(void)c;
	if (cc->dead)
		return;
	hf_buf_put_span(&cc->in, in);
	if (cc->in.err)
		refuse_and_close(cc, "too many requests without waiting for answers");
	else
		hf_task_next_turn(cc->srv->loop, &cc->task);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct ctl_conn *cc = arg;

	(void)c;
	if (cc->call && cc->call->on_drain)
		cc->call->on_drain(cc->call->drain_arg);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct ctl_conn *cc = arg;
	struct hf_ctl_srv *srv = cc->srv;

	(void)c;
	(void)err;
	(void)detail;
	hf_task_cancel(&cc->task);
	if (cc->call) {
		struct hf_ctl_call *call = cc->call;

		call->cc = NULL;
		if (call->held)
			call_free(call);
		else if (call->on_gone)
			call->on_gone(call->gone_arg);
	}
	hf_list_del(&cc->node);
	hf_buf_fini(&cc->in);
	free(cc);
	if (--srv->n_conns == 0 && srv->closing)
		free(srv);
}

static const struct hf_conn_ops conn_ops = { .data = on_data, .drained = on_drained, .closed = on_closed };

static bool peer_may_write(int fd, int write_gid)
{
	struct ucred cred;
	socklen_t len = sizeof cred, groups_len;
	gid_t groups[64];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	if (cred.uid == 0 || cred.uid == geteuid())
		return true;
	if (write_gid < 0)
		return false;
	if ((int)cred.gid == write_gid)
		return true;
	groups_len = sizeof groups;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_len) < 0)
		return false;
	for (size_t i = 0; i < groups_len / sizeof groups[0]; i++)
		if ((int)groups[i] == write_gid)
			return true;
	return false;
}

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct hf_ctl_srv *srv = arg;
	struct hf_conn_cfg cfg = { .out_cap = OUT_CAP };
	struct ctl_conn *cc = srv->n_conns < MAX_CONNS ? calloc(1, sizeof *cc) : NULL;
	bool may_write = peer_may_write(fd, srv->write_gid);

	(void)peer;
	if (!cc) {
		static struct hf_log_limit limit;

		hf_log_limited(&limit, HF_LOG_WARN, "ctl.limit", "%u control connections: refusing more", srv->n_conns);
		close(fd);
		return;
	}
	cc->srv = srv;
	cc->may_write = may_write;
	cc->in = HF_BUF_INIT(4 * LINE_MAX_BYTES);
	hf_task_init(&cc->task, run_lines, cc);
	if (hf_conn_create(srv->loop, fd, &cfg, &conn_ops, cc, &cc->conn) != 0) {
		free(cc);
		return;
	}
	hf_list_add_tail(&srv->conns, &cc->node);
	srv->n_conns++;
}

int hf_ctl_srv_create(struct hf_loop *loop, int fd, int write_gid, const struct hf_ctl_cmd *cmds, void *arg,
		      struct hf_ctl_srv **ret_srv)
{
	struct hf_ctl_srv *srv = calloc(1, sizeof *srv);
	int r;

	if (!srv) {
		close(fd);
		return -ENOMEM;
	}
	srv->loop = loop;
	srv->cmds = cmds;
	srv->arg = arg;
	srv->write_gid = write_gid;
	hf_list_init(&srv->conns);
	r = hf_listener_create(loop, fd, on_accept, srv, &srv->listener);
	if (r != 0) {
		free(srv);
		return r;
	}
	*ret_srv = srv;
	return 0;
}

void hf_ctl_srv_destroy(struct hf_ctl_srv **psrv)
{
	struct hf_ctl_srv *srv = *psrv;
	struct hf_list *pos, *tmp;

	if (!srv)
		return;
	*psrv = NULL;
	hf_listener_destroy(&srv->listener);
	srv->closing = true;
	if (srv->n_conns == 0) {
		free(srv);
		return;
	}
	hf_list_for_each_safe(pos, tmp, &srv->conns) {
		struct ctl_conn *cc = hf_container_of(pos, struct ctl_conn, node);

		cc->dead = true;
		hf_conn_abort(cc->conn, HF_ECLOSED, "shutting down");
	}
}
