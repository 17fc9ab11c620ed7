/** Pictures of regions, fetched and decoded; the last ones are kept. */
const KEPT = 48;
const cache = new Map(); // by URL, the least recently asked for first

/** A picture: its `bitmap`, or why it is `gone` (`again`: it may come); `ready` resolves to it. */
export function picture(url) {
	const found = cache.get(url) || { url };
	found.ready ??= load(found);
	cache.delete(url);
	cache.set(url, found);
	if (cache.size > KEPT) cache.delete(cache.keys().next().value);
	return found;
}

async function load(found) {
	try {
		const answer = await fetch(found.url);
		if (answer.ok) found.bitmap = await createImageBitmap(await answer.blob());
		else {
			found.gone = (await answer.json().catch(() => ({}))).detail || "This image is gone.";
			found.again = answer.status === 401 || answer.status >= 500;
		}
	} catch { Object.assign(found, { gone: "No connection.", again: true }); }
	if (found.again) cache.delete(found.url);
	return found;
}
