/** Pictures, and marks on them by colour, outline and pattern, so that no common colour vision misses one. */
import { DENSITY } from "./frame.js";

// Okabe and Ito, "Color Universal Design" (2008), as in the reports
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const SMALL = 1 / 14, GAP = 14, TICK = 9; // of the picture's width; CSS px
const patterns = [];

export const colour = (number) => COLOURS[number % COLOURS.length];

/** Stripes or a lattice, by the place of a class in the list. */
function pattern(number) {
	if (!patterns[number]) {
		const tile = new OffscreenCanvas(8, 8), pen = tile.getContext("2d");
		pen.strokeStyle = colour(number);
		pen.lineWidth = 2.5;
		for (const x of [-8, 0, 8]) {
			if (number % 3 !== 1) { pen.moveTo(x - 1, 9); pen.lineTo(x + 9, -1); }
			if (number % 3) { pen.moveTo(x - 1, -1); pen.lineTo(x + 9, 9); }
		}
		pen.stroke();
		patterns[number] = pen.createPattern(tile, "repeat");
	}
	return patterns[number];
}

/** The pen of a canvas that is cleared and of `size`, in CSS px. */
export function blank(canvas, { width, height }) {
	const w = Math.round(width * DENSITY), h = Math.round(height * DENSITY), pen = canvas.getContext("2d");
	if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
	pen.setTransform(DENSITY, 0, 0, DENSITY, 0, 0);
	pen.clearRect(0, 0, width + 1, height + 1);
	return pen;
}

/** Draws pictures {bitmap, at}, the last on top. */
export function drawPictures(pen, layers, { scale, left, top }) {
	for (const { bitmap, at: { x0, y0, x1, y1 } } of layers) {
		pen.imageSmoothingEnabled = scale * (x1 - x0) / bitmap.width < 6; // large px are shown as px
		pen.drawImage(bitmap, (x0 - left) * scale, (y0 - top) * scale, (x1 - x0) * scale, (y1 - y0) * scale);
	}
}

/** The outline of a mask, or a box, as it is seen. */
export function trace({ outline, x0, y0, x1, y1 }, { scale, left, top }) {
	const path = new Path2D();
	for (const ring of outline.length ? outline : [[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]]) {
		ring.forEach(([u, v], n) => path[n ? "lineTo" : "moveTo"]((u - left) * scale, (v - top) * scale));
		path.closePath();
	}
	return path;
}

/** Fills the outline of a mask, of a class by its place in the list. */
export function fill(pen, path, number, opacity) {
	pen.globalAlpha = opacity;
	pen.fillStyle = pattern(number);
	pen.fill(path, "evenodd");
	pen.globalAlpha = 1;
}

/** A candidate's mask or box; at opacity 0 nothing. */
export function drawMark(pen, mark, number, at, opacity) {
	const { kind, outline, x0, y0, x1, y1 } = mark, { scale, left, top } = at;
	if (!opacity || kind === "image") return;
	const path = trace(mark, at);
	if (outline.length) fill(pen, path, number, opacity);
	const [u, v, w, h] = [(x0 - left) * scale, (y0 - top) * scale, (x1 - x0) * scale, (y1 - y0) * scale];
	if (Math.max(w, h) < SMALL * pen.canvas.width / DENSITY) corners(path, u - GAP, v - GAP, w + 2 * GAP, h + 2 * GAP);
	line(pen, path, colour(number));
}

/** Four corners around what would be overlooked. */
function corners(path, u, v, w, h) {
	for (const [x, way] of [[u, TICK], [u + w, -TICK]]) {
		for (const [y, down] of [[v, TICK], [v + h, -TICK]]) {
			path.moveTo(x + way, y);
			path.lineTo(x, y);
			path.lineTo(x, y + down);
		}
	}
}

/** A line with a dark edge, seen on any ground. */
export function line(pen, path, style) {
	pen.lineJoin = "round";
	for (const [width, stroke] of [[4.5, "rgb(16 16 16 / 0.85)"], [2, style]]) {
		Object.assign(pen, { lineWidth: width, strokeStyle: stroke });
		pen.stroke(path);
	}
}
