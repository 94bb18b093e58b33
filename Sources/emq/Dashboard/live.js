// The live figures: one stream of server-sent events for what is visible.

import { authorization, credentials, failure, url } from "./api.js";

const longestPauseMilliseconds = 10_000;
const settleMilliseconds = 150;
// The server sends something at least every 15 s.
const silenceMilliseconds = 35_000;

/// A stream of the answers to GET requests, which begins again by itself when it breaks.
export class Live {
	/// `receiver` has these methods:
	///
	/// - `receive(path, status, text)` gets each answer,
	/// - `note(state, reason)` gets "live", "lost", "stopped" or "hidden", and why if the server says so,
	/// - `refuse(failure)` gets a 401, after which the stream does not begin again.
	constructor(receiver) {
		this.receiver = receiver;
		this.paths = [];
		this.failures = 0;
		document.addEventListener("visibilitychange", () => this.restart(0));
		window.addEventListener("online", () => this.restart(0));
	}

	/// Replaces what is watched.
	watch(paths, interval) {
		if (paths.length === this.paths.length && paths.every((path, index) => path === this.paths[index])) return;
		Object.assign(this, { paths, interval });
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
		let reason, silence;
		try {
			const target = `/events?interval=${this.interval}${paths.map((path) => `&get=${encodeURIComponent(path)}`).join("")}`;
			const response = await fetch(url(target), {
				headers: { Accept: "text/event-stream", ...authorization() }, signal: controller.signal, credentials, cache: "no-store",
			});
			if (!response.ok) {
				const refusal = failure(response.status, await response.text());
				if (response.status === 401) return this.receiver.refuse(refusal);
				throw refusal;
			}
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
			let rest = "";
			for (;;) {
				silence = setTimeout(() => reader.cancel(), silenceMilliseconds);
				const { done, value } = await reader.read();
				clearTimeout(silence);
				if (done) break;
				if (controller.signal.aborted) return;
				this.failures = 0;
				this.receiver.note("live");
				const events = (rest + value).split("\n\n");
				rest = events.pop();
				for (const event of events) {
					// HTML Living Standard, section 9.2.6, in the form that emq gives it.
					const lines = event.split("\n");
					const values = (field) => lines.filter((line) => line.startsWith(field)).map((line) => line.slice(field.length));
					const [name] = values("event: ");
					if (name === "stopping") state = "stopped";
					else if (name) {
						const [index, status] = name.split("/");
						this.receiver.receive(paths[index], Number(status ?? 200), values("data: ").join("\n"));
					}
				}
			}
		} catch (error) {
			reason = error.status && error.message;
		}
		clearTimeout(silence);
		if (controller.signal.aborted) return;
		controller.abort();
		this.receiver.note(state, reason);
		this.failures += 1;
		const pause = Math.min(longestPauseMilliseconds, 500 * 2 ** this.failures);
		this.restart(pause * (0.75 + Math.random() / 2));
	}
}
