// JSON as text: taking it apart without changing numbers, and laying it out for people.

import { h } from "./dom.js";
import { plain } from "./format.js";

/// Where the value that begins at `start` ends. The text is valid JSON, because the server made or checked it. O(length).
function endOfValue(text, start) {
	let depth = 0;
	for (let index = start; index < text.length; index += 1) {
		const character = text[index];
		if (character === '"') {
			index = endOfString(text, index) - 1;
			if (depth === 0) return index + 1;
		} else if (character === "{" || character === "[") {
			depth += 1;
		} else if (character === "}" || character === "]") {
			if (depth === 0) return index;
			depth -= 1;
			if (depth === 0) return index + 1;
		} else if (depth === 0 && character === ",") {
			return index;
		}
	}
	return text.length;
}

function endOfString(text, start) {
	let index = start + 1;
	while (index < text.length && text[index] !== '"') index += text[index] === "\\" ? 2 : 1;
	return index + 1;
}

function skipSpace(text, index) {
	while (index < text.length && " \t\n\r".includes(text[index])) index += 1;
	return index;
}

/// The members of an object as the texts of their values, by name.
export function members(text) {
	const found = new Map();
	let index = skipSpace(text, skipSpace(text, 0) + 1);
	while (index < text.length && text[index] === '"') {
		const nameEnd = endOfString(text, index);
		const name = JSON.parse(text.slice(index, nameEnd));
		const start = skipSpace(text, skipSpace(text, nameEnd) + 1);
		const end = endOfValue(text, start);
		found.set(name, text.slice(start, end).trimEnd());
		index = skipSpace(text, end);
		if (text[index] === ",") index = skipSpace(text, index + 1);
	}
	return found;
}

/// The elements of an array, as texts.
export function elements(text) {
	const found = [];
	let index = skipSpace(text, skipSpace(text, 0) + 1);
	while (index < text.length && text[index] !== "]") {
		const end = endOfValue(text, index);
		found.push(text.slice(index, end).trimEnd());
		index = skipSpace(text, end);
		if (text[index] === ",") index = skipSpace(text, index + 1);
	}
	return found;
}

const verbatim = new Set(["content", "result", "progress", "metadata"]);

/// A task as the server shows it. `content`, `result`, `progress` and `metadata` stay the texts that clients sent, so
/// that no number is rounded.
export function task(text) {
	const found = {};
	for (const [name, value] of members(text)) found[name] = verbatim.has(name) ? value : JSON.parse(value);
	return found;
}

const layoutLimit = 200_000;

/// Whether a text is too long to be laid out.
export function isTooLong(text) {
	return text.length > layoutLimit;
}

/// JSON laid out in lines, as children of a `<pre>`. Numbers and strings stay as they are. O(length).
export function layout(text) {
	if (isTooLong(text)) return [plain(text.slice(0, layoutLimit)), "…"];
	const output = [];
	let run = "";
	let depth = 0;
	const line = () => (run += `\n${"  ".repeat(Math.min(depth, 40))}`);
	const token = (kind, part) => {
		if (run) output.push(run);
		run = "";
		output.push(h("span", { class: kind }, plain(part)));
	};
	let index = 0;
	while (index < text.length) {
		const character = text[index];
		if (" \t\n\r".includes(character)) {
			index += 1;
		} else if (character === '"') {
			const end = endOfString(text, index);
			const isName = text[skipSpace(text, end)] === ":";
			token(isName ? "json-name" : "json-string", text.slice(index, end));
			index = end;
		} else if (character === "{" || character === "[") {
			run += character;
			index = skipSpace(text, index + 1);
			if (text[index] === "}" || text[index] === "]") {
				run += text[index];
				index += 1;
			} else {
				depth += 1;
				line();
			}
		} else if (character === "}" || character === "]") {
			depth -= 1;
			line();
			run += character;
			index += 1;
		} else if (character === ",") {
			run += character;
			line();
			index += 1;
		} else if (character === ":") {
			run += ": ";
			index += 1;
		} else {
			let end = index;
			while (end < text.length && !" \t\n\r,]}".includes(text[end])) end += 1;
			token(/^[-0-9]/.test(character) ? "json-number" : "json-word", text.slice(index, end));
			index = Math.max(end, index + 1);
		}
	}
	if (run) output.push(run);
	return output;
}

/// JSON in one line of at most `limit` characters, for tables.
export function oneLine(text, limit = 200) {
	let line = "";
	let index = 0;
	while (index < text.length && line.length <= limit) {
		if (text[index] === '"') {
			const end = endOfString(text, index);
			line += text.slice(index, Math.min(end, index + limit + 1));
			index = end;
		} else {
			const character = text[index];
			if (!" \t\n\r".includes(character)) line += character === "," || character === ":" ? `${character} ` : character;
			index += 1;
		}
	}
	return plain(line.length > limit ? `${line.slice(0, limit)}…` : line);
}
