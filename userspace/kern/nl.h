/* SPDX-License-Identifier: GPL-3.0-or-later */
/* kern/nl.h - tells when links, addresses or routes change (libnl). Loop thread. */
#pragma once
#include "loop/loop.h"
#include <sys/socket.h>

struct hf_nl;
/* fn runs once per burst of notifications. -errno with a log line when the kernel refuses. */
int hf_nl_create(struct hf_loop *loop, void (*fn)(void *arg), void *arg, struct hf_nl **ret_nl);
void hf_nl_destroy(struct hf_nl **nl);
/* Is the interface that carries this local address up and running (carrier)? True when it cannot be told. */
bool hf_nl_local_is_up(const struct sockaddr *local);
