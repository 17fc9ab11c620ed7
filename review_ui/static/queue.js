/** What is next: leased some ahead, so that two people never have the same. */
import { call } from "./api.js";

/** Of items that their field `by` tells apart, leased at a path by `asked`; told(progress, items) hears how far all is, and what came. */
export function queueOf(by, path, asked, outbox, told) {
	const decided = new Set(), ids = (items) => items.map((item) => item[by]).filter(Boolean);
	let asking;

	async function lease(shown, n, more) {
		try {
			const known = () => [...shown, ...ids(queue.items), ...ids(outbox.entries)];
			const holding = [...new Set(known())].slice(0, 500);
			const { value: { items, progress } } = await call("POST", path, { ...asked, ...more, n, holding });
			const not = new Set([...holding, ...known(), ...decided]), fresh = items.filter((item) => !not.has(item[by]));
			queue.items.push(...fresh);
			queue.ended = !fresh.length;
			told(progress, fresh);
		} finally { asking = null; }
	}

	const queue = {
		items: [], // next first
		ended: false,

		/** Leases until there are `wanted` if there are fewer than `few`; the leases of the ids `shown` are renewed. */
		async fill(shown, wanted = 10, few = 6, more) {
			if (queue.items.length < few) await (asking ??= lease(shown, wanted - queue.items.length, more));
		},

		/** Takes an item out, `done` or to be shown. */
		take(id, done) {
			done && decided.add(id);
			queue.items = queue.items.filter((item) => item[by] !== id);
		},

		/** Brings an item back to the front. */
		back(item) {
			decided.delete(item[by]);
			queue.take(item[by]);
			queue.items.unshift(item);
		},

		ids: () => ids(queue.items),
	};
	outbox.addEventListener("elsewhere", ({ detail }) => queue.take(detail[by], true));
	return queue;
}
