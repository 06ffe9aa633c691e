/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/portal/portal_int.h - inside of the portal. */
#pragma once
#include "hub/portal/portal.h"
#include "hub/portal/portal_session.h"
#include "hub/rest/rest_int.h"

struct hub_portal {
	struct hf_loop *loop;
	struct hub_model *model;
	char *url;
	char key[HUB_PORTAL_TOKEN_SIZE];
	struct hub_portal_sessions sessions;
	struct hub_portal_limit limit;
	int64_t started_ms;		/* wall clock */
	struct hf_list streams;		/* struct portal_stream: readers of live telemetry */
	unsigned n_streams;
	struct hf_timer *produce, *check;
};

/* What every file and answer of the portal carries. */
#define PORTAL_HEADERS                                                                                               \
	"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n"               \
	"Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"

/* portal_files.c: path without "/portal/". */
void portal_file(struct rest_req *q, const char *path);
/* portal_login.c */
void portal_login(struct rest_req *q);
void portal_logout(struct rest_req *q);
void portal_session(struct rest_req *q);
/* The session of the request's cookie, or NULL. use: it counts as used. */
struct hub_portal_session *portal_session_of(const struct rest_req *q, bool use);
/* portal_api.c */
void portal_status(struct rest_req *q);
void portal_clients(struct rest_req *q);
void portal_cut_off_list(struct rest_req *q);
void portal_cut_off(struct rest_req *q);
void portal_cut_off_end(struct rest_req *q);
void portal_fault_list(struct rest_req *q);
void portal_fault_clear(struct rest_req *q);
void portal_c2d_send(struct rest_req *q);
/* portal_live.c */
void portal_live(struct rest_req *q);
void portal_live_on_event(void *arg);
void portal_live_produce(void *arg);
void portal_live_check(void *arg);	/* ends streams of ended sessions, drops those that do not read */
