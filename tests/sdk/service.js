// SPDX-License-Identifier: GPL-3.0-or-later
// The official Node service SDK against the emulator: reads one JSON list of calls, prints one JSON line each.
//   [["create", {...}], ["get", id], ["list"], ["update", {...}], ["delete", id], ["twin", id],
//    ["desired", id, patch], ["modtwin", id, module], ["moddesired", id, module, patch], ["query", sql],
//    ["method", id, {...}], ["bulk", [...]]]
'use strict';
const fs = require('fs');
const {Registry, Client} = require('azure-iothub');

const connectionString = JSON.parse(fs.readFileSync(process.argv[2])).serviceConnectionString;
const registry = Registry.fromConnectionString(connectionString);
const service = Client.fromConnectionString(connectionString);
const body = (r) => JSON.parse(JSON.stringify(r && r.responseBody !== undefined ? r.responseBody : r));

const calls = {
	create: async (d) => body(await registry.create(d)),
	get: async (id) => body(await registry.get(id)),
	list: async () => body(await registry.list()),
	update: async (d) => body(await registry.update(d)),
	delete: async (id) => { await registry.delete(id); return null; },
	bulk: async (list) => body(await registry.addDevices(list)),
	twin: async (id) => { const t = (await registry.getTwin(id)).responseBody; return {etag: t.etag, properties: plainTwin(t), tags: t.tags}; },
	desired: async (id, patch) => body(await registry.updateTwin(id, {properties: {desired: patch}}, '*')).version,
	modtwin: async (id, m) => { const t = (await registry.getModuleTwin(id, m)).responseBody; return {etag: t.etag, properties: plainTwin(t)}; },
	moddesired: async (id, m, patch) => body(await registry.updateModuleTwin(id, m, {properties: {desired: patch}}, '*')).version,
	query: async (sql) => {
		const q = registry.createQuery(sql, 100), rows = [];
		while (q.hasMoreResults) rows.push(...(await q.next()).result);
		return JSON.parse(JSON.stringify(rows));
	},
	method: async (id, params) => body((await service.invokeDeviceMethod(id, params)).result),
};
const plainTwin = (t) => JSON.parse(JSON.stringify({desired: t.properties.desired, reported: t.properties.reported}));

(async () => {
	for (const [name, ...args] of JSON.parse(fs.readFileSync(0))) {
		try {
			console.log(JSON.stringify({ok: true, result: (await calls[name](...args)) ?? null}));
		} catch (e) {
			console.log(JSON.stringify({ok: false, error: e.name, message: e.message}));
		}
	}
	process.exit(0);
})();
