// Requests to the server, the token, and what it allows.

/// A failed request, as the server explains it (RFC 9457).
export class Failure extends Error {
	constructor(status, problem) {
		super(problem?.detail ?? problem?.title ?? (status ? `the server responded with ${status}` : "the server cannot be reached"));
		this.status = status;
		this.type = problem?.type;
		this.field = problem?.field;
	}
}

const tokenName = "emq-token";
export let token = sessionStorage.getItem(tokenName) ?? "";

/// Keeps the token for this tab.
export function setToken(text) {
	token = text;
	sessionStorage.setItem(tokenName, text);
}

/// What the browser adds to a request. Nothing at first: a browser that may add a password asks for one itself when
/// emq refuses a request.
export let credentials = "omit";

/// The fields of each request.
export function authorization() {
	return token ? { Authorization: `Bearer ${token}` } : {};
}

/// The URL of a path such as `/stats/`, also behind a proxy that serves the page under a prefix.
export function url(path) {
	return new URL(path.slice(1), document.baseURI).href;
}

/// Sends a request and returns the text of the response. `body` is JSON, as a text or a value. Throws a `Failure`.
export async function request(method, path, body, signal) {
	const headers = authorization();
	if (body !== undefined) headers["Content-Type"] = "application/json";
	let response, text;
	try {
		response = await fetch(url(path), { method, headers, body: json(body), credentials, cache: "no-store", signal });
		text = await response.text();
	} catch {
		throw new Failure(0);
	}
	if (!response.ok) throw failure(response.status, text);
	return text;
}

function json(body) {
	return typeof body === "object" ? JSON.stringify(body) : body;
}

/// The failure that a response stands for.
export function failure(status, text) {
	try {
		return new Failure(status, JSON.parse(text));
	} catch {
		return new Failure(status);
	}
}

/// Sends a request and returns the JSON of the response, or an empty object.
export async function send(method, path, body, signal) {
	const text = await request(method, path, body, signal);
	try {
		return JSON.parse(text || "{}");
	} catch {
		throw new Failure(200, { detail: "the response is not emq's" });
	}
}

/// A path's part for a name. Slashes stay, but browsers and curl resolve the parts "." and "..".
export function named(name) {
	const coded = encodeURIComponent(name);
	return name.split("/").some((part) => part === "." || part === "..") ? coded : coded.replaceAll("%2F", "/");
}

/// The query for parameters; those that are undefined, null, false or empty are left out.
export function query(parameters) {
	const parts = Object.entries(parameters)
		.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "")
		.map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
	return parts.length ? `?${parts.join("&")}` : "";
}

/// A request as a curl command for a POSIX shell.
export function curl(method, path, body) {
	const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
	const parts = ["curl"];
	if (method !== "GET" && !(method === "POST" && body !== undefined)) parts.push("-X", method);
	if (access?.tokens) parts.push("-H", '"Authorization: Bearer $EMQ_TOKEN"');
	if (body !== undefined) parts.push("--json", quote(json(body)));
	parts.push(quote(url(path)));
	return parts.join(" ");
}

let access;

/// Asks what the token allows. Throws a `Failure` with status 401 if the server needs another token.
export async function learnAccess() {
	access = undefined;
	credentials = "omit";
	try {
		access = await send("GET", "/access");
	} catch (error) {
		if (error.status === 0 || error.type?.startsWith("urn:emq:")) throw error;
		// That was not emq: a proxy in front of it may sign users in, by a cookie or a password.
		credentials = "same-origin";
		access = await send("GET", "/access");
	}
	return access;
}

/// Whether the token has a permission, for a queue if one is named.
export function may(permission, queue) {
	// Browsers ask for another path, and so may proxies that add a prefix.
	if (/^\.\.?$/.test(queue) || (location.pathname !== "/" && /^\/|\/\/|(^|\/)\.\.?(\/|$)/.test(queue))) return false;
	return access?.permissions.includes(permission) && (queue === undefined || access.queues.some((pattern) => matches(pattern, queue)));
}

function matches(pattern, name) {
	const expression = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("[^]*");
	return new RegExp(`^${expression}$`, "u").test(name);
}
