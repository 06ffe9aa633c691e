/* SPDX-License-Identifier: GPL-3.0-or-later */
/* File upload as devices see it: a place to write to, and the word that it is done (iothub-protocol 4.3). */
#include "core/util.h"
#include "hub/blob/blob.h"
#include "hub/rest/rest_int.h"

void rest_upload_start(struct rest_req *q)
{
	const char *name = json_string_value(json_object_get(q->body, "blobName"));
	struct hub_upload_ticket t;
	struct hub_error err;

	if (!name)
		rest_refuse_device(q, 400, 400004, "ArgumentInvalid", "blobName is needed");
	else if (hub_upload_start(q->m, q->device, name, &t, &err) != 0)
		rest_refuse_device(q, err.http_status, err.code, err.name, "%s", err.message);
	else
		rest_committed(q, 200, json_pack("{ss ss ss ss ss}", "correlationId", t.correlation_id, "hostName", hub_model_host(q->m),
						 "containerName", HUB_BLOB_CONTAINER, "blobName", t.blob_name, "sasToken", t.sas), NULL);
}

/* The id is in the body, or in the path. */
void rest_upload_done(struct rest_req *q)
{
	const char *id = *q->param ? q->param : json_string_value(json_object_get(q->body, "correlationId"));
	const json_t *success = json_object_get(q->body, "isSuccess");
	struct hub_error err;

	if (!id || !json_is_boolean(success))
		rest_refuse_device(q, 400, 400004, "ArgumentInvalid", "correlationId and isSuccess are needed");
	else if (hub_upload_finish(q->m, q->device, id, json_is_true(success), &err) != 0)
		rest_refuse_device(q, err.http_status, err.code, err.name, "%s", err.message);
	else
		rest_committed(q, 204, NULL, NULL);
}
