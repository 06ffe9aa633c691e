/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctlproto/ctlproto.h - the control protocol: JSON lines of at most 1 MiB over a unix stream socket.
 *
 * Request  {"id":1,"cmd":"children.list","args":{}}
 * Reply    {"id":1,"item":{...}} *   then {"id":1,"ok":true} or
 *          {"id":1,"ok":false,"error":{"code":"not-found","message":"..."}}
 * Commands are a table; roles come from the peer's credentials (root and the configured group write).
 * Server: loop thread. Client: blocking, for command line tools. */
#pragma once
#include "loop/loop.h"
#include <jansson.h>

struct hf_ctl_srv;
struct hf_ctl_call;	/* one running command; lives until finished or its client left */
struct hf_ctl_cmd {
	const char *name;	/* "queue.peek" */
	bool writes;		/* needs the write role */
	const char *help;
	/* Starts the command; it ends with hf_ctl_ok/hf_ctl_fail, now or later. args: borrowed object. */
	void (*run)(void *arg, struct hf_ctl_call *call, const json_t *args);
};
/* fd: listening unix socket, taken. cmds end with name NULL and outlive the server. */
int hf_ctl_srv_create(struct hf_loop *loop, int fd, int write_gid, const struct hf_ctl_cmd *cmds, void *arg,
		      struct hf_ctl_srv **ret_srv);
/* Closes listener and connections; the loop must go on running until their closed callbacks came. Calls in
 * progress are told by on_gone and must still be finished. */
void hf_ctl_srv_destroy(struct hf_ctl_srv **srv);
/* Sends one item; steals the reference. False: the client's buffer is over 256 KiB; produce again from
 * on_drain. Items to a client that left are dropped silently (on_gone tells). */
bool hf_ctl_item(struct hf_ctl_call *call, json_t *item);
void hf_ctl_on_drain(struct hf_ctl_call *call, void (*fn)(void *arg), void *arg);
/* Called once if the client leaves before the end; the call must still be finished with ok or fail. */
void hf_ctl_on_gone(struct hf_ctl_call *call, void (*fn)(void *arg), void *arg);
void hf_ctl_ok(struct hf_ctl_call *call);
/* code: "not-found", "invalid", "denied", "busy", "failed", "timeout". */
void hf_ctl_fail(struct hf_ctl_call *call, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* For servers that misbehave on purpose; within run, before the call ends. Instead of the end: run comes again in ms
 * milliseconds, and hf_ctl_is_again tells; UINT32_MAX: never, the client waits until it leaves. */
void hf_ctl_later(struct hf_ctl_call *call, uint32_t ms);
bool hf_ctl_is_again(const struct hf_ctl_call *call);
void hf_ctl_drop(struct hf_ctl_call *call);	/* instead of the end: closes the connection */
/* Everything that is sent for this call goes ms milliseconds after its end; UINT32_MAX: never. */
void hf_ctl_answer_late(struct hf_ctl_call *call, uint32_t ms);

/* Client. Exit codes of all tools. */
enum { HF_EXIT_OK = 0, HF_EXIT_REFUSED = 1, HF_EXIT_USAGE = 2, HF_EXIT_UNREACHABLE = 3, HF_EXIT_TIMEOUT = 4 };
typedef void (*hf_ctl_item_fn)(void *arg, const json_t *item);
/* Runs one command to its end; prints nothing; timeout_ms 0 = none (follow). Steals args (may be NULL).
 * Returns an exit code; *ret_error (heap, may be NULL) has the text for people. Blocks. */
int hf_ctl_client_run(const char *socket_path, const char *cmd, json_t *args, unsigned timeout_ms,
		      hf_ctl_item_fn on_item, void *arg, char **ret_error);
