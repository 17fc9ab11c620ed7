/** What is next: leased some ahead, so that two people never have the same. */
import { call, ofRun } from "./api.js";

/** told(progress) hears how far the run is. */
export function queueOf(run, order, of_class, outbox, told) {
	const decided = new Set(), ids = (items) => items.map((item) => item.candidate_id);
	let asking;

	async function lease(shown, n, class_name) {
		try {
			const known = () => [...shown, ...ids(queue.items), ...ids(outbox.entries)];
			const holding = [...new Set(known())].slice(0, 500);
			const { value: { items, progress } } = await call("POST", ofRun(run, "lease"), { order, class_name, n, holding });
			const not = new Set([...holding, ...known(), ...decided]), fresh = items.filter((item) => !not.has(item.candidate_id));
			fresh.forEach((item) => outbox.saw(item));
			queue.items.push(...fresh);
			queue.ended = !fresh.length;
			told(progress);
		} finally { asking = null; }
	}

	const queue = {
		items: [], // next first
		ended: false,

		/** Leases until there are `wanted` if there are fewer than `few`; the leases of the ids `shown` are renewed. */
		async fill(shown, wanted = 10, few = 6, class_name = of_class) {
			if (queue.items.length < few) await (asking ??= lease(shown, wanted - queue.items.length, class_name));
		},

		/** Takes an item out, `done` or to be shown. */
		take(id, done) {
			done && decided.add(id);
			queue.items = queue.items.filter((item) => item.candidate_id !== id);
		},

		/** Brings an item back to the front. */
		back(item) {
			decided.delete(item.candidate_id);
			queue.take(item.candidate_id);
			queue.items.unshift(item);
		},

		release: () => call("POST", ofRun(run, "release"), { candidate_ids: ids(queue.items) }),
	};
	return queue;
}
