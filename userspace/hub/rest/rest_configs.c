/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Automatic configurations over HTTPS (iothub-protocol 5.8). */
#include "core/util.h"
#include "hub/jobs/configs.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdio.h>

void rest_config_list(struct rest_req *q)
{
	int64_t top = rest_number(q, "top", REST_MAX_PAGE, REST_MAX_PAGE);
	const char *id = NULL;
	json_t *list;

	if (top < 1) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "top must be a number from 1 to %d", REST_MAX_PAGE);
		return;
	}
	list = json_array();
	while (json_array_size(list) < (size_t)top && (id = hub_config_next(q->m, id)))
		if (json_array_append_new(list, hub_config_doc(q->m, id)) != 0)
			break;
	rest_json(q, 200, list, NULL);
}

void rest_config_get(struct rest_req *q)
{
	json_t *doc = hub_config_doc(q->m, q->param);

	if (doc)
		rest_document(q, doc, false);
	else
		rest_refuse(q, 404, 404301, "ConfigurationNotFound", "Configuration %.128s not found", q->param);
}

void rest_config_put(struct rest_req *q)
{
	struct hub_error err;
	json_t *doc = NULL;

	if (hub_config_put(q->m, q->param, q->body, rest_if_match(q), &doc, &err) != 0)
		rest_decline(q, &err);
	else
		rest_document(q, doc, true);
}

void rest_config_delete(struct rest_req *q)
{
	struct hub_error err;

	if (hub_config_delete(q->m, q->param, rest_if_match(q), &err) != 0)
		rest_decline(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}

void rest_config_test(struct rest_req *q)
{
	if (!json_is_object(q->body))
		rest_refuse(q, 400, 400006, "IotHubFormatError", "the body must be a JSON object");
	else
		rest_json(q, 200, hub_config_test(q->body), NULL);
}
