// The dialog that adds a task.

import { ask } from "./actions.js";
import { named } from "./api.js";

const texts = ["content", "metadata"];
const numbers = ["priority", "delay", "max_retries", "max_crashes"];

/// Asks for a task and adds it. `first` has what the fields show at first: `queue`, `content` and `metadata` (as JSON
/// texts), `priority`. Returns the server's answer, or undefined.
export function enqueue(app, title, first) {
	const field = (name, label, hint, properties) => ({ name, label, hint, value: first[name], ...properties });
	return ask(app, {
		title, action: "Enqueue",
		fields: [
			field("content", "Content", "JSON; if empty, null.", { rows: 8 }),
			field("queue", "Queue"), field("key", "Key", "At most one unfinished task has it."), field("priority", "Priority", "−128 to 127; default 0."),
			field("delay", "Delay in seconds", "Default: none."), field("max_retries", "Retries", "Default: the queue's."), field("max_crashes", "Crashes"),
			field("metadata", "Metadata", "A JSON object of strings.", { rows: 2 }),
		],
		make: (values) => {
			const flaws = {};
			// Texts and numbers go into the body as they are, so that nothing is rounded.
			const parts = [...texts, ...numbers].filter((name) => values[name].trim() !== "").map((name) => {
				try {
					if (typeof JSON.parse(values[name]) !== "number" && numbers.includes(name)) throw new Error("a number is needed");
				} catch (error) {
					flaws[name] = numbers.includes(name) ? "This is no number." : `This is no JSON: ${error.message}`;
				}
				return `"${name}":${values[name].trim()}`;
			});
			if (values.key !== "") parts.push(`"key":${JSON.stringify(values.key)}`);
			return { path: `/enqueue/${named(values.queue)}`, body: `{${parts.join(",")}}`, flaws };
		},
		done: ({ existing }) => (existing ? "A task with this key is there already; nothing was added." : "Added the task."),
	});
}
