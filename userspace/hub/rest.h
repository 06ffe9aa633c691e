/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/rest.h - the HTTPS side of the emulator on 443 (iothub-protocol 5, 8). Loop thread. */
#pragma once
#include "hub/model.h"

struct hub_rest;
struct hf_tls_ctx;
/* Takes listen_fd. tls is borrowed. The model must outlive the result. */
int hub_rest_create(struct hf_loop *loop, struct hub_model *model, int listen_fd, struct hf_tls_ctx *tls,
		    struct hub_rest **ret_rest);
/* Requests still waiting are answered 503. */
void hub_rest_destroy(struct hub_rest **rest);
