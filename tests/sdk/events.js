// SPDX-License-Identifier: GPL-3.0-or-later
// The official Event Hubs SDK, unmodified, reading the hub's telemetry; driven by JSON lines, answers with JSON lines.
//
//   node events.js amqp|amqp-ws HUB.json
//
// The server's CA comes in NODE_EXTRA_CA_CERTS, SDKs are found through NODE_PATH.
'use strict';
const fs = require('fs');
const readline = require('readline');
const {EventHubConsumerClient} = require('@azure/event-hubs');

const [transport, hub] = process.argv.slice(2);
const connectionString = JSON.parse(fs.readFileSync(hub)).eventHubConnectionString;
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const running = new Map();	// name -> {client, subscription}

const waiting = [];	// handlers that hold the reader up until 'go'
let free = false;

const client = (group) => new EventHubConsumerClient(group || '$Default', connectionString, {
	loadBalancingOptions: {strategy: 'greedy', updateIntervalInMs: 500},
	webSocketOptions: transport === 'amqp-ws' ? {webSocket: require('ws')} : undefined,
	retryOptions: {maxRetries: 30, retryDelayInMs: 100, timeoutInMs: 10000},
});

const plain = (e) => ({sequenceNumber: e.sequenceNumber, offset: e.offset, enqueued: e.enqueuedTimeUtc.getTime(), body: e.body,
	messageId: e.messageId, correlationId: e.correlationId, contentType: e.contentType, properties: e.properties || {},
	system: e.systemProperties});
// For long backlogs: what tells order and completeness.
const brief = (e) => [e.sequenceNumber, e.systemProperties['iothub-connection-device-id'], e.body.n];

async function once(fn) {
	const c = client();
	try {
		return await fn(c);
	} finally {
		await c.close();
	}
}

const commands = {
	hub: (c) => once(async (hub) => ({event: 'hub', ids: await hub.getPartitionIds(), ...await hub.getEventHubProperties(c.options)})),
	partition: (c) => once(async (hub) => ({event: 'partition', ...await hub.getPartitionProperties(c.id)})),
	// Without a partition: all of them, as the SDK shares them out.
	subscribe: async (c) => {
		const reader = client(c.group), handlers = {
			processEvents: async (events, context) => {
				if (events.length) say({event: 'events', name: c.name, partition: context.partitionId, last: context.lastEnqueuedEventProperties,
					events: events.map(c.brief ? brief : plain)});
				if (c.hold && events.length && !free) await new Promise((go) => waiting.push(go));
			},
			processError: async (e, context) => say({event: 'problem', name: c.name, partition: context.partitionId, code: e.code, message: e.message}),
		};
		const options = {startPosition: c.position, ownerLevel: c.ownerLevel, maxBatchSize: c.batch || 100, maxWaitTimeInSeconds: 1,
			trackLastEnqueuedEventProperties: c.track};
		const subscription = c.partition === undefined ? reader.subscribe(handlers, options) :
			reader.subscribe(c.partition, handlers, options);
		running.set(c.name, {reader, subscription});
		return {event: 'subscribed', name: c.name};
	},
	go: async () => {
		free = true;
		waiting.forEach((go) => go());
		return {event: 'going'};
	},
	unsubscribe: async (c) => {
		const {reader, subscription} = running.get(c.name);
		running.delete(c.name);
		await subscription.close();
		await reader.close();
		return {event: 'unsubscribed', name: c.name};
	},
};

readline.createInterface({input: process.stdin}).on('line', async (line) => {
	if (line === 'quit') return;	// the end of input follows
	const cmd = JSON.parse(line);
	try {
		say(await commands[cmd.cmd](cmd));
	} catch (e) {
		say({event: 'failed', cmd: cmd.cmd, message: String(e.message), name: e.name, code: e.code});
	}
}).on('close', async () => {
	for (const name of [...running.keys()]) await commands.unsubscribe({name});
	process.exit(0);
});
