/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/ctl/cli.h"
#include <string.h>

#define DEVICE { "--device-id", "-d", "deviceId", HF_CLI_STR, true, "DEVICE", "device id" }
#define MODULE(req) { "--module-id", "-m", "moduleId", HF_CLI_STR, req, "MODULE", "module id" }
#define END { 0 }

static const struct hf_cli_arg serve_args[] = {
	{ "-c", "--config", "config", HF_CLI_PATHS, false, "FILE", "configuration file; repeat to override settings" },
	{ "-t", NULL, "check", HF_CLI_FLAG, false, "", "only check the configuration" },
	{ "--defaults", NULL, "defaults", HF_CLI_FLAG, false, "", "only print every setting with its default and meaning (Markdown)" },
	{ "--throttle", NULL, "throttle", HF_CLI_STR, false, "WHAT", "s1: the request limits of one S1 unit; off: none; before limits.throttle" },
	END,
};
static const struct hf_cli_arg events_args[] = {
	{ "--follow", "-f", "follow", HF_CLI_FLAG, false, "", "go on with new events" },
	{ "--from", NULL, "from", HF_CLI_INT, false, "SEQ", "first sequence number (default: the oldest kept)" },
	{ "--max", NULL, "max", HF_CLI_INT, false, "N", "stop after N events" },
	END,
};
static const struct hf_cli_arg query_args[] = {
	{ "-q", "--query-command", "query", HF_CLI_STR, true, "SQL", "query text" },
	{ "--ids", NULL, "ids", HF_CLI_FLAG, false, "", "only ids, one a line: what --child-list takes" },
	END,
};
static const struct hf_cli_arg create_args[] = {
	DEVICE,
	{ "--edge-enabled", "--ee", "edgeEnabled", HF_CLI_FLAG, false, "", "an edge device (a gateway)" },
	{ "--parent", "--pd", "parent", HF_CLI_STR, false, "EDGE", "edge device that becomes its parent" },
	{ "--primary-key", "--pk", "primaryKey", HF_CLI_STR, false, "KEY", "base64; made when absent" },
	{ "--secondary-key", "--sk", "secondaryKey", HF_CLI_STR, false, "KEY", "base64; made when absent" },
	{ "--auth-method", "--am", "authMethod", HF_CLI_STR, false, "METHOD",
	  "shared_private_key (default), x509_thumbprint, x509_ca" },
	{ "--primary-thumbprint", "--ptp", "primaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" },
	{ "--secondary-thumbprint", "--stp", "secondaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" },
	{ "--status", "--sta", "status", HF_CLI_STR, false, "STATUS", "enabled (default) or disabled" },
	{ "--status-reason", "--star", "statusReason", HF_CLI_STR, false, "TEXT", "why it has that status" },
	END,
};
static const struct hf_cli_arg list_args[] = {
	{ "--edge-enabled", "--ee", "edgeEnabled", HF_CLI_FLAG, false, "", "edge devices only" },
	END,
};
static const struct hf_cli_arg device_args[] = { DEVICE, END };
static const struct hf_cli_arg ident_args[] = { DEVICE, MODULE(false), END };
static const struct hf_cli_arg one_module_args[] = { DEVICE, MODULE(true), END };
#define CHANGES \
	{ "--auth-method", "--am", "authMethod", HF_CLI_STR, false, "METHOD", "shared_private_key, x509_thumbprint, x509_ca" }, \
	{ "--primary-key", "--pk", "primaryKey", HF_CLI_STR, false, "KEY", "base64" }, \
	{ "--secondary-key", "--sk", "secondaryKey", HF_CLI_STR, false, "KEY", "base64" }, \
	{ "--primary-thumbprint", "--ptp", "primaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" }, \
	{ "--secondary-thumbprint", "--stp", "secondaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" }
static const struct hf_cli_arg update_args[] = {
	DEVICE,
	MODULE(false),
	{ "--status", "--sta", "status", HF_CLI_STR, false, "STATUS", "enabled or disabled" },
	{ "--status-reason", "--star", "statusReason", HF_CLI_STR, false, "TEXT", "why it has that status" },
	{ "--edge-enabled", "--ee", "edgeEnabled", HF_CLI_STR, false, "BOOL", "true makes it an edge device, false a leaf" },
	CHANGES,
	END,
};
static const struct hf_cli_arg module_update_args[] = { DEVICE, MODULE(true), CHANGES, END };
static const struct hf_cli_arg children_args[] = {
	DEVICE,
	{ "--child-list", "--cl", "childList", HF_CLI_LIST, true, "IDS", "device ids, separated by commas or spaces" },
	{ "--force", NULL, "force", HF_CLI_FLAG, false, "", "move children that have another parent" },
	END,
};
static const struct hf_cli_arg remove_args[] = {
	DEVICE,
	{ "--child-list", "--cl", "childList", HF_CLI_LIST, true, "IDS", "device ids, separated by commas or spaces" },
	END,
};
static const struct hf_cli_arg parent_args[] = {
	DEVICE,
	{ "--parent-device-id", "--pd", "parent", HF_CLI_STR, true, "EDGE", "edge device" },
	{ "--force", NULL, "force", HF_CLI_FLAG, false, "", "also when it has another parent" },
	END,
};
static const struct hf_cli_arg module_args[] = {
	DEVICE,
	MODULE(true),
	{ "--primary-key", "--pk", "primaryKey", HF_CLI_STR, false, "KEY", "base64; made when absent" },
	{ "--secondary-key", "--sk", "secondaryKey", HF_CLI_STR, false, "KEY", "base64; made when absent" },
	{ "--auth-method", "--am", "authMethod", HF_CLI_STR, false, "METHOD",
	  "shared_private_key (default), x509_thumbprint, x509_ca" },
	{ "--primary-thumbprint", "--ptp", "primaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" },
	{ "--secondary-thumbprint", "--stp", "secondaryThumbprint", HF_CLI_STR, false, "HEX", "SHA-1 or SHA-256" },
	END,
};
static const struct hf_cli_arg import_args[] = {
	{ NULL, NULL, "devices", HF_CLI_FILE, true, "FILE",
	  "JSON array of {deviceId, moduleId, primaryKey, edgeEnabled, parent, tags, ...}; - reads standard input" },
	END,
};
static const struct hf_cli_arg init_args[] = {
	{ NULL, NULL, "dir", HF_CLI_STR, true, "DIR", "new directory for configuration, certificates, socket and data" },
	{ "--host", NULL, "host", HF_CLI_STR, false, "NAME", "the hub's host name (default: localhost)" },
	{ "--listen", NULL, "listen", HF_CLI_STR, false, "ADDRESS", "address of its ports (default: 127.0.0.1)" },
	END,
};
static const struct hf_cli_arg twin_args[] = {
	DEVICE,
	MODULE(false),
	{ "--desired", NULL, "desired", HF_CLI_JSON, false, "JSON", "patch of the desired properties, or @FILE" },
	{ "--tags", NULL, "tags", HF_CLI_JSON, false, "JSON", "patch of the tags, or @FILE" },
	{ "--replace", NULL, "replace", HF_CLI_FLAG, false, "", "replace instead of patch" },
	END,
};
static const struct hf_cli_arg content_args[] = {
	DEVICE,
	{ "--content", "-k", "content", HF_CLI_FILE, true, "FILE", "manifest: {\"modulesContent\": ...}; - reads standard input" },
	END,
};
static const struct hf_cli_arg method_args[] = {
	DEVICE,
	MODULE(false),
	{ "--method-name", "--mn", "methodName", HF_CLI_STR, true, "NAME", "method" },
	{ "--method-payload", "--mp", "payload", HF_CLI_JSON, false, "JSON", "payload, or @FILE" },
	{ "--timeout", "--to", "timeout", HF_CLI_INT, false, "SECONDS", "for the answer: 5 to 300, default 30" },
	{ "--connect-timeout", NULL, "connectTimeout", HF_CLI_INT, false, "SECONDS", "for it to connect: 0 (default) to 300" },
	END,
};
static const struct hf_cli_arg c2d_args[] = {
	DEVICE,
	{ "--data", "--da", "data", HF_CLI_STR, true, "TEXT", "message body" },
	{ "--message-id", "--mid", "messageId", HF_CLI_STR, false, "ID", "message id" },
	{ "--correlation-id", "--cid", "correlationId", HF_CLI_STR, false, "ID", "correlation id" },
	{ "--user-id", "--uid", "userId", HF_CLI_STR, false, "ID", "user id" },
	{ "--content-type", "--ct", "contentType", HF_CLI_STR, false, "TYPE", "as application/json" },
	{ "--content-encoding", "--ce", "contentEncoding", HF_CLI_STR, false, "ENCODING", "as utf-8" },
	{ "--ack", NULL, "ack", HF_CLI_STR, false, "KIND", "feedback about it: none (default), positive, negative or full" },
	{ "--expiry", NULL, "expirySeconds", HF_CLI_INT, false, "SECONDS", "how long it may wait (default 3600, at most 172800)" },
	{ "--props", "-p", "properties", HF_CLI_JSON, false, "JSON", "application properties, or @FILE" },
	END,
};
#define BLOB { NULL, NULL, "blobName", HF_CLI_STR, true, "NAME", "name as blob list shows it" }
static const struct hf_cli_arg blob_args[] = { BLOB, END };
static const struct hf_cli_arg blob_get_args[] = {
	BLOB,
	{ "--file", "-f", "file", HF_CLI_STR, false, "FILE", "write to it (default: standard output)" },
	END,
};
static const struct hf_cli_arg fault_add_args[] = {
	{ "--on", NULL, "on", HF_CLI_STR, true, "OPERATION", "connect, telemetry, twin, method, scope or c2d" },
	{ "--action", NULL, "action", HF_CLI_STR, true, "ACTION",
	  "delay=MS, hang, drop-connection, reject=CODE, throttle, ack-late=MS, ack-twice or ack-never" },
	{ "--device", "-d", "device", HF_CLI_STR, false, "DEVICE", "only this device and its modules, or one DEVICE/MODULE" },
	{ "--rate", NULL, "rate", HF_CLI_INT, false, "PERCENT", "how many operations fail, evenly spread (default 100)" },
	{ "--count", NULL, "count", HF_CLI_INT, false, "N", "gone after N hits (default: no end)" },
	END,
};
static const struct hf_cli_arg fault_clear_args[] = {
	{ NULL, NULL, "id", HF_CLI_INT, false, "ID", "one rule (default: all)" },
	END,
};
static const struct hf_cli_arg status_args[] = {
	{ "--wait", NULL, "wait", HF_CLI_INT, false, "SECONDS", "wait that long for a hub that is starting" },
	END,
};
#define LOGIN \
	{ "--device-id", "-d", "deviceId", HF_CLI_STR, false, "DEVICE", "of a device; without it, of a policy" }, \
	MODULE(false), \
	{ "--policy-name", "--pn", "name", HF_CLI_STR, false, "POLICY", "default iothubowner" }
static const struct hf_cli_arg connection_args[] = {
	LOGIN,
	{ "--event-hub", NULL, "eventHub", HF_CLI_FLAG, false, "", "of a policy, for Event Hubs clients" },
	END,
};
static const struct hf_cli_arg token_args[] = {
	LOGIN,
	{ "--duration", "--du", "duration", HF_CLI_INT, false, "SECONDS", "how long it is valid (default 3600)" },
	END,
};
static const struct hf_cli_arg policy_args[] = {
	{ "--policy-name", "--pn", "name", HF_CLI_STR, false, "POLICY", "default iothubowner" },
	END,
};
static const struct hf_cli_arg portal_args[] = {
	{ "--renew", NULL, "renew", HF_CLI_FLAG, false, "", "make another key first; the old one works no more" },
	END,
};
static const struct hf_cli_arg level_args[] = {
	{ NULL, NULL, "level", HF_CLI_STR, false, "LEVEL", "err, warn, notice, info or debug" },
	END,
};

#define DEVICE_COLUMNS "deviceId:DEVICE,status:STATUS,capabilities.iotEdge:EDGE,connectionState:STATE,authentication.type:AUTH,deviceScope:SCOPE"

static struct hf_cli_cmd commands[] = {
	{ "init", NULL, init_args, NULL, "write a configuration with certificates of its own, ready to serve",
	  "holdfast-hub init myhub --host localhost", 0, hub_cli_init },
	{ "serve", NULL, serve_args, NULL, "run the emulator in the foreground", "holdfast-hub serve -c myhub/hub.conf", 0, NULL },
	{ "status", NULL, status_args, NULL, "state of the emulator", "holdfast-hub status --wait 10", 0, hub_cli_status },
	{ "events", "events", events_args, "sequence:SEQ,enqueuedTime:TIME,deviceId:DEVICE,moduleId:MODULE,bodyBase64:BODY",
	  "telemetry taken, oldest first", "holdfast-hub events --follow --json", HF_CLI_NO_TIMEOUT, NULL },
	{ "query", NULL, query_args, NULL, "run a query over the registry",
	  "holdfast-hub query -q \"SELECT * FROM devices WHERE capabilities.iotEdge = false\" --ids", 60000, hub_cli_query },
	{ "device create", "device.create", create_args, NULL, "register a device",
	  "holdfast-hub device create -d dev0 --parent edge1", 0, NULL },
	{ "device list", "device.list", list_args, DEVICE_COLUMNS, "all devices", "holdfast-hub device list --json", 60000, NULL },
	{ "device show", "device.show", ident_args, NULL, "one device or module, with keys", "holdfast-hub device show -d dev0", 0, NULL },
	{ "device update", "device.update", update_args, NULL, "change status, keys, or whether it is an edge device",
	  "holdfast-hub device update -d dev0 --status disabled", 0, NULL },
	{ "device delete", "device.delete", ident_args, NULL, "remove a device and its modules", "holdfast-hub device delete -d dev0", 0, NULL },
	{ "device add-children", "device.add-children", children_args, NULL, "make leaf devices children of an edge device",
	  "holdfast-hub device add-children -d edge1 --child-list dev0,dev1", 60000, NULL },
	{ "device remove-children", "device.remove-children", remove_args, NULL, "free children of an edge device",
	  "holdfast-hub device remove-children -d edge1 --child-list dev0 dev1", 60000, NULL },
	{ "device list-children", "device.list-children", device_args, "deviceId:DEVICE,edgeEnabled:EDGE",
	  "children of an edge device", "holdfast-hub device list-children -d edge1", 60000, NULL },
	{ "device get-parent", "device.get-parent", device_args, "deviceId:DEVICE", "the parent of a device", "holdfast-hub device get-parent -d dev0", 0, NULL },
	{ "device set-parent", "device.set-parent", parent_args, NULL, "give a device a parent; edge devices nest this way",
	  "holdfast-hub device set-parent -d dev0 --pd edge1", 0, NULL },
	{ "module create", "module.create", module_args, NULL, "register a module", "holdfast-hub module create -d edge1 -m mod1", 0, NULL },
	{ "module list", "module.list", device_args, "moduleId:MODULE,connectionState:STATE,managedBy:MANAGED BY",
	  "modules of a device", "holdfast-hub module list -d edge1", 0, NULL },
	{ "module show", "device.show", one_module_args, NULL, "one module, with keys", "holdfast-hub module show -d edge1 -m mod1", 0, NULL },
	{ "module update", "device.update", module_update_args, NULL, "change how a module authenticates",
	  "holdfast-hub module update -d edge1 -m mod1 --pk \"$(openssl rand -base64 32)\"", 0, NULL },
	{ "module delete", "device.delete", one_module_args, NULL, "remove a module", "holdfast-hub module delete -d edge1 -m mod1", 0, NULL },
	{ "module twin", "twin.show", one_module_args, NULL, "a module's twin; twin update -m changes it",
	  "holdfast-hub module twin -d edge1 -m mod1 --json", 0, NULL },
	{ "import", NULL, import_args, NULL, "register many devices and modules from a file", "holdfast-hub import devices.json", 0,
	  hub_cli_import },
	{ "export", NULL, NULL, NULL, "print the registry as a file for import, with keys and desired properties",
	  "holdfast-hub export > devices.json", 60000, hub_cli_export },
	{ "twin show", "twin.show", ident_args, NULL, "a twin", "holdfast-hub twin show -d edge1 -m '$edgeHub' --json", 0, NULL },
	{ "twin update", "twin.update", twin_args, NULL, "patch desired properties and tags",
	  "holdfast-hub twin update -d dev0 --desired '{\"rate\":5}'", 0, NULL },
	{ "deployment apply", "deployment.apply", content_args, NULL, "set the modules of an edge device and their desired properties",
	  "holdfast-hub deployment apply --device-id edge1 --content manifest.json", 0, NULL },
	{ "deployment show", NULL, device_args, NULL, "print an edge device's manifest, as deployment apply takes it",
	  "holdfast-hub deployment show -d edge1 > manifest.json", 0, hub_cli_deployment_show },
	{ "method invoke", "method.invoke", method_args, NULL, "call a direct method",
	  "holdfast-hub method invoke -d dev0 --mn reboot --mp '{\"delay\":1}'", 610000, NULL },
	{ "c2d send", "c2d.send", c2d_args, NULL, "queue a cloud-to-device message", "holdfast-hub c2d send -d dev0 --data hello", 0, NULL },
	{ "blob list", "blob.list", NULL, "blobName:FILE,blobSizeInBytes:BYTES,lastUpdatedTime:UPDATED,contentType:TYPE",
	  "files that devices uploaded", "holdfast-hub blob list", 60000, NULL },
	{ "blob get", NULL, blob_get_args, NULL, "content of an uploaded file", "holdfast-hub blob get dev0/log.txt -f log.txt", 0,
	  hub_cli_blob_get },
	{ "blob delete", "blob.delete", blob_args, NULL, "remove an uploaded file", "holdfast-hub blob delete dev0/log.txt", 0, NULL },
	{ "clients list", "clients.list", NULL, "id:CLIENT,protocol:PROTOCOL,peer:PEER,cipher:CIPHER,connectedAt:SINCE", "live device connections",
	  "holdfast-hub clients list", 0, NULL },
	{ "clients disconnect", "clients.disconnect", ident_args, NULL, "close one identity's connection",
	  "holdfast-hub clients disconnect -d dev0", 0, NULL },
	{ "fault add", "fault.add", fault_add_args, NULL, "let operations fail on purpose",
	  "holdfast-hub fault add --on telemetry --action ack-late=2000 --device edge1 --rate 10", 0, NULL },
	{ "fault list", "fault.list", NULL, "id:ID,on:ON,action:ACTION,device:DEVICE,rate:RATE,count:LEFT,hits:HITS",
	  "the fault rules and how often they hit", "holdfast-hub fault list", 0, NULL },
	{ "fault clear", "fault.clear", fault_clear_args, NULL, "remove one fault rule or all", "holdfast-hub fault clear 1", 0, NULL },
	{ "policy show", "policy.show", policy_args, NULL, "a shared access policy: keys, connection strings for the hub and for Event Hubs clients",
	  "holdfast-hub policy show --pn service", 0, NULL },
	{ "portal key", "portal.key", portal_args, NULL, "the portal's address and the key that signs in once",
	  "holdfast-hub portal key", 0, NULL },
	{ "connection-string", NULL, connection_args, NULL, "print what a client logs in with, for scripts",
	  "holdfast-hub connection-string -d dev0", 0, hub_cli_connection_string },
	{ "token", NULL, token_args, NULL, "print a shared access signature token", "holdfast-hub token -d dev0 --duration 600", 0,
	  hub_cli_token },
	{ "counters", "counters", NULL, NULL, "all counters", "holdfast-hub counters --json", 0, NULL },
	{ "log level", "log.level", level_args, NULL, "show or set the log level", "holdfast-hub log level debug", 0, NULL },
	{ 0 },
};

struct hf_cli hub_cli(int (*serve)(const struct hf_cli *cli, const json_t *args))
{
	for (struct hf_cli_cmd *c = commands; c->words; c++)
		if (strcmp(c->words, "serve") == 0)
			c->run = serve;
	return (struct hf_cli){
		.tool = "holdfast-hub",
		.about = "An IoT Hub emulator: the cloud end for people who develop, demo and test without a cloud.\n"
			 "`serve` runs it; every other command talks to a running one over its control socket.",
		.socket_env = "HOLDFAST_HUB_SOCKET",
		.socket_default = "/run/holdfast/hub.sock",
		.cmds = commands,
	};
}
