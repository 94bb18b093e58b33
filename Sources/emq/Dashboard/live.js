// The live figures: one stream of server-sent events for what is visible.

import { authorization, credentials, failure, url } from "./api.js";

const longestPauseMilliseconds = 10_000;
const settleMilliseconds = 150;

/// A stream of the answers to GET requests, which begins again by itself when it breaks.
export class Live {
	/// `receiver` has these methods:
	///
	/// - `receive(path, status, text)` gets each answer,
	/// - `note(state)` gets "live", "lost", "stopped" or "hidden",
	/// - `refuse(failure)` gets the refusal of the whole stream, such as a 401.
	constructor(receiver) {
		this.receiver = receiver;
		this.paths = [];
		this.failures = 0;
		document.addEventListener("visibilitychange", () => this.restart(0));
		window.addEventListener("online", () => this.restart(0));
	}

	/// Replaces what is watched.
	watch(paths) {
		if (paths.length === this.paths.length && paths.every((path, index) => path === this.paths[index])) return;
		this.paths = paths;
		// While somebody scrolls or types, what is watched changes often.
		this.restart(this.controller ? settleMilliseconds : 0);
	}

	/// Asks for everything again.
	restart(milliseconds = 0) {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.open(), milliseconds);
		if (document.hidden) this.open();
	}

	open() {
		clearTimeout(this.timer);
		this.controller?.abort();
		this.controller = undefined;
		if (document.hidden) return this.receiver.note("hidden");
		if (this.paths.length === 0) return;
		this.controller = new AbortController();
		this.read(this.paths, this.controller);
	}

	async read(paths, controller) {
		let state = "lost";
		try {
			const target = `/events?${paths.map((path) => `get=${encodeURIComponent(path)}`).join("&")}`;
			const response = await fetch(url(target), {
				headers: { Accept: "text/event-stream", ...authorization() }, signal: controller.signal, credentials, cache: "no-store",
			});
			if (!response.ok) {
				const reason = failure(response.status, await response.text());
				if (response.status < 500) return this.receiver.refuse(reason);
				throw reason;
			}
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
			const parser = new EventParser((name, data) => {
				if (controller.signal.aborted) return;
				if (name === "stopping") {
					state = "stopped";
					return;
				}
				const [index, status] = name.split("/");
				this.receiver.receive(paths[Number(index)], Number(status ?? 200), data);
			});
			for (;;) {
				const { done, value } = await reader.read();
				if (done) break;
				if (controller.signal.aborted) return;
				this.failures = 0;
				this.receiver.note("live");
				parser.take(value);
			}
		} catch (error) {
			if (controller.signal.aborted) return;
			this.reason = error;
		}
		if (controller.signal.aborted) return;
		this.receiver.note(state);
		this.failures += 1;
		const pause = Math.min(longestPauseMilliseconds, 500 * 2 ** this.failures);
		this.restart(pause * (0.75 + Math.random() / 2));
	}
}

/// Takes the text of an event stream apart (HTML Living Standard, section 9.2.6).
class EventParser {
	constructor(emit) {
		this.emit = emit;
		this.parts = [];
		this.name = "";
		this.data = [];
	}

	/// Takes the next part of the text. O(length).
	take(text) {
		let start = 0;
		for (;;) {
			const end = text.indexOf("\n", start);
			if (end < 0) break;
			this.parts.push(text.slice(start, end));
			const line = this.parts.length === 1 ? this.parts[0] : this.parts.join("");
			this.parts = [];
			start = end + 1;
			this.line(line);
		}
		if (start < text.length) this.parts.push(text.slice(start));
	}

	line(line) {
		if (line === "") {
			if (this.data.length) this.emit(this.name || "message", this.data.join("\n"));
			this.name = "";
			this.data = [];
		} else if (line.startsWith("data:")) {
			this.data.push(line.slice(line[5] === " " ? 6 : 5));
		} else if (line.startsWith("event:")) {
			this.name = line.slice(6).trim();
		}
	}
}
