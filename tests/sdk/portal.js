// SPDX-License-Identifier: GPL-3.0-or-later
// The portal in headless Chromium, as a person uses it. Reads one JSON command a line, {"cmd": name, ...}, and answers
// {"event": "done", ...} or {"event": "failed", "message"}. argv: the portal's address, the folder for screenshots.
'use strict';
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const {chromium} = require('playwright-core');
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const [url, shots] = process.argv.slice(2);
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
	'--disable-component-update', '--disable-sync'];
const DESKTOP = {width: 1280, height: 900}, PHONE = {width: 390, height: 844};
const WAIT = 30000;
let browser, page, complaints = [], unanswered = [];

const button = (name) => page.getByRole('button', {name, exact: true});
const field = (label) => page.getByLabel(label, {exact: true});
const heading = (name) => page.getByRole('heading', {level: 1, name, exact: true});
const part = (title) => page.locator('section', {has: page.getByRole('heading', {level: 2, name: title, exact: true})});

async function fresh(options = {}) {
	const context = await browser.newContext({ignoreHTTPSErrors: true, viewport: DESKTOP, reducedMotion: 'reduce', ...options});

	page = await context.newPage();
	page.setDefaultTimeout(WAIT);
	page.on('pageerror', (e) => complaints.push(`page error: ${e.message}`));
	page.on('console', (m) => {
		if (/Content Security Policy|Trusted ?Type/i.test(m.text()))
			complaints.push(m.text());
	});
	page.on('requestfailed', (r) => unanswered.push(`${r.method()} ${r.url()}: ${r.failure().errorText}`));
	page.on('dialog', (d) => { complaints.push(`dialog: ${d.message()}`); d.dismiss(); });
}

// A page by its address within the portal; ready once it replaced the one before and nothing is loading any more.
async function open(hash, title) {
	const target = `${url}#${hash}`;

	if (page.url() === target) {
		await page.reload();
	} else {
		await page.evaluate(() => document.querySelector('main')?.firstElementChild?.setAttribute('data-old', ''));
		await page.goto(target);
		await page.waitForFunction(() => !document.querySelector('[data-old]'));
	}
	if (title)
		await heading(title).waitFor();
	await settled();
}

async function settled() {
	await page.waitForFunction(() => !document.querySelector('[aria-busy="true"], .loading'));
}

async function noticed(text) {
	const box = page.locator('.notice', {hasText: text}).last();

	await box.waitFor();
	await box.getByRole('button').click();
}

async function axe(where) {
	await page.evaluate(AXE);
	const {violations} = await page.evaluate(() => axe.run(document, {resultTypes: ['violations']}));
	const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact));

	assert.deepStrictEqual(serious.map((v) => `${where}: ${v.id}: ${v.nodes.map((n) => n.target).join(' ')}`), []);
}

async function shot(name) {
	await page.screenshot({path: path.join(shots, `${name}.png`), fullPage: true});
}

async function fitsPhone(name) {
	await page.setViewportSize(PHONE);
	const wide = await page.evaluate(() => {
		const limit = document.documentElement.clientWidth;

		const over = [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > limit + 1);

		return {scroll: document.documentElement.scrollWidth - limit, by: over.slice(0, 5).map((e) => `${e.tagName}.${e.className}`)};
	});
	assert(wide.scroll <= 0, `${name} is ${wide.scroll} px too wide at 390: ${wide.by.join(' ')}`);
}

// axe (what it sees does not depend on the width), 390 pixels without sideways scrolling, screenshots of both widths.
async function audit(name) {
	await settled();
	await page.setViewportSize(DESKTOP);
	await axe(name);
	await shot(name);
	await fitsPhone(name);
	await shot(`${name}-390`);
	await page.setViewportSize(DESKTOP);
}

// A call as the pages make it, but not by them: somebody else's change.
function behindItsBack(method, path, body) {
	return page.evaluate(async ([m, p, b]) => {
		const {csrfToken} = await (await fetch('api/session')).json();
		const headers = {'X-CSRF-Token': csrfToken, 'If-Match': '*', 'Content-Type': 'application/json'};
		const answer = await fetch(`api/${p}`, {method: m, headers, body: b && JSON.stringify(b)});

		return {status: answer.status, doc: answer.status === 200 && p !== 'live' ? await answer.json() : null};
	}, [method, path, body]);
}

async function signin(credential) {
	await page.goto(url);
	await field('Service connection string or portal key').fill(credential);
	await button('Sign in').click();
	await heading('Overview').waitFor();
}

async function tick(section, search, ids) {
	await section.getByLabel('Search').fill(search);
	for (const id of ids)
		await section.getByLabel(`Choose ${id}`, {exact: true}).check();
}

// The focus goes forward until it stands on `locator`: as somebody without a mouse gets there.
async function tabTo(locator, limit = 60) {
	for (let i = 0; i < limit; i++) {
		if (await locator.evaluate((e) => e === document.activeElement).catch(() => false))
			return;
		await page.keyboard.press('Tab');
	}
	throw new Error(`${limit} times Tab do not lead to ${locator}`);
}

const commands = {
	async start() {
		browser = await chromium.launch({executablePath: '/usr/bin/chromium', args: ARGS});
		await fresh();
	},

	async wrongKeys({credentials}) {
		await page.goto(url);
		await settled();
		await audit('sign-in');
		const texts = [];

		for (const credential of credentials) {
			await field('Service connection string or portal key').fill(credential);
			await Promise.all([page.waitForResponse((r) => r.url().endsWith('/login')), button('Sign in').click()]);
			texts.push(await page.locator('form .alert.bad').textContent());
		}
		await shot('sign-in-refused');
		assert.equal(await heading('Overview').count(), 0);
		return {texts};
	},

	async signin({credential}) {
		await signin(credential);
		return {cookies: await page.context().cookies()};
	},

	async signout() {
		await button('Sign out').click();
		await heading('Sign in to holdfast-hub').waitFor();
		await page.goto(`${url}#/devices`);
		await heading('Sign in to holdfast-hub').waitFor();
	},

	async remove({device, consequence}) {
		await open(`/devices/${device}`, device);
		await button('Delete this device').click();
		const dialog = page.getByRole('dialog');

		await dialog.getByText(consequence).waitFor();
		await axe('delete dialog');
		await shot('delete-dialog');
		await dialog.getByRole('button', {name: `Delete ${device}`}).click();
		await heading('Devices').waitFor();
	},

	async create({device, edge, auth, thumbprint, key}) {
		await open('/new-device', 'New device');
		if (edge)
			await audit('new-device');
		await field('Device id').fill(device);
		if (edge)
			await page.getByLabel(/^Edge device:/).check();
		if (auth)
			await field('Authentication').selectOption(auth);
		if (thumbprint)
			await field('Primary thumbprint').fill(thumbprint);
		if (key)
			await field('Primary key').fill(key);
		await button('Create').click();
		await heading(device).waitFor();
		await settled();
	},

	async createWrong() {
		await open('/new-device', 'New device');
		await button('Create').click();
		await page.getByText('Enter an id.').waitFor();
		await field('Device id').fill('a b');
		await button('Create').click();
		await page.getByText('An id has').waitFor();
		await field('Device id').fill('edge1');
		await field('Primary key').fill('short');
		await button('Create').click();
		await page.getByText('A key is base64 text').waitFor();
		await field('Primary key').fill('');
		await button('Create').click();
		await page.getByText('already').waitFor();
	},

	// From the parent's side.
	async addChildren({edge, search, devices, offered, notOffered}) {
		await open(`/devices/${edge}/children`, edge);
		const add = part('Add devices');

		await tick(add, search, devices);
		for (const id of offered)
			await add.getByLabel(`Choose ${id}`, {exact: true}).waitFor();
		for (const id of notOffered)
			assert.equal(await add.getByLabel(`Choose ${id}`, {exact: true}).count(), 0, `${id} is offered`);
		await add.getByRole('button', {name: `Add ${devices.length} to ${edge}`}).click();
		await noticed(`${devices.length} added to ${edge}.`);
		for (const id of devices)
			await part('Child devices').getByLabel(`Choose ${id}`, {exact: true}).waitFor();
		assert(await add.getByRole('button', {name: 'Add', exact: true}).isDisabled(), 'nothing is chosen any more');
		await audit('children');
	},

	async removeChildren({edge, devices}) {
		await open(`/devices/${edge}/children`, edge);
		await tick(part('Child devices'), '', devices);
		await part('Child devices').getByRole('button', {name: `Remove ${devices.length} from ${edge}`}).click();
		await noticed(`${devices.length} removed from ${edge}.`);
	},

	// From the child's side. parent null: taken away.
	async setParent({device, parent}) {
		await open(`/devices/${device}/parent`, device);
		if (parent) {
			await field('Search').fill(parent.slice(0, 3).toUpperCase());
			await page.getByLabel(`Choose ${parent}`, {exact: true}).check();
			await audit('parent');
			await button(`Set ${parent} as the parent`).click();
			await noticed(`${device} is now a child of ${parent}.`);
			await page.getByText(`${device} is a child of ${parent}.`).waitFor();
		} else {
			await button('Take the parent away').click();
			await page.getByText(`${device} has no parent:`).waitFor();
		}
	},

	async offeredParents({device}) {
		await open(`/devices/${device}/parent`, device);
		const labels = await page.locator('input[type=radio]').evaluateAll((all) => all.map((r) => r.getAttribute('aria-label')));

		return {parents: labels.map((l) => l.replace('Choose ', ''))};
	},

	// Without a mouse: from the list of devices to a new child.
	async keyboardAssign({edge, device}) {
		await open('/devices', 'Devices');
		await tabTo(page.locator('a.name', {hasText: edge}));
		await page.keyboard.press('Enter');
		await heading(edge).waitFor();
		await tabTo(page.getByRole('link', {name: 'Children', exact: true}));
		await page.keyboard.press('Enter');
		const add = part('Add devices');

		await add.waitFor();
		await settled();
		await tabTo(add.getByLabel('Search'));
		await page.keyboard.type(device);
		await add.getByText('1 to 1 of 1').waitFor();
		await tabTo(add.getByLabel(`Choose ${device}`, {exact: true}));
		await page.keyboard.press('Space');
		const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);

		assert.notEqual(ring, 'none', 'the focus cannot be seen');
		await tabTo(add.getByRole('button', {name: `Add 1 to ${edge}`}));
		await page.keyboard.press('Enter');
		await noticed(`1 added to ${edge}.`);
	},

	async listShows({search, show, ids}) {
		await open('/devices', 'Devices');
		if (show)
			await field('Show').selectOption(show);
		await field('Search').fill(search);
		await page.waitForFunction((want) => [...document.querySelectorAll('tbody .name')].map((a) => a.textContent).join() === want, ids.join());
		return {rows: await page.locator('tbody tr').allTextContents()};
	},

	async pages({first, second}) {
		await open('/devices', 'Devices');
		await page.getByRole('link', {name: first, exact: true}).waitFor();
		await button('Next').click();
		await page.getByRole('link', {name: second, exact: true}).waitFor();
		const label = await page.locator('.pager .quiet').textContent();

		await audit('devices');
		await button('Previous').click();
		await page.getByRole('link', {name: first, exact: true}).waitFor();
		return {label};
	},

	async disable({device, reason}) {
		await open(`/devices/${device}`, device);
		await field('Status').selectOption('disabled');
		await field('Reason').fill(reason);
		await button('Save').click();
		await noticed(`${device} is saved.`);
		await page.locator('.badges', {hasText: 'Disabled'}).waitFor();
	},

	// Somebody else changed the device meanwhile.
	async conflict({device, other}) {
		await open(`/devices/${device}`, device);
		const {doc} = await behindItsBack('GET', `devices/${device}`);

		await behindItsBack('PUT', `devices/${device}`, {...doc, statusReason: other});
		await field('Reason').fill('mine');
		await button('Save').click();
		await page.getByText('was changed by somebody else').waitFor();
		assert.equal(await field('Reason').inputValue(), 'mine');
		await button('Show the new state').click();
		await page.waitForFunction((want) => [...document.querySelectorAll('input')].some((i) => i.value === want), other);
	},

	async newKey({device}) {
		await open(`/devices/${device}`, device);
		const before = await field('Primary key').inputValue();

		await button('New primary key').click();
		await page.getByRole('dialog').getByRole('button', {name: 'Make a new primary key'}).click();
		await noticed(`${device} has a new primary key.`);
		const key = await field('Primary key').inputValue(), text = await field('Primary connection string').inputValue();

		assert.notEqual(key, before);
		assert(text.endsWith(`;DeviceId=${device};SharedAccessKey=${key}`), 'the connection string has the new key');
		await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
		await button('Copy Primary connection string').click();
		await noticed('copied');
		assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
		await audit('identity');
		return {connectionString: text};
	},

	async addModule({device, module}) {
		await open(`/devices/${device}/modules`, device);
		await field('Module id').fill(module);
		await button('Add module').click();
		await noticed(`${device}/${module} is registered.`);
		await audit('modules');
		await page.getByRole('link', {name: module, exact: true}).click();
		await heading(module).waitFor();
		await settled();
		await audit('module');
		await page.getByRole('link', {name: 'Twin', exact: true}).click();
		await field('Tags and desired properties').waitFor();
	},

	// text: what is typed; wrong: [typed, what is said] tried before.
	async twin({device, module, wrong = [], doc}) {
		await open(`/devices/${device}${module ? `/modules/${encodeURIComponent(module)}` : ''}/twin`, module || device);
		const editor = field('Tags and desired properties');

		await editor.waitFor();
		for (const [typed, message] of wrong) {
			await editor.fill(typed);
			await page.locator('.json-state.bad', {hasText: message}).waitFor();
			await button('Save').click();
			assert(await editor.evaluate((e) => e === document.activeElement), 'the focus goes to the mistake');
		}
		await editor.fill(JSON.stringify(doc));
		await button('Save').click();
		await noticed('is saved.');
		await audit('twin');
	},

	async twinConflict({device, theirs, mine}) {
		await open(`/devices/${device}/twin`, device);
		const editor = field('Tags and desired properties');

		await editor.waitFor();
		await behindItsBack('PATCH', `twins/${device}`, theirs);
		await editor.fill(JSON.stringify(mine));
		await button('Save').click();
		await page.getByText('The twin was changed by somebody else').waitFor();
		await audit('twin-conflict');
		await button('Replace it by my text').click();
		await noticed('is saved.');
	},

	async manifest({device, ttl, storage, binds, module, image, route}) {
		await open(`/devices/${device}/manifest`, device);
		await field('Time to live, seconds').fill('soon');
		await button('Apply to the device').click();
		await page.getByText('A whole number of seconds').waitFor();
		await field('Time to live, seconds').fill(String(ttl));
		for (const name of ['edgeHub', 'edgeAgent']) {
			await field(`storageFolder of ${name}`).fill(storage);
			await field(`Binds of ${name}`).fill(binds);
		}
		await button('Add a module').click();
		const card = page.locator('details.module[open]');

		await card.getByLabel('Name', {exact: true}).fill(module);
		await card.getByLabel('Image', {exact: true}).fill(image);
		await card.getByLabel('Restart policy').selectOption('on-failure');
		await card.getByRole('button', {name: 'Add a variable'}).click();
		await card.getByLabel('Variable name').fill('LEVEL');
		await card.getByLabel('Variable value').fill('debug');
		await card.getByLabel('createOptions').fill('{"HostConfig": {"Privileged": true}}');
		await button('Add a route').click();
		await page.getByLabel('Route name').last().fill(route[0]);
		await page.getByLabel('Route text').last().fill(route[1]);
		await button('Apply to the device').click();
		await noticed(`The manifest is applied to ${device}.`);
		await page.getByText('module1').waitFor({state: 'hidden'});
		await audit('manifest');
		await button('JSON').click();
		await field('Manifest').waitFor();
		await audit('manifest-json');
		return {text: await field('Manifest').inputValue()};
	},

	// Only the time to live changes, in the form; what the form does not show stays.
	async manifestTtl({device, ttl}) {
		await open(`/devices/${device}/manifest`, device);
		await field('Time to live, seconds').fill(String(ttl));
		await button('Apply to the device').click();
		await noticed(`The manifest is applied to ${device}.`);
	},

	async manifestDrop({device, module}) {
		await open(`/devices/${device}/manifest`, device);
		await page.locator('details.module', {hasText: module}).locator('summary').click();
		await page.locator('details.module[open]').getByRole('button', {name: 'Remove this module'}).click();
		await button('Apply to the device').click();
		await page.getByRole('dialog').getByText(module).waitFor();
		await page.getByRole('dialog').getByRole('button', {name: 'Apply'}).click();
		await noticed(`The manifest is applied to ${device}.`);
	},

	async telemetry({device}) {
		await open(`/telemetry${device ? `?device=${encodeURIComponent(device)}` : ''}`, 'Telemetry');
		await page.locator('main [role=status]', {hasText: 'Live'}).waitFor();
	},

	async sees({texts, absent = []}) {
		for (const text of texts)
			await page.locator('.event', {hasText: text}).first().waitFor();
		for (const text of absent)
			assert.equal(await page.locator('.event', {hasText: text}).count(), 0, `${text} is shown`);
		return {n: await page.locator('.event').count()};
	},

	async details({text, within}) {
		const event = page.locator('.event', {hasText: text}).first();

		await event.locator('summary').click();
		for (const w of within)
			await event.locator('.event-more', {hasText: w}).waitFor();
		await audit('telemetry');
	},

	async pause({on}) {
		await button(on ? 'Pause' : 'Go on').click();
		if (on)
			await page.locator('main [role=status]', {hasText: 'Paused'}).waitFor();
	},

	async paused({n}) {
		await page.locator('main [role=status]', {hasText: `${n} new`}).waitFor();
	},

	async method({device, name, payload}) {
		await open(`/devices/${device}/messages`, device);
		await field('Method').fill(name);
		await field('Payload (JSON)').fill(payload);
		await button('Call').click();
		const answer = part('Direct method').locator('.alert');

		await answer.waitFor();
		return {text: await answer.textContent()};
	},

	async c2d({device, body, property}) {
		await open(`/devices/${device}/messages`, device);
		await field('Body').fill(body);
		await button('Add a property').click();
		await page.getByLabel('Property name').fill(property[0]);
		await page.getByLabel('Property value').fill(property[1]);
		await button('Send').click();
		await page.getByText(`The message waits for ${device}`).waitFor();
		await audit('messages');
	},

	async cutOff({device, on}) {
		await open(`/devices/${device}`, device);
		const knob = page.getByRole('switch', {name: 'Connection allowed'});

		assert.equal(await knob.getAttribute('aria-checked'), String(on));
		await knob.click();
		await page.locator('.badges', {hasText: on ? 'Cut off' : 'connected'}).waitFor();
		await page.reload();	// the hub remembers
		await heading(device).waitFor();
		assert.equal(await knob.getAttribute('aria-checked'), String(!on));
		await page.locator('#banner', {hasText: '1 device cut off'}).waitFor({state: on ? 'visible' : 'hidden'});
		if (on)
			await audit('cut-off');
		await open(`/devices?search=${device}`, 'Devices');
		return {row: await page.locator('tbody tr').first().textContent()};
	},

	async faults({rules}) {
		await open('/faults', 'Faults');
		await page.locator('tbody tr').nth(rules - 1).waitFor();
		await audit('faults');
		await page.getByRole('button', {name: /^Remove rule/}).first().click();
		await page.waitForFunction((n) => document.querySelectorAll('tbody tr').length === n, rules - 1);
	},

	async overview() {
		await open('/', 'Overview');
		await page.locator('.figure-value', {hasText: '–'}).waitFor({state: 'hidden'});
		await audit('overview');
		return {
			figures: await page.locator('.figure').allTextContents(), facts: await page.locator('.facts').textContent(),
			logins: await page.locator('tbody tr').allTextContents(),
		};
	},

	// Each page with names and values that would be markup if anybody took them for it.
	async markup({device, module, text, pages}) {
		for (const p of pages) {
			await open(p);
			await page.getByText(text).first().waitFor();
			assert.equal(await page.locator('img:not([src="icon.svg"]), main script').count(), 0, `${p} has foreign markup`);
		}
		assert.equal(await page.evaluate(() => window.stolen), undefined);
		await open(`/devices/${encodeURIComponent(device)}/modules/${encodeURIComponent(module)}`, module);
	},

	// Long names too fit a phone.
	async narrow({pages}) {
		for (const p of pages) {
			await page.setViewportSize(DESKTOP);
			await open(p);
			await fitsPhone(p);
		}
		await shot('long-name-390');
		await page.setViewportSize(DESKTOP);
	},

	async dark() {
		const light = page, pages = [['overview', '/', 'Overview'], ['devices', '/devices', 'Devices'],
			['manifest', '/devices/edge1/manifest', 'edge1'], ['telemetry', '/telemetry', 'Telemetry']];

		await fresh({colorScheme: 'dark', storageState: await page.context().storageState()});
		for (const [name, hash, title] of pages) {
			await open(hash, title);
			await axe(`${name} in the dark`);
			await shot(`${name}-dark`);
		}
		await page.context().close();
		page = light;
	},

	// A policy that may only read the registry, in a window of its own.
	async readOnly({credential, device}) {
		const owner = page;

		await fresh();
		await signin(credential);
		await open('/devices', 'Devices');
		assert.equal(await page.getByText('New device').count(), 0);
		await open(`/devices/${device}`, device);
		assert(await field('Primary key').inputValue(), 'keys are readable');
		assert(await page.getByRole('switch').isDisabled() && await field('Status').isDisabled());
		assert.equal(await button('Save').count() + await button('Delete this device').count(), 0);
		await open(`/devices/${device}/twin`, device);
		await page.getByText('Your policy may not read twins').waitFor();
		const refused = {}, tries = [['DELETE', `devices/${device}`], ['PUT', `cutOff/${device}`], ['DELETE', 'faults'],
			['GET', `twins/${device}`], ['GET', 'live']];

		for (const [method, p] of tries)
			refused[`${method} ${p}`] = (await behindItsBack(method, p)).status;
		await audit('read-only');
		await page.context().close();
		page = owner;
		return {refused};
	},

	// The session ends while a page is open: what the page asks by itself, over and over, is no use of it.
	async expires({hash}) {
		await page.goto(`${url}#${hash}`);
		await heading('Sign in to holdfast-hub').waitFor();
	},
};

async function main() {
	fs.mkdirSync(shots, {recursive: true});
	for await (const line of readline.createInterface({input: process.stdin})) {
		if (line === 'quit')
			break;
		const {cmd, ...args} = JSON.parse(line);
		let answer;

		complaints = [];
		unanswered = [];
		try {
			answer = {event: 'done', ...await commands[cmd](args)};
			assert.deepStrictEqual(complaints, []);
		} catch (e) {
			answer = {event: 'failed', message: `${cmd}: ${e.message}`, complaints, unanswered};
			if (page)
				await page.screenshot({path: path.join(shots, `failed-${cmd}.png`), fullPage: true}).catch(() => {});
		}
		console.log(JSON.stringify(answer));
	}
	if (browser)
		await browser.close();
}

main();
