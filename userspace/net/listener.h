/* SPDX-License-Identifier: GPL-3.0-or-later */
/* net/listener.h - a listening socket on a loop: accepts under limits, caps handshake work per turn. */
#pragma once
#include "net/conn.h"

struct hf_listener;
/* fd is accepted, non-blocking, close-on-exec; the callee owns it. */
typedef void (*hf_accept_fn)(void *arg, int fd, const struct sockaddr_storage *peer);

/* Makes a bound, listening TCP socket. text: "0.0.0.0:8883", "[::]:8883", "10.0.0.1:443". reuse_port for
 * one socket per worker. *ret_fd on success; HF_EINVALID for bad text, -errno; each with a log line. */
int hf_listen_tcp(const char *text, bool reuse_port, int *ret_fd);
/* For configuration: NULL when hf_listen_tcp can read text, else what is expected. */
const char *hf_listen_refuse(const char *text);
/* Unix stream socket at path, mode and group as given (gid -1 = keep). Replaces a stale socket file only when
 * nobody answers on it; else -EADDRINUSE. Errors have a log line. */
int hf_listen_unix(const char *path, unsigned mode, int gid, int *ret_fd);
/* Takes fd. At most 64 accepts per turn. On EMFILE/ENFILE a spare fd is used to refuse and it is logged. */
int hf_listener_create(struct hf_loop *loop, int fd, hf_accept_fn fn, void *arg, struct hf_listener **ret_l);
void hf_listener_destroy(struct hf_listener **l);
