// SPDX-License-Identifier: GPL-3.0-or-later
// The official Node service SDK, unmodified, call by call: each input line is [object, method, argument...], each answer
// {ok, result} or {ok, error, message, status, body}.
//
//   node registry.js hub.json
//
// Objects: registry, client (methods), jobs, and some of ours: ["callback", object, method, argument...] uses the callback form,
// which removing a module by its document needs; ["query", sql, page size] and ["jobquery", type, status, page
// size] walk all pages and give {rows, pages}; ["twin", method, device, module or null, argument...] calls a Twin object.
// An argument {"$date": text} becomes a Date. The server's CA comes in NODE_EXTRA_CA_CERTS, SDKs are found through NODE_PATH.
'use strict';
const fs = require('fs');
const readline = require('readline');
const {Registry, Client, JobClient} = require('azure-iothub');

const connectionString = JSON.parse(fs.readFileSync(process.argv[2])).serviceConnectionString;
const objects = {
	registry: Registry.fromConnectionString(connectionString),
	client: Client.fromConnectionString(connectionString),
	jobs: JobClient.fromConnectionString(connectionString),
};
const argument = (a) => a && a.$date ? new Date(a.$date) : a;

// Results come as {responseBody}, {jobStatus}, {result}, {device} or themselves; twins know their registry, which is not JSON.
function body(r) {
	if (r && typeof r === 'object') {
		for (const name of ['responseBody', 'jobStatus', 'result', 'device']) if (r[name] !== undefined) return body(r[name]);
	}
	return r === undefined ? null : JSON.parse(JSON.stringify(r, (k, v) => k === '_registry' ? undefined : v));
}

// The promise form of next() starts anew unless it is given the token.
async function pages(query) {
	const rows = [];
	let n = 0;
	for (; query.hasMoreResults; n++) rows.push(...(await query.next(query.continuationToken)).result);
	return {rows: body(rows), pages: n};
}

const ours = {
	callback: (object, method, ...args) => new Promise((ok, no) =>
		objects[object][method](...args.map(argument), (e, r) => e ? no(e) : ok(r))),
	query: (sql, size) => pages(objects.registry.createQuery(sql, size)),
	jobquery: (type, status, size) => pages(objects.jobs.createQuery(type, status, size)),
	twin: async (method, device, module, ...args) => {
		const get = module ? objects.registry.getModuleTwin(device, module) : objects.registry.getTwin(device);
		const twin = (await get).responseBody;
		await twin[method](...args);
		return twin;
	},
};

async function answer(line) {
	const [object, method, ...args] = JSON.parse(line);
	try {
		const r = ours[object] ? ours[object](method, ...args) : objects[object][method](...args.map(argument));
		return {ok: true, result: body(await r)};
	} catch (e) {
		return {ok: false, error: e.name, message: e.message, status: e.response && e.response.statusCode, body: e.responseBody};
	}
}

let last = Promise.resolve();
readline.createInterface({input: process.stdin})
	.on('line', (line) => { last = last.then(async () => process.stdout.write(JSON.stringify(await answer(line)) + '\n')); })
	.on('close', () => last.then(() => process.exit(0)));
