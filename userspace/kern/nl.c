/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "kern/nl.h"
#include "core/log.h"
#include "core/util.h"
#include <errno.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

struct hf_nl {
	struct nl_sock *sock;
	struct hf_watch *watch;
	void (*fn)(void *arg);
	void *arg;
	bool heard;
};

static int on_message(struct nl_msg *msg, void *arg)
{
	struct hf_nl *nl = arg;

	(void)msg;
	nl->heard = true;
	return NL_OK;
}

static void on_readable(void *arg, int events, int err)
{
	struct hf_nl *nl = arg;
	int r = 0;

	(void)events;
	(void)err;
	nl->heard = false;
	for (int i = 0; i < 64 && r >= 0; i++)
		r = nl_recvmsgs_default(nl->sock);
	if (r == -NLE_NOMEM)	/* the kernel dropped some: whatever they said, something changed */
		nl->heard = true;
	if (nl->heard)
		nl->fn(nl->arg);
}

int hf_nl_create(struct hf_loop *loop, void (*fn)(void *arg), void *arg, struct hf_nl **ret_nl)
{
	struct hf_nl *nl = calloc(1, sizeof *nl);
	int r;

	if (!nl || !(nl->sock = nl_socket_alloc())) {
		free(nl);
		return -ENOMEM;
	}
	nl->fn = fn;
	nl->arg = arg;
	nl_socket_disable_seq_check(nl->sock);
	nl_socket_modify_cb(nl->sock, NL_CB_VALID, NL_CB_CUSTOM, on_message, nl);
	r = nl_connect(nl->sock, NETLINK_ROUTE);
	if (r == 0)
		r = nl_socket_add_memberships(nl->sock, RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
					      RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, 0);
	if (r == 0)
		r = nl_socket_set_nonblocking(nl->sock);
	if (r != 0) {
		hf_log(HF_LOG_ERR, "kern.nl", "rtnetlink: %s", nl_geterror(r));
		hf_nl_destroy(&nl);
		return -EIO;
	}
	r = hf_watch_create(loop, nl_socket_get_fd(nl->sock), on_readable, nl, &nl->watch);
	if (r == 0)
		r = hf_watch_set(nl->watch, HF_READABLE);
	if (r != 0) {
		hf_nl_destroy(&nl);
		return r;
	}
	*ret_nl = nl;
	return 0;
}

void hf_nl_destroy(struct hf_nl **nl)
{
	if (!*nl)
		return;
	hf_watch_destroy(&(*nl)->watch);
	nl_socket_free((*nl)->sock);
	free(*nl);
	*nl = NULL;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || !b || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	if (a->sa_family == AF_INET6)
		return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16) == 0;
	return false;
}

bool hf_nl_local_is_up(const struct sockaddr *local)
{
	struct ifaddrs *all;
	bool up = false;

	if (getifaddrs(&all) < 0)
		return true;
	for (struct ifaddrs *i = all; i; i = i->ifa_next)
		if (same_address(i->ifa_addr, local))
			up = (i->ifa_flags & IFF_UP) && (i->ifa_flags & IFF_RUNNING);
	freeifaddrs(all);
	return up;
}
