/**
 * Verdicts and what was said of whole images wait here until the server has them: each an entry of its own in localStorage,
 * written before the next one is shown and dropped once confirmed. Its `request_id` makes sending again harmless.
 * Events: `change`; `confirmed` with {entry, decision}; `elsewhere` with the entry that another tab added.
 */
import { call, candidate, refused } from "./api.js";

const ALL = "segsvc.outbox|";

/** 128 random bits; crypto.randomUUID is missing on plain http. */
const unique = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, 0)).join("");

export function outboxOf(reader) {
	const prefix = `${ALL}${encodeURIComponent(reader)}|`, tags = new Map(); // tags: what was seen last of each candidate
	const keyOf = (entry) => prefix + entry.request_id, save = (entry) => localStorage.setItem(keyOf(entry), JSON.stringify(entry));
	const changed = () => outbox.dispatchEvent(new Event("change"));
	let last = 0, failures = 0, timer, sending;

	function load() {
		outbox.entries = Object.keys(localStorage).filter((key) => key.startsWith(prefix))
			.map((key) => JSON.parse(localStorage[key])).sort((a, b) => a.sequence - b.sequence);
		changed();
	}

	function next() {
		const held = new Set(); // a later word on the same waits for the earlier one
		return outbox.entries.find(({ problem, candidate_id, path = candidate_id }) => !problem && !held.has(path) || !held.add(path));
	}

	async function drain() {
		outbox.trouble = null;
		for (let entry; (entry = next());) {
			if (!localStorage[keyOf(entry)]) { load(); continue; } // another tab sent it
			const { candidate_id, run, path, request_id, body } = entry, sent = { ...body, request_id };
			try {
				if (!path) entry.tag ??= (await call("GET", candidate(candidate_id, run))).etag;
				const { value, etag } = await call("POST", path || candidate(candidate_id, run, "/decisions"), sent, path ? {} : { "If-Match": entry.tag });
				confirm(entry, value, etag);
			} catch (error) {
				const problem = refused(error), { status, problem: { first } } = error;
				if ([0, 401, 408, 429].includes(status) || status >= 500) {
					failures++;
					outbox.trouble = error;
					return;
				}
				Object.assign(entry, { problem, first, tag: null });
				save(entry);
			}
			failures = 0;
			changed();
		}
	}

	/** It is let go only once what comes after it on the same candidate builds on it. */
	function confirm(entry, decision, tag) {
		tags.set(entry.candidate_id, tag);
		for (const other of outbox.entries) {
			if (entry.path || other === entry || other.candidate_id !== entry.candidate_id) continue;
			other.tag = tag;
			if (other.undoes_request === entry.request_id) other.body.undoes = decision.decision_id;
			save(other);
		}
		outbox.remove(entry);
		outbox.dispatchEvent(new CustomEvent("confirmed", { detail: { entry, decision } }));
	}

	const outbox = Object.assign(new EventTarget(), {
		entries: [], // oldest first; those that need a person have a `problem`, and in a conflict what came `first`
		trouble: null, // the refusal that keeps all waiting

		find: (request_id) => outbox.entries.find((entry) => entry.request_id === request_id),
		of: (candidate_id) => outbox.entries.find((entry) => entry.candidate_id === candidate_id),

		/** Who else decided in this browser and has verdicts waiting. */
		others: () => new Set(Object.keys(localStorage).filter((key) => key.startsWith(ALL) && !key.startsWith(prefix))
			.map((key) => decodeURIComponent(key.split("|")[1]))),

		/** A verdict builds on what was seen. */
		saw({ candidate_id, tag }) { tags.set(candidate_id, `"${tag}"`); },

		/** Takes {run, candidate_id, class_name, body, undoes_request?}, or {path, title, words, body} to be posted there; throws where the browser has no room. */
		add(entry) {
			last = Math.max(last + 1, Date.now());
			entry = { ...entry, tag: tags.get(entry.candidate_id), request_id: unique(), sequence: last };
			save(entry);
			outbox.entries.push(entry);
			return entry;
		},

		remove(entry) {
			localStorage.removeItem(keyOf(entry));
			outbox.entries = outbox.entries.filter((other) => other.request_id !== entry.request_id);
			changed();
		},

		/** Sends a refused one again, on top of what the server has now. */
		again(entry) {
			entry.problem = entry.first = null;
			save(entry);
			outbox.send();
		},

		/** Sends in order what waits; of several tabs one at a time. */
		async send() {
			if (sending) return changed();
			sending = true;
			clearTimeout(timer);
			changed();
			await (navigator.locks ? navigator.locks.request(prefix, drain) : drain());
			sending = false;
			changed();
			const { trouble } = outbox;
			if (next()) timer = setTimeout(outbox.send, trouble && Math.max(trouble.wait_s, Math.min(2 ** failures, 30)) * 1000);
		},
	});
	load();
	addEventListener("storage", ({ key, newValue }) => {
		if (!key?.startsWith(prefix)) return;
		const added = JSON.parse(newValue), known = !added || outbox.find(added.request_id);
		load();
		known || outbox.dispatchEvent(new CustomEvent("elsewhere", { detail: added }));
	});
	for (const back of ["online", "focus"]) addEventListener(back, outbox.send);
	return outbox;
}
