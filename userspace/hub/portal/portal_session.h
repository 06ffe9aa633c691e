/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/portal/portal_session.h - who is signed in to the portal, and who failed too often to try again. No I/O: the caller gives
 * the time, in milliseconds of a clock that never goes back. One thread. */
#pragma once
#include "core/list.h"
#include "core/span.h"

#define HUB_PORTAL_SESSIONS 64
#define HUB_PORTAL_TOKEN_SIZE 33	/* 128 random bits in hex */

struct hub_portal_session {
	struct hf_list node;
	char token[HUB_PORTAL_TOKEN_SIZE];	/* the cookie */
	char csrf[HUB_PORTAL_TOKEN_SIZE];	/* wanted with every change: a foreign page cannot know it */
	char policy[64];			/* whose rights */
	unsigned rights;			/* HUB_REGISTRY_READ, ... */
	uint64_t opened_ms, used_ms;
};
struct hub_portal_sessions {
	struct hf_list all;		/* longest unused first */
	unsigned n;
	uint64_t idle_ms, max_ms;	/* unused for, and in all */
};
void hub_portal_sessions_init(struct hub_portal_sessions *ss, uint64_t idle_ms, uint64_t max_ms);
void hub_portal_sessions_fini(struct hub_portal_sessions *ss);
/* A new session; the longest unused one ends when there are HUB_PORTAL_SESSIONS. NULL: no memory. */
struct hub_portal_session *hub_portal_session_open(struct hub_portal_sessions *ss, const char *policy, unsigned rights,
						   uint64_t now_ms);
/* The live session with this token, or NULL. use: it counts as used now. Ends those whose time is over. */
struct hub_portal_session *hub_portal_session_find(struct hub_portal_sessions *ss, struct hf_span token, bool use,
						   uint64_t now_ms);
bool hub_portal_session_csrf_ok(const struct hub_portal_session *s, struct hf_span token);
void hub_portal_session_close(struct hub_portal_sessions *ss, struct hub_portal_session *s);	/* wipes it */

/* Failed logins by address: after some within a minute, more are not even looked at. */
#define HUB_PORTAL_FAILURES 10
struct hub_portal_limit {
	struct { char address[56]; unsigned n; uint64_t since_ms; } at[64];
};
/* Seconds until the address may try again; 0 = now. */
unsigned hub_portal_limit_wait_s(const struct hub_portal_limit *l, const char *address, uint64_t now_ms);
void hub_portal_limit_failed(struct hub_portal_limit *l, const char *address, uint64_t now_ms);
