/** Pictures, and marks on them by colour, outline and pattern, so that no common colour vision misses one. */

// Okabe and Ito, "Color Universal Design" (2008), as in the reports
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const patterns = [];

export const colour = (number) => COLOURS[number % COLOURS.length];

/** Stripes or a lattice in the colour of a class, by its place in the list. */
function pattern(number) {
	if (!patterns[number]) {
		const tile = new OffscreenCanvas(8, 8), pen = tile.getContext("2d");
		pen.fillStyle = pen.strokeStyle = colour(number);
		pen.globalAlpha = 0.3;
		pen.fillRect(0, 0, 8, 8);
		pen.globalAlpha = 1;
		pen.lineWidth = 2;
		for (const x of [-8, 0, 8]) {
			if (number % 3 !== 1) { pen.moveTo(x - 1, 9); pen.lineTo(x + 9, -1); }
			if (number % 3) { pen.moveTo(x - 1, -1); pen.lineTo(x + 9, 9); }
		}
		pen.stroke();
		patterns[number] = pen.createPattern(tile, "repeat");
	}
	return patterns[number];
}

/** The pen of a canvas that is cleared and as large as `size`, in CSS px. */
export function blank(canvas, { width, height }, density) {
	width = Math.round(width * density);
	height = Math.round(height * density);
	if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
	const pen = canvas.getContext("2d");
	pen.setTransform(1, 0, 0, 1, 0, 0);
	pen.clearRect(0, 0, width, height);
	pen.scale(density, density);
	return pen;
}

/** Draws pictures {bitmap, at}, the last on top. */
export function drawPictures(pen, layers, { scale, left, top }) {
	for (const { bitmap, at: { x0, y0, x1, y1 } } of layers) {
		pen.imageSmoothingEnabled = scale * (x1 - x0) / bitmap.width < 6; // large px are shown as px
		pen.drawImage(bitmap, (x0 - left) * scale, (y0 - top) * scale, (x1 - x0) * scale, (y1 - y0) * scale);
	}
}

/** A candidate's mask or box; at opacity 0 nothing. */
export function drawMark(pen, { kind, outline, x0, y0, x1, y1 }, number, { scale, left, top }, opacity) {
	if (!opacity || kind === "image") return;
	const path = new Path2D(), masked = outline?.length, x = (x0 - left) * scale, y = (y0 - top) * scale;
	for (const ring of masked ? outline : [[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]]) {
		for (const [n, [u, v]] of ring.entries()) path[n ? "lineTo" : "moveTo"]((u - left) * scale, (v - top) * scale);
		path.closePath();
	}
	pen.globalAlpha = opacity;
	pen.fillStyle = pattern(number);
	if (masked) pen.fill(path, "evenodd");
	pen.globalAlpha = 1;
	const w = (x1 - x0) * scale, h = (y1 - y0) * scale;
	if (Math.max(w, h) < 16) { // too small to be seen: a ring around it
		path.moveTo(x + w / 2 + 18, y + h / 2);
		path.arc(x + w / 2, y + h / 2, 18, 0, 7);
	}
	line(pen, path, colour(number));
}

/** A line with a dark edge, seen on any ground. */
export function line(pen, path, style) {
	pen.lineJoin = "round";
	for (const [width, stroke] of [[4.5, "rgb(16 16 16 / 0.85)"], [2, style]]) {
		pen.lineWidth = width;
		pen.strokeStyle = stroke;
		pen.stroke(path);
	}
}
