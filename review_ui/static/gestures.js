/** Pointers on the stage: a mouse pans, its wheel zooms; one finger swipes a verdict, two pan and zoom. */

/** Calls swiped("accept") to the right, "reject" to the left, "unsure" up. */
export function listen(stage, swiped) {
	const { element } = stage, down = new Map();
	let start;
	const middle = () => {
		const [a, b = a] = [...down.values()];
		return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, Math.hypot(a[0] - b[0], a[1] - b[1])];
	};
	const follow = (x, y) => {
		element.style.setProperty("--x", `${x}px`);
		element.style.setProperty("--y", `${y}px`);
		element.dataset.swipe = Math.max(Math.abs(x), -y) < 70 ? "" : Math.abs(x) < -y ? "unsure" : x > 0 ? "accept" : "reject";
	};
	element.onwheel = (event) => {
		event.preventDefault();
		stage.item && stage.zoom(2 ** (-event.deltaY / 400), event.clientX, event.clientY);
	};
	element.onpointerdown = (event) => {
		if (event.button || !stage.item) return;
		element.setPointerCapture(event.pointerId);
		if (stage.editor) return stage.editor.down(event);
		down.set(event.pointerId, [event.clientX, event.clientY]);
		start = down.size < 2 && middle();
	};
	element.onpointermove = (event) => {
		if (stage.editor) return stage.editor.move(event);
		if (!down.has(event.pointerId) || !stage.item) return;
		const [x, y, apart] = middle();
		down.set(event.pointerId, [event.clientX, event.clientY]);
		const now = middle();
		if (event.pointerType === "touch" && down.size < 2) return start && follow(now[0] - start[0], Math.min(0, now[1] - start[1]));
		stage.pan(x - now[0], y - now[1]);
		apart && stage.zoom(now[2] / apart, ...now);
	};
	element.onpointerup = element.onpointercancel = ({ type, pointerId }) => {
		if (stage.editor) return stage.editor.up();
		down.delete(pointerId);
		const action = type === "pointerup" && start && element.dataset.swipe;
		follow(0, 0);
		start = null;
		action && swiped(action);
	};
}
