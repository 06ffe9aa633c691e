/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/portal/portal.h - the portal at https://HOST/portal/: pages in the binary, sessions, live telemetry (docs/hub.md). Its
 * requests come through hub/rest/rest.h. Loop thread. */
#pragma once
#include "hub/model/model.h"

struct hub_portal;
struct hub_portal_cfg {
	const char *listen_https;	/* for its port */
	uint64_t idle_ms, max_ms;	/* a session ends unused for, and after */
};
/* The model must outlive the result, the result the REST side and the control socket. */
int hub_portal_create(struct hf_loop *loop, struct hub_model *model, const struct hub_portal_cfg *cfg,
		      struct hub_portal **ret_portal);
void hub_portal_destroy(struct hub_portal **portal);
const char *hub_portal_url(const struct hub_portal *p);
/* Signs in once, with every right; then there is another. Borrowed until the next call into the portal. */
const char *hub_portal_key(const struct hub_portal *p);
void hub_portal_key_renew(struct hub_portal *p);
