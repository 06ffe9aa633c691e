// SPDX-License-Identifier: GPL-3.0-or-later
// The official Node device SDK, unmodified, over any of its transports; driven by JSON lines, answers with JSON lines.
//
//   node device.js mqtt|mqtt-ws|amqp|amqp-ws|http [module]
//
// HOLDFAST_CHILD: connection string, or a token; empty: it is the first line after {"event": "ready"}. HOLDFAST_CERT, HOLDFAST_KEY: PEM files, for a string with x509=true.
// HOLDFAST_MODEL: model id. The server's CA comes in NODE_EXTRA_CA_CERTS, SDKs are found through NODE_PATH.
'use strict';
const fs = require('fs');
const readline = require('readline');
const {Client, ModuleClient, Message} = require('azure-iot-device');

const transports = {
	'mqtt': () => require('azure-iot-device-mqtt').Mqtt,
	'mqtt-ws': () => require('azure-iot-device-mqtt').MqttWs,
	'amqp': () => require('azure-iot-device-amqp').Amqp,
	'amqp-ws': () => require('azure-iot-device-amqp').AmqpWs,
	'http': () => require('azure-iot-device-http').Http,
};
const [transport, kind] = process.argv.slice(2);
const env = process.env;
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const plain = (o) => JSON.parse(JSON.stringify(o));
const factory = kind === 'module' ? ModuleClient : Client;
const Transport = transports[transport]();
const who = env.HOLDFAST_CHILD || firstLine();
const make = who.startsWith('SharedAccessSignature ') ? factory.fromSharedAccessSignature : factory.fromConnectionString;
const client = make(who, Transport);
const waiting = [];	// C2D messages that are not settled yet
let twin = null;

// For tokens that end soon: their time is not spent on the start of this program.
function firstLine() {
	const byte = Buffer.alloc(1);
	let line = '';

	say({event: 'ready'});
	while (fs.readSync(0, byte, 0, 1) === 1 && byte[0] !== 10) line += byte;
	return line;
}

client.on('error', (e) => say({event: 'error', message: String(e && e.message), name: e && e.name}));
client.on('disconnect', () => say({event: 'disconnect'}));

function message(cmd) {
	const m = new Message(cmd.body);
	for (const [k, v] of Object.entries(cmd.properties || {})) m.properties.add(k, v);
	for (const k of ['contentType', 'contentEncoding', 'messageId', 'correlationId', 'userId']) if (cmd[k]) m[k] = cmd[k];
	return m;
}

const received = (m) => ({body: m.getData().toString(), messageId: m.messageId, correlationId: m.correlationId, to: m.to,
	ack: m.ack, properties: m.properties.propertyList.map((p) => [p.key, p.value])});

const commands = {
	send: async (c) => { await client.sendEvent(message(c)); return {event: 'sent'}; },
	batch: async (c) => { await client.sendEventBatch(c.bodies.map((body) => message({...c, body}))); return {event: 'sent'}; },
	output: async (c) => { await client.sendOutputEvent(c.output, message(c)); return {event: 'sent'}; },
	outputs: async (c) => { await client.sendOutputEventBatch(c.output, c.bodies.map((body) => message({...c, body}))); return {event: 'sent'}; },
	twin: async () => {
		twin = await client.getTwin();
		twin.removeAllListeners('properties.desired');
		twin.on('properties.desired', (patch) => say({event: 'desired', patch}));
		await client.getTwin();	// its answer comes after the subscription that the line above asked for
		return {event: 'twin', desired: twin.properties.desired, reported: plain(twin.properties.reported)};
	},
	report: async (c) => {
		await new Promise((ok, no) => twin.properties.reported.update(c.patch, (e) => e ? no(e) : ok()));
		return {event: 'reported'};
	},
	method: async (c) => {
		const handler = (request, response) => {
			say({event: 'called', name: request.methodName, payload: request.payload});
			response.send(c.status, {echo: request.payload}, () => {});
		};
		if (kind === 'module') client.onMethod(c.name, handler);
		else client.onDeviceMethod(c.name, handler);
		return {event: 'method'};
	},
	listen: async () => {
		client.on('message', (m) => { waiting.push(m); say({event: 'c2d', ...received(m)}); });
		return {event: 'listening'};
	},
	inputs: async () => {
		client.on('inputMessage', (input, m) => say({event: 'input', input, ...received(m)}));
		return {event: 'listening'};
	},
	deaf: async () => { client.removeAllListeners('message'); return {event: 'deaf'}; },
	settle: async (c) => {
		const m = waiting.shift();
		await client[c.how](m);
		return {event: 'settled', how: c.how};
	},
	invoke: async (c) => ({event: 'invoked', answer: await client.invokeMethod(c.device, c.params)}),
	renew: async (c) => { await client.updateSharedAccessSignature(c.sas); return {event: 'renewed'}; },
	upload: async (c) => {
		await client.uploadToBlob(c.name, fs.createReadStream(c.file), fs.statSync(c.file).size);
		return {event: 'uploaded'};
	},
	option: async (c) => { await client.setOptions(c.options); return {event: 'option'}; },
};

async function main() {
	if (env.HOLDFAST_CERT) {
		const pem = {cert: fs.readFileSync(env.HOLDFAST_CERT, 'ascii'), key: fs.readFileSync(env.HOLDFAST_KEY, 'ascii')};
		// Over HTTP the promise of setOptions never settles unless a receive policy is among the options.
		await client.setOptions(transport === 'http' ? {...pem, http: {receivePolicy: {manualPolling: true}}} : pem);
	}
	if (env.HOLDFAST_MODEL) await client.setOptions({modelId: env.HOLDFAST_MODEL});
	await client.open();
	say({event: 'open'});
	readline.createInterface({input: process.stdin}).on('line', async (line) => {
		if (line === 'quit') return;	// the end of input follows
		const cmd = JSON.parse(line);
		try {
			say(await commands[cmd.cmd](cmd));
		} catch (e) {
			say({event: 'failed', cmd: cmd.cmd, message: String(e.message), name: e.name});
		}
	}).on('close', () => client.close(() => process.exit(0)));
}
main().catch((e) => { say({event: 'failed', cmd: 'open', message: String(e.message), name: e.name}); process.exit(1); });
