/* SPDX-License-Identifier: GPL-3.0-or-later */
#pragma once
#include "hub/model.h"
#include "tls/tls.h"
struct hub_scope_api;
int hub_scope_api_create(struct hf_loop *loop, struct hub_model *m, const char *host, int listen_fd, struct hf_tls_ctx *tls, struct hub_scope_api **ret);
void hub_scope_api_destroy(struct hub_scope_api **rest);
