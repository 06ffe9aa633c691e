/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Import and export jobs over HTTPS (iothub-protocol 5.1). */
#include "hub/rest/rest_int.h"
#include "hub/jobs/transfer.h"

void rest_transfer_create(struct rest_req *q)
{
	struct hub_error err;
	json_t *doc = NULL;

	if (hub_transfer_create(q->m, q->body, &doc, &err) != 0)
		rest_decline(q, &err);
	else
		rest_committed(q, 200, doc, NULL);
}

void rest_transfer_list(struct rest_req *q)
{
	rest_json(q, 200, hub_transfer_list(q->m), NULL);
}

void rest_transfer_get(struct rest_req *q)
{
	json_t *doc = hub_transfer_doc(q->m, q->param);

	if (doc)
		rest_json(q, 200, doc, NULL);
	else
		rest_refuse(q, 404, 404002, "JobNotFound", "Job %.128s not found", q->param);
}

void rest_transfer_cancel(struct rest_req *q)
{
	struct hub_error err;

	if (hub_transfer_cancel(q->m, q->param, &err) != 0)
		rest_decline(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}
