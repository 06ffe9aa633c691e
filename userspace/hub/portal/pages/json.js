// SPDX-License-Identifier: GPL-3.0-or-later
// JSON that a person typed: read strictly, told where it is wrong. And the limits of twins.

export class JsonError extends Error {
	constructor(message, text, at) {
		const before = text.slice(0, at).split("\n");

		super(message);
		this.at = at;
		this.line = before.length;
		this.column = before.at(-1).length + 1;
	}
}

const MAX_DEPTH = 64;
const NUMBER = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y, SPACE = /[ \t\r\n]*/y;
const ESCAPES = {'"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t"};

class Reader {
	constructor(text, limits) {
		this.text = text;
		this.at = 0;
		this.limits = limits;
	}

	fail(message, at = this.at) {
		throw new JsonError(message, this.text, at);
	}

	space() {
		SPACE.lastIndex = this.at;
		SPACE.exec(this.text);
		this.at = SPACE.lastIndex;
	}

	seen() {
		return this.at < this.text.length ? `"${this.text[this.at]}"` : "the end";
	}

	string() {
		const from = this.at++;
		let out = "";

		for (;;) {
			const c = this.text[this.at];

			if (c === undefined || c === "\n")
				this.fail("This text has no closing quotation mark.", from);
			if (c < " ")
				this.fail("A control character must be written as an escape, such as \\t.");
			this.at++;
			if (c === '"')
				return out;
			out += c === "\\" ? this.escape() : c;
		}
	}

	escape() {
		const c = this.text[this.at++];

		if (c in ESCAPES)
			return ESCAPES[c];
		const hex = c === "u" ? this.text.slice(this.at, this.at + 4) : "";
		if (!/^[0-9a-fA-F]{4}$/.test(hex))
			this.fail("This is no escape. There are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hex digits.", this.at - 2);
		this.at += 4;
		return String.fromCharCode(parseInt(hex, 16));
	}

	// Members of an object or elements of an array, with one comma between.
	list(end, item) {
		this.at++;
		this.space();
		if (this.text[this.at] === end) {
			this.at++;
			return;
		}
		for (;;) {
			item();
			this.space();
			const c = this.text[this.at];

			if (c === end) {
				this.at++;
				return;
			}
			if (c !== ",")
				this.fail(`A comma or "${end}" is missing before ${this.seen()}.`);
			const comma = this.at++;
			this.space();
			if (this.text[this.at] === end)
				this.fail("There is a comma after the last entry. Remove it.", comma);
		}
	}

	object(depth, path) {
		const out = {};

		this.list("}", () => {
			const from = this.at;

			if (this.text[this.at] !== '"')
				this.fail(`A name in quotation marks is wanted here, not ${this.seen()}.`);
			const name = this.string();

			if (Object.hasOwn(out, name))
				this.fail(`The name "${name}" stands here twice.`, from);
			const problem = this.limits?.name(name, path);
			if (problem)
				this.fail(problem, from);
			this.space();
			if (this.text[this.at] !== ":")
				this.fail(`A colon is missing after "${name}".`);
			this.at++;
			// Not by assignment: a member named __proto__ is one as any other.
			Object.defineProperty(out, name, {
				value: this.value(depth + 1, [...path, name]), enumerable: true, configurable: true, writable: true,
			});
		});
		return out;
	}

	array(depth, path) {
		const out = [];

		this.list("]", () => out.push(this.value(depth + 1, [...path, out.length])));
		return out;
	}

	number() {
		NUMBER.lastIndex = this.at;
		const m = NUMBER.exec(this.text);

		if (!m)
			this.fail(`A value is wanted here, not ${this.seen()}.`);
		this.at = NUMBER.lastIndex;
		if (/[\w.]/.test(this.text[this.at] || ""))
			this.fail("This is no number.", this.at - m[0].length);
		return Number(m[0]);
	}

	value(depth, path) {
		this.space();
		const from = this.at, c = this.text[from];
		let v;

		if (depth > MAX_DEPTH)
			this.fail("This is nested too deep.");
		if (c === "{")
			v = this.object(depth, path);
		else if (c === "[")
			v = this.array(depth, path);
		else if (c === '"')
			v = this.string();
		else if (/[a-z]/i.test(c || ""))
			v = this.word();
		else
			v = this.number();
		const problem = this.limits?.value(v, depth, path);
		if (problem)
			this.fail(problem, from);
		return v;
	}

	word() {
		for (const [word, v] of [["true", true], ["false", false], ["null", null]])
			if (this.text.startsWith(word, this.at) && !/\w/.test(this.text[this.at + word.length] || "")) {
				this.at += word.length;
				return v;
			}
		return this.fail("There are true, false and null; every other text stands in quotation marks.");
	}
}

// limits: {name(name, path), value(value, depth, path)}, each returns what is wrong or nothing.
export function parseJson(text, limits) {
	const reader = new Reader(text, limits), v = reader.value(0, []);

	reader.space();
	if (reader.at < text.length)
		reader.fail("The document ended before this.");
	return v;
}

export const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);
export const pretty = (v) => JSON.stringify(v, null, "\t");
const bytes = (text) => new TextEncoder().encode(text).length;

// --- twins -----------------------------------------------------------------------------------------------------------

const MAX_INT = 4503599627370496;
// Each editable section with its bound in bytes.
export const SECTIONS = {tags: 8192, desired: 32768};

// For {"tags": {...}, "properties": {"desired": {...}}}: the rules hold inside the sections.
function sectionOf(path) {
	if (path[0] === "tags")
		return path.slice(1);
	return path[0] === "properties" && path[1] === "desired" ? path.slice(2) : null;
}

export const twinLimits = {
	name(name, path) {
		const inside = sectionOf(path);

		if (path.length === 0)
			return ["tags", "properties"].includes(name) ? null : `"${name}" cannot be changed here; there are tags and properties.desired.`;
		if (path.length === 1 && path[0] === "properties")
			return name === "desired" ? null : `"properties.${name}" cannot be changed here; only the device reports.`;
		if (!inside)
			return null;
		if (!name || bytes(name) > 1024)
			return "A name has 1 to 1024 bytes.";
		if (name.startsWith("$"))
			return `Names with $ such as "${name}" are the hub's own.`;
		// eslint-disable-next-line no-control-regex
		return /[\x00-\x20\x7f.$#]/.test(name) ? `The name "${name}" has a space, a control character or one of . $ #` : null;
	},
	value(v, depth, path) {
		const inside = sectionOf(path);

		if ((!inside || inside.length === 0) && !isObject(v))
			return "An object { } is wanted here.";
		if (!inside)
			return null;
		if (typeof v === "number" && Number.isInteger(v) && (v >= MAX_INT || v < -MAX_INT))
			return `Whole numbers go from ${-MAX_INT} to ${MAX_INT - 1}.`;
		if (typeof v === "string" && bytes(v) > 4096)
			return "A text has at most 4096 bytes.";
		if (v === null && inside.some((step) => typeof step === "number"))
			return "A list cannot hold null.";
		if (v !== null && typeof v === "object" && inside.length > 10)
			return "A twin is at most ten levels deep.";
		return null;
	},
};

// Which section is too large, or null.
export function sizeProblem(doc) {
	for (const [name, section] of [["tags", doc.tags], ["desired", doc.properties?.desired]]) {
		const n = section ? bytes(JSON.stringify(section)) : 0;

		if (n > SECTIONS[name])
			return `${name === "tags" ? "The tags have" : "The desired properties have"} ${n.toLocaleString()} bytes; ` +
				`${SECTIONS[name].toLocaleString()} are allowed.`;
	}
	return null;
}

export const withoutDollar = (o) => Object.fromEntries(Object.entries(o || {}).filter(([name]) => !name.startsWith("$")));
