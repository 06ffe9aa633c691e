// SPDX-License-Identifier: GPL-3.0-or-later
// The official Node service SDK over AMQP, unmodified: messages to devices, feedback, file notifications. Driven by JSON
// lines, answers with JSON lines.
//
//   node messages.js amqp|amqp-ws HUB.json
//
// HOLDFAST_SERVICE: connection string instead of the one in HUB.json. The server's CA comes in NODE_EXTRA_CA_CERTS, SDKs are
// found through NODE_PATH.
'use strict';
const fs = require('fs');
const readline = require('readline');
const {Client, Amqp, AmqpWs} = require('azure-iothub');
const {Message} = require('azure-iot-common');

const [transport, hub] = process.argv.slice(2);
const connectionString = process.env.HOLDFAST_SERVICE || JSON.parse(fs.readFileSync(hub)).serviceConnectionString;
const client = Client.fromConnectionString(connectionString, transport === 'amqp-ws' ? AmqpWs : Amqp);
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const waiting = {};	// receiver -> messages that are not settled yet
const receivers = {};

function message(c) {
	const m = new Message(c.size ? Buffer.alloc(c.size, 'x') : c.body || '');
	for (const [k, v] of Object.entries(c.properties || {})) m.properties.add(k, v);
	for (const k of ['messageId', 'correlationId', 'ack', 'expiryTimeUtc', 'contentType', 'contentEncoding', 'userId']) if (c[k]) m[k] = c[k];
	return m;
}

// The callback forms: the promises resolve to a wrapper.
const receiver = (kind) => new Promise((ok, no) => client[kind === 'files' ? 'getFileNotificationReceiver' : 'getFeedbackReceiver'](
	(e, r) => e ? no(e) : ok(r)));

const commands = {
	open: async () => { await client.open(); return {event: 'open'}; },
	send: async (c) => { await client.send(c.device, message(c)); return {event: 'sent'}; },
	receive: async (c) => {
		const r = receivers[c.kind] = await receiver(c.kind);
		waiting[c.kind] = [];
		r.on('message', (m) => {
			waiting[c.kind].push(m);
			say({event: 'received', kind: c.kind, body: JSON.parse(m.data), contentType: m.contentType});
		});
		r.on('errorReceived', (e) => say({event: 'problem', kind: c.kind, message: String(e && e.message)}));
		return {event: 'receiving', kind: c.kind};
	},
	settle: async (c) => {
		const m = waiting[c.kind].shift();
		await new Promise((ok, no) => receivers[c.kind][c.how](m, (e) => e ? no(e) : ok()));
		return {event: 'settled', kind: c.kind};
	},
	close: async () => { await client.close(); return {event: 'closed'}; },
};

readline.createInterface({input: process.stdin}).on('line', async (line) => {
	if (line === 'quit') return;	// the end of input follows
	const cmd = JSON.parse(line);
	try {
		say(await commands[cmd.cmd](cmd));
	} catch (e) {
		// The service transport wraps some errors of the AMQP base in plain ones.
		say({event: 'failed', cmd: cmd.cmd, message: String(e.message), name: e.name === 'Error' && e.amqpError ? e.amqpError.name : e.name});
	}
}).on('close', () => client.close(() => process.exit(0)));
