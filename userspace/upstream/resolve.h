/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/resolve.h - host name to addresses, never blocking (c-ares): hosts file, then the chosen servers or
 * the system's. One second, two tries. Loop thread. resolve.c is the only includer of ares.h. */
#pragma once
#include "loop/loop.h"
#include <sys/socket.h>

#define HF_RESOLVE_MAX 8
struct hf_address {
	struct sockaddr_storage addr;	/* port as asked for */
	socklen_t len;
};
struct hf_resolver;
/* servers: "10.0.0.1,10.0.0.2:5353", NULL or "" = the system's configuration. */
int hf_resolver_create(struct hf_loop *loop, const char *servers, struct hf_resolver **ret_r);
void hf_resolver_destroy(struct hf_resolver **r);
/* Forgets the system's configuration and sockets: after a change of links. A query in progress is dropped
 * without its callback. */
int hf_resolver_reset(struct hf_resolver *r);
/* One query at a time; a new one drops the old. fn: err 0 and 1..HF_RESOLVE_MAX addresses, or HF_ENOTFOUND,
 * HF_ETIMEOUT ...; text says what c-ares said. */
typedef void (*hf_resolve_fn)(void *arg, int err, const char *text, const struct hf_address *addrs, unsigned n);
int hf_resolve(struct hf_resolver *r, const char *host, uint16_t port, hf_resolve_fn fn, void *arg);
