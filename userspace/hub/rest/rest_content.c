/* SPDX-License-Identifier: GPL-3.0-or-later */
/* applyConfigurationContent: sets the modules of one edge device and their desired properties (5.8). */
#include "hub/model/content.h"
#include "hub/rest/rest_int.h"

void rest_apply_content(struct rest_req *q)
{
	const struct hub_ident *d = rest_ident(q);
	struct hub_error err;

	if (!d)
		return;
	if (hub_content_apply(q->m, d, json_object_get(q->body, "modulesContent"), false, &err) != 0)
		rest_decline(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}
