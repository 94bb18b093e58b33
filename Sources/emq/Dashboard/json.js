// JSON as text: taking it apart without changing numbers, and laying it out for people.

import { h } from "./dom.js";
import { plain } from "./format.js";

/// Where the value that begins at `start` ends. The server made or checked the text. O(length).
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

/// The values of an object or an array, each with its name and its text.
function* values(text) {
	const hasNames = text[skipSpace(text, 0)] === "{";
	let index = skipSpace(text, skipSpace(text, 0) + 1);
	while (index < text.length && text[index] !== "}" && text[index] !== "]") {
		let name;
		if (hasNames) {
			const end = endOfString(text, index);
			name = JSON.parse(text.slice(index, end));
			index = skipSpace(text, skipSpace(text, end) + 1);
		}
		const end = endOfValue(text, index);
		yield [name, text.slice(index, end).trimEnd()];
		index = skipSpace(text, end);
		if (text[index] === ",") index = skipSpace(text, index + 1);
	}
}

/// The members of an object as the texts of their values, by name.
export function members(text) {
	return new Map(values(text));
}

/// The elements of an array, as texts.
export function elements(text) {
	return Array.from(values(text), ([, value]) => value);
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
const tokenLimit = 5000;

/// A text for people, or its beginning if it is too long.
export function cut(text) {
	return text.length > layoutLimit ? `${plain(text.slice(0, layoutLimit))}…` : plain(text);
}

// A string and a colon if one follows, punctuation, or a number or word. A text that was cut off may end within a string.
const tokens = /("[^"\\]*(?:\\[^][^"\\]*)*\\?"?)\s*(:?)|[{}[\],]|[^\s"{}[\],:]+/g;

/// JSON laid out in lines, as children of a `<pre>`; behind its first 5000 tokens, as it is. Numbers and strings stay as
/// they are. O(length).
export function layout(text) {
	if (text.length > layoutLimit) return cut(text);
	const output = [];
	let run = "";
	let depth = 0;
	let last;
	const mark = (kind, part) => {
		output.push(run, h("span", { class: kind }, plain(part)));
		run = "";
	};
	for (const match of text.matchAll(tokens)) {
		if (output.length > 2 * tokenLimit || run.length > tokenLimit) return [...output, run, plain(text.slice(match.index))];
		const [token, string, colon] = match;
		const isOpening = token === "{" || token === "[";
		const isClosing = token === "}" || token === "]";
		if (isClosing) depth -= 1;
		if (last === "," || (last === "{" || last === "[") !== isClosing) run += `\n${"  ".repeat(Math.min(depth, 40))}`;
		if (isOpening) depth += 1;
		if (string) {
			mark(colon ? "json-name" : "json-string", string);
			if (colon) run = ": ";
		} else if (isOpening || isClosing || token === ",") run += token;
		else mark(/^[-0-9]/.test(token) ? "json-number" : "json-word", token);
		last = token;
	}
	return [...output, run];
}

/// JSON in one line of at most `limit` characters, for tables.
export function oneLine(text, limit = 200) {
	let line = "";
	for (const [token, string, colon] of text.matchAll(tokens)) {
		if (line.length > limit) break;
		line += string ? string.slice(0, limit + 1) + (colon && ": ") : token === "," ? ", " : token;
	}
	return plain(line.length > limit ? `${line.slice(0, limit)}…` : line);
}
