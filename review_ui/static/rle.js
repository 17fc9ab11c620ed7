/** COCO's compressed RLE: runs down the columns, zeros first, five bits a character. */

/** The flags, column by column. */
export function decode(text, area) {
	const flags = new Uint8Array(area), counts = [];
	for (let at = 0, place = 0; at < text.length;) {
		let value = 0, shift = 0, code;
		do {
			code = text.charCodeAt(at++) - 48;
			value |= (code & 31) << shift;
			shift += 5;
		} while (code & 32);
		if (code & 16) value |= -1 << shift;
		if (counts.length > 2) value += counts.at(-2);
		flags.fill(counts.length % 2, place, place += value);
		counts.push(value);
	}
	return flags;
}

export function encode(flags) {
	const counts = [];
	for (let at = 0, value = 0; at < flags.length; value = 1 - value) {
		const next = flags.indexOf(1 - value, at), end = next < 0 ? flags.length : next;
		counts.push(end - at);
		at = end;
	}
	let text = "";
	counts.forEach((value, n) => {
		if (n > 2) value -= counts[n - 2];
		for (let more = true; more;) {
			const code = value & 31;
			value >>= 5;
			more = value !== (code & 16 ? -1 : 0);
			text += String.fromCharCode(48 + code + (more ? 32 : 0));
		}
	});
	return text;
}
