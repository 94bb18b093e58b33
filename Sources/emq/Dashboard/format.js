// Numbers, sizes, durations, times and names, for people.

import { h } from "./dom.js";

const grouped = new Intl.NumberFormat("en");

function isUnknown(number) {
	return number === undefined || number === null;
}

/// A count: 12,345.
export function count(number) {
	return isUnknown(number) ? "–" : grouped.format(number);
}

/// A count in little room: 1.2 M.
export function short(number) {
	if (isUnknown(number)) return "–";
	for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
		if (number >= size) {
			const part = number / (unit === "k" ? 1e3 : size);
			return `${part >= 100 ? Math.round(part) : Number(part.toFixed(1))} ${unit}`;
		}
	}
	return grouped.format(number);
}

/// A count and a noun: "1 task", "1,234 tasks".
export function many(number, noun) {
	return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/// Events a second: 0, 0.02, 3.4, 1,250.
export function rate(number) {
	if (isUnknown(number)) return "–";
	if (Number.isInteger(number)) return grouped.format(number);
	if (number < 0.01) return "< 0.01";
	return number < 1 ? number.toFixed(2) : number < 100 ? number.toFixed(1) : grouped.format(Math.round(number));
}

/// A size in bytes: 512 B, 1.4 MiB.
export function bytes(number) {
	if (isUnknown(number)) return "–";
	if (number < 1024) return `${number} B`;
	let unit = -1;
	while (number >= 1024 && unit < 4) {
		number /= 1024;
		unit += 1;
	}
	return `${number < 10 ? number.toFixed(1) : Math.round(number)} ${["KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

/// A duration in seconds: 0 s, 3 ms, 4.2 s, 3 min 20 s, 5 h 12 min, 3 d 4 h.
export function duration(seconds) {
	if (isUnknown(seconds)) return "–";
	if (seconds < 0) return `−${duration(-seconds)}`;
	if (seconds === 0) return "0 s";
	if (seconds < 0.9995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
	if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
	const whole = Math.round(seconds);
	if (whole < 60) return `${whole} s`;
	for (const [unit, size, part, partSize] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
		if (whole >= size) {
			const rest = Math.floor((whole % size) / partSize);
			return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
		}
	}
}

const sameDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const otherDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/// The local time of Unix seconds.
export function localTime(seconds) {
	const date = new Date(seconds * 1000);
	const isToday = date.toDateString() === new Date().toDateString();
	return (isToday ? sameDay : otherDay).format(date);
}

/// A time as people near the screen tell it, with UTC on hover.
export function time(seconds) {
	return moment(seconds, () => localTime(seconds), (utc) => utc);
}

/// How long ago a time was, with the time on hover.
export function ago(seconds) {
	const age = serverNow() - seconds;
	return moment(seconds, () => (age < -5 ? `in ${duration(Math.ceil(-age))}` : age < 2 ? "just now" : `${duration(Math.floor(age))} ago`),
		(utc) => `${localTime(seconds)} (${utc})`);
}

function moment(seconds, text, title) {
	if (isUnknown(seconds)) return "–";
	const date = new Date(seconds * 1000);
	if (Number.isNaN(date.getTime())) return String(seconds);
	const datetime = date.toISOString();
	return h("time", { datetime, title: title(datetime.replace("T", " ").replace("Z", " UTC")) }, text());
}

let clockDifference = 0;

/// Notes the server's time in Unix seconds: the browser's clock may be wrong.
export function noteServerTime(seconds) {
	clockDifference = seconds - Date.now() / 1000;
}

/// The server's time, in Unix seconds.
export function serverNow() {
	return Date.now() / 1000 + clockDifference;
}

// Characters that are invisible, or that change how others are shown.
const treacherous = /(?![\t\n])[\p{Cc}\p{Default_Ignorable_Code_Point}\u2028\u2029\ufff9-\ufffb]/gu;

/// A client's text in which no character hides or reorders others: those are shown as ‹U+202E›.
export function plain(text) {
	return String(text).replace(treacherous, (character) => `‹U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

/// A client's text, isolated from the direction of what is around it.
export function bdi(text, properties) {
	return h("bdi", properties, plain(text));
}
