// SPDX-License-Identifier: GPL-3.0-or-later
// A deployment manifest as data: what the form shows is read and written in place, everything else stays as it is.
import {isObject, parseJson} from "./json.js";

const DESIRED = "properties.desired";
const SPLIT = 512;	// how tools cut long createOptions
export const SYSTEM = {edgeAgent: "$edgeAgent", edgeHub: "$edgeHub"};

export const clone = (v) => structuredClone(v);

const container = (more) => ({type: "docker", ...more, settings: {image: "", createOptions: "{}"}, env: {}});

export const freshModule = () => container({version: "1.0", status: "running", restartPolicy: "always"});

// A manifest for a device that has none.
export function freshContent() {
	return {
		$edgeAgent: {[DESIRED]: {
			schemaVersion: "1.1",
			runtime: {type: "docker", settings: {minDockerVersion: "v1.25", loggingOptions: "", registryCredentials: {}}},
			systemModules: {
				edgeAgent: container(),
				edgeHub: container({status: "running", restartPolicy: "always", startupOrder: 0}),
			},
			modules: {},
		}},
		$edgeHub: {[DESIRED]: {
			schemaVersion: "1.1",
			routes: {upstream: "FROM /messages/* INTO $upstream"},
			storeAndForwardConfiguration: {timeToLiveSecs: 7200},
		}},
	};
}

// Objects on the way to `path` are made where they are missing.
function below(o, ...path) {
	for (const step of path) {
		if (!isObject(o[step]))
			o[step] = {};
		o = o[step];
	}
	return o;
}

export const agent = (content) => below(content, "$edgeAgent", DESIRED);
export const hub = (content) => below(content, "$edgeHub", DESIRED);
export const systemModule = (content, name) => below(agent(content), "systemModules", name);
export const modules = (content) => below(agent(content), "modules");
export const routes = (content) => below(hub(content), "routes");

// "": the member goes.
export function setMember(module, name, value) {
	if (value)
		module[name] = value;
	else
		delete module[name];
}

// What is wrong with the whole, or null.
export function contentProblem(content) {
	if (!isObject(content))
		return "The manifest has a member modulesContent, an object.";
	for (const [name, part] of Object.entries(content)) {
		if (!isObject(part))
			return `The content of ${name} is an object.`;
		for (const key of Object.keys(part))
			if (key !== DESIRED && !key.startsWith(`${DESIRED}.`))
				return `${name}: "${key}" is neither ${DESIRED} nor a path below it.`;
	}
	return null;
}

// --- time to live ----------------------------------------------------------------------------------------------------

export const ttl = (content) => hub(content).storeAndForwardConfiguration?.timeToLiveSecs;

export function setTtl(content, seconds) {
	below(hub(content), "storeAndForwardConfiguration").timeToLiveSecs = seconds;
}

// --- environment -----------------------------------------------------------------------------------------------------

// Names are compared without regard to case, as modules read them.
export const envName = (module, name) => Object.keys(module.env || {}).find((k) => k.toLowerCase() === name.toLowerCase());
const envText = (entry) => {
	const v = isObject(entry) ? entry.value : entry;

	return v === undefined || v === null ? "" : String(v);
};

export function env(module, name) {
	const key = envName(module, name);

	return key ? envText(module.env[key]) : "";
}

export function setEnv(module, name, value) {
	const key = envName(module, name) || name;

	if (!value) {
		if (module.env)
			delete module.env[key];
		return;
	}
	below(module, "env")[key] = {...isObject(module.env[key]) ? module.env[key] : {}, value};
}

// [[name, text]] for the form, and back: what was not touched keeps its type and its other members.
export const envRows = (module, except) => Object.entries(module.env || {}).filter(([k]) => k.toLowerCase() !== except).map(([k, v]) => [k, envText(v)]);

export function setEnvRows(module, rows, except) {
	const before = module.env || {}, kept = Object.entries(before).filter(([k]) => k.toLowerCase() === except);
	const changed = (name, value) => ({...isObject(before[name]) ? before[name] : {}, value});
	const next = rows.map(([name, value]) =>
		[name, Object.hasOwn(before, name) && envText(before[name]) === value ? before[name] : changed(name, value)]);

	if (module.env || next.length)
		module.env = Object.fromEntries([...kept, ...next]);
}

// --- createOptions: JSON in a text, which may be cut into createOptions, createOptions01, ... --------------------------

const pieces = (settings) => Object.keys(settings).filter((k) => /^createOptions\d\d$/.test(k)).sort();

export function createOptionsText(module) {
	const settings = module.settings || {}, first = settings.createOptions;

	if (isObject(first))
		return JSON.stringify(first);
	return [first ?? "", ...pieces(settings).map((k) => settings[k])].join("");
}

// The options as an object; throws when they are no JSON object.
export function createOptions(module) {
	const text = createOptionsText(module), v = text.trim() ? parseJson(text) : {};

	if (!isObject(v))
		throw new Error("createOptions is a JSON object.");
	return v;
}

export function setCreateOptions(module, options) {
	const settings = below(module, "settings"), cut = pieces(settings), text = JSON.stringify(options);

	if (isObject(settings.createOptions)) {
		settings.createOptions = options;
		return;
	}
	for (const k of cut)
		delete settings[k];
	settings.createOptions = cut.length || text.length > 4096 ? text.slice(0, SPLIT) : text;
	for (let at = settings.createOptions.length, n = 1; at < text.length; at += SPLIT, n++)
		settings[`createOptions${String(n).padStart(2, "0")}`] = text.slice(at, at + SPLIT);
}

export function binds(module) {
	const list = createOptions(module).HostConfig?.Binds;

	return Array.isArray(list) ? list : [];
}

export function setBinds(module, list) {
	const options = createOptions(module);

	if (list.length === 0 && options.HostConfig?.Binds === undefined)
		return;
	below(options, "HostConfig").Binds = list;
	setCreateOptions(module, options);
}

// --- routes ----------------------------------------------------------------------------------------------------------

export const routeText = (route) => isObject(route) ? String(route.route ?? "") : String(route ?? "");
export const withRouteText = (route, text) => isObject(route) ? {...route, route: text} : text;

// Renames or replaces the members of an object in place, in the order of `entries`.
export function setEntries(o, entries) {
	for (const k of Object.keys(o))
		delete o[k];
	for (const [k, v] of entries)
		o[k] = v;
}
