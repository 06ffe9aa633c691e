/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "upstream/resolve.h"
#include "core/log.h"
#include "core/util.h"
#include <ares.h>
#include <errno.h>
#include <holdfast/err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

#define MAX_SOCKETS 16

struct sock {
	int fd;
	struct hf_watch *watch;
	struct hf_resolver *r;
};
struct hf_resolver {
	struct hf_loop *loop;
	char *servers;
	ares_channel channel;
	bool open;
	struct sock socks[MAX_SOCKETS];
	struct hf_timer *timer;
	struct hf_task settle;	/* callbacks of c-ares are left before ours runs */
	unsigned generation;
	hf_resolve_fn fn;
	void *arg;
	int err;
	char text[128];
	struct hf_address addrs[HF_RESOLVE_MAX];
	unsigned n;
};
struct query {
	struct hf_resolver *r;
	unsigned generation;
};

static void arm(struct hf_resolver *r)
{
	struct timeval tv, *next = ares_timeout(r->channel, NULL, &tv);

	if (next)
		hf_timer_start(r->timer, (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1, 0);
	else
		hf_timer_stop(r->timer);
}

static void on_timer(void *arg)
{
	struct hf_resolver *r = arg;

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(r);
}

static void on_socket(void *arg, int events, int err)
{
	struct sock *s = arg;
	struct hf_resolver *r = s->r;
	int fd = s->fd;

	if (err)
		events = HF_READABLE | HF_WRITABLE;
	ares_process_fd(r->channel, events & HF_READABLE ? fd : ARES_SOCKET_BAD,
			events & HF_WRITABLE ? fd : ARES_SOCKET_BAD);
	arm(r);
}

/* c-ares says which of its sockets it waits for; 0,0 comes before it closes one. */
static void on_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct hf_resolver *r = arg;
	int slot = -1;

	for (int i = 0; i < MAX_SOCKETS; i++) {
		if (r->socks[i].watch && r->socks[i].fd == fd) {
			slot = i;
			break;
		}
		if (!r->socks[i].watch && slot < 0)
			slot = i;
	}
	if (slot < 0)
		return;
	if (!readable && !writable) {
		hf_watch_destroy(&r->socks[slot].watch);
		return;
	}
	if (!r->socks[slot].watch) {
		r->socks[slot].fd = fd;
		r->socks[slot].r = r;
		if (hf_watch_create(r->loop, fd, on_socket, &r->socks[slot], &r->socks[slot].watch) != 0)
			return;
	}
	hf_watch_set(r->socks[slot].watch, (readable ? HF_READABLE : 0) | (writable ? HF_WRITABLE : 0));
}

static int open_channel(struct hf_resolver *r)
{
	struct ares_options opt = { .timeout = 1000, .tries = 2, .sock_state_cb = on_state, .sock_state_cb_data = r,
				    .lookups = (char *)"fb" };
	int rc = ares_init_options(&r->channel, &opt,
				   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS);

	if (rc != ARES_SUCCESS) {
		hf_log(HF_LOG_ERR, "upstream.dns", "resolver: %s", ares_strerror(rc));
		return -EIO;
	}
	r->open = true;
	if (r->servers && *r->servers && (rc = ares_set_servers_ports_csv(r->channel, r->servers)) != ARES_SUCCESS) {
		hf_log(HF_LOG_ERR, "upstream.dns", "dns.servers \"%s\": %s", r->servers, ares_strerror(rc));
		return HF_EBADCONF;
	}
	return 0;
}

static void close_channel(struct hf_resolver *r)
{
	r->generation++;	/* answers to what is cancelled here are nobody's */
	if (r->open)
		ares_destroy(r->channel);
	r->open = false;
	for (int i = 0; i < MAX_SOCKETS; i++)
		hf_watch_destroy(&r->socks[i].watch);
	hf_task_cancel(&r->settle);
}

static void settle(void *arg)
{
	struct hf_resolver *r = arg;

	r->fn(r->arg, r->err, r->text, r->addrs, r->n);
}

int hf_resolver_create(struct hf_loop *loop, const char *servers, struct hf_resolver **ret_r)
{
	struct hf_resolver *r = calloc(1, sizeof *r);
	int err = -ENOMEM;

	if (!r || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		free(r);
		return err;
	}
	r->loop = loop;
	hf_task_init(&r->settle, settle, r);
	r->servers = servers ? strdup(servers) : NULL;
	err = hf_timer_create(loop, on_timer, r, &r->timer);
	if (err == 0)
		err = open_channel(r);
	if (err != 0) {
		hf_resolver_destroy(&r);
		return err;
	}
	*ret_r = r;
	return 0;
}

void hf_resolver_destroy(struct hf_resolver **r)
{
	if (!*r)
		return;
	close_channel(*r);
	hf_timer_destroy(&(*r)->timer);
	free((*r)->servers);
	free(*r);
	*r = NULL;
	ares_library_cleanup();
}

int hf_resolver_reset(struct hf_resolver *r)
{
	close_channel(r);
	hf_timer_stop(r->timer);
	return open_channel(r);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct query *q = arg;
	struct hf_resolver *r = q->r;

	(void)timeouts;
	if (status != ARES_EDESTRUCTION && q->generation == r->generation) {
		r->n = 0;
		for (struct ares_addrinfo_node *n = status == ARES_SUCCESS ? info->nodes : NULL; n && r->n < HF_RESOLVE_MAX;
		     n = n->ai_next) {
			memcpy(&r->addrs[r->n].addr, n->ai_addr, n->ai_addrlen);
			r->addrs[r->n++].len = n->ai_addrlen;
		}
		r->err = r->n ? 0 : status == ARES_ETIMEOUT ? HF_ETIMEOUT : HF_ENOTFOUND;
		snprintf(r->text, sizeof r->text, "%s", r->n ? "resolved" : ares_strerror(status));
		hf_task_next_turn(r->loop, &r->settle);
	}
	if (info)
		ares_freeaddrinfo(info);
	free(q);
}

int hf_resolve(struct hf_resolver *r, const char *host, uint16_t port, hf_resolve_fn fn, void *arg)
{
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NUMERICSERV };
	struct query *q = malloc(sizeof *q);
	char service[8];
	int err = 0;

	if (!q)
		return -ENOMEM;
	if (!r->open && (err = open_channel(r)) != 0) {
		free(q);
		return err;
	}
	hf_task_cancel(&r->settle);
	r->fn = fn;
	r->arg = arg;
	*q = (struct query){ r, ++r->generation };
	snprintf(service, sizeof service, "%u", port);
	ares_getaddrinfo(r->channel, host, service, &hints, on_answer, q);
	arm(r);
	return 0;
}
