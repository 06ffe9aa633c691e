// SPDX-License-Identifier: GPL-3.0-or-later
// A child that runs the official Node device SDK over MQTT, unmodified.
//
//   node child.js telemetry ACKLOG RATE WINDOW   sends {"c","n"} until 'quit' on stdin; logs each acknowledgement
//   node child.js device                         twin, methods, telemetry on request: JSON lines both ways
//
// The connection string is in HOLDFAST_CHILD; SDKs are found through NODE_PATH.
'use strict';
const fs = require('fs');
const readline = require('readline');
const {Client, Message} = require('azure-iot-device');
const {Mqtt} = require('azure-iot-device-mqtt');

const connectionString = process.env.HOLDFAST_CHILD;
const id = /DeviceId=([^;]*)/.exec(connectionString)[1];
const client = Client.fromConnectionString(connectionString, Mqtt);
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
client.on('error', (e) => say({event: 'error', message: String(e && e.message)}));

function firstCounter(path, window) {
	// Beyond everything a former run may have handed in.
	let max = -1;
	try {
		for (const line of fs.readFileSync(path, 'ascii').split('\n')) {
			const [child, n] = line.split(' ');
			if (child === id && n !== undefined) max = Math.max(max, Number(n));
		}
	} catch (e) {
		if (e.code !== 'ENOENT') throw e;
	}
	return max < 0 ? 0 : max + window + 1;
}

async function telemetry(path, rate, window) {
	const log = fs.openSync(path, 'a');
	let next = firstCounter(path, window), acked = 0, quitting = false, paused = false, failed = 0;
	const waiting = [];	// counters not acknowledged yet, oldest first
	const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
	readline.createInterface({input: process.stdin}).on('line', (line) => {
		if (line === 'quit') quitting = true;
		if (line === 'pause') paused = true;
		if (line === 'resume') paused = false;
	}).on('close', () => { quitting = true; });
	for (;;) {
		try {
			await client.open();
			break;
		} catch (e) {
			say({event: 'open-failed', message: String(e.message)});
			await sleep(200);
		}
	}
	say({event: 'open'});
	while (!quitting) {
		await sleep(1000 / rate);
		if (paused || quitting) continue;
		// One window after the other; what failed goes again in order before anything new.
		while (waiting.length < window) waiting.push(next++);
		const results = await Promise.allSettled(waiting.map((n) => client.sendEvent(
			new Message(JSON.stringify({c: id, n})))));
		for (const r of results) {
			if (r.status !== 'fulfilled') { failed++; break; }
			fs.writeSync(log, `${id} ${waiting.shift()}\n`);
			acked++;
		}
		say({event: 'acked', acked, unacked: waiting.length, failed});
	}
	say({event: 'end', acked, unacked: waiting.length, failed});
	await client.close();
	process.exit(0);
}

async function device() {
	await client.open();
	say({event: 'open'});
	let twin = null;
	readline.createInterface({input: process.stdin}).on('line', async (line) => {
		if (line === 'quit') return;	// the end of input follows
		const cmd = JSON.parse(line);
		try {
			if (cmd.cmd === 'send') {
				const m = new Message(cmd.body);
				for (const [k, v] of Object.entries(cmd.properties || {})) m.properties.add(k, v);
				if (cmd.contentType) m.contentType = cmd.contentType;
				if (cmd.messageId) m.messageId = cmd.messageId;
				await client.sendEvent(m);
				say({event: 'sent', id: cmd.id});
			} else if (cmd.cmd === 'twin') {
				twin = await client.getTwin();
				twin.removeAllListeners('properties.desired');
				twin.on('properties.desired', (patch) => say({event: 'desired', patch}));
				say({event: 'twin', desired: twin.properties.desired, reported: plain(twin.properties.reported)});
			} else if (cmd.cmd === 'report') {
				await new Promise((ok, no) => twin.properties.reported.update(
					cmd.patch, (e) => e ? no(e) : ok()));
				say({event: 'reported'});
			} else if (cmd.cmd === 'method') {
				client.onDeviceMethod(cmd.name, (request, response) => {
					say({event: 'called', name: request.methodName, payload: request.payload});
					response.send(cmd.status, {echo: request.payload}, () => {});
				});
				say({event: 'method', name: cmd.name});
			} else if (cmd.cmd === 'c2d') {
				client.on('message', (m) => {
					say({event: 'c2d', body: m.getData().toString()});
					client.complete(m, () => {});
				});
				say({event: 'listening'});
			}
		} catch (e) {
			say({event: 'failed', cmd: cmd.cmd, message: String(e.message), name: e.name});
		}
	}).on('close', () => client.close(() => process.exit(0)));
}

const plain = (o) => JSON.parse(JSON.stringify(o));
const [mode, ...args] = process.argv.slice(2);
if (mode === 'telemetry') {
	telemetry(args[0], Number(args[1]), Number(args[2])).catch((e) => { console.error(e); process.exit(1); });
} else if (mode === 'device') {
	device().catch((e) => { say({event: 'failed', cmd: 'open', message: String(e.message), name: e.name}); process.exit(1); });
} else {
	console.error('usage: child.js telemetry ACKLOG RATE WINDOW | device');
	process.exit(2);
}
