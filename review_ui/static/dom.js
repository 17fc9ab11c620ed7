/** Elements out of text: nothing from outside is ever read as HTML. */
export const $ = (id) => document.getElementById(id);

/** An element; attributes beginning with `on` are listeners. */
export function el(tag, attributes, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) name.startsWith("on") ? made[name] = value : made.setAttribute(name, value);
	made.append(...children);
	return made;
}

/** Calls `then` once the frame with what was drawn just now is out. */
export function afterPaint(then) {
	requestAnimationFrame(() => setTimeout(then));
}

/** Settings of this browser. */
export function kept(name, otherwise) {
	try { return { ...otherwise, ...JSON.parse(localStorage[`segsvc.${name}`] || "{}") }; } catch { return otherwise; }
}
export function keep(name, value) {
	try { localStorage[`segsvc.${name}`] = JSON.stringify(value); } catch { /* a setting, no verdict */ }
}

let fading;
/** Says what happened, to eyes and screen readers. */
export function say(text, stays) {
	$("said").textContent = text;
	$("said").className = "shown";
	clearTimeout(fading);
	if (!stays) fading = setTimeout(() => { $("said").className = ""; }, 2200);
}

export const count = (number) => number.toLocaleString("en");
export const SIGNS = { accepted: "✓", rejected: "✗", unsure: "?", edited: "✎" };
