/** HTTP to our own origin, in JSON. */

/** What the server refused, an Error with its `status`. 0: no answer; 401 also where a page came instead of JSON. */
const refusal = (status, problem = {}, wait_s = 0) => Object.assign(
	new Error(problem.detail || problem.title || (status ? `Error ${status}.` : "No connection.")), { status, problem, wait_s });

/** Why the server refused; any other error is thrown on. */
export function refused(error) {
	if (error.status === undefined) throw error;
	return error.message;
}

/** {value, etag} of the answer. */
export async function call(method, path, body, headers) {
	let answer, text, value;
	try {
		const sent = body && JSON.stringify(body);
		answer = await fetch(path, {
			method, body: sent, signal: AbortSignal.timeout(20000),
			keepalive: sent?.length < 30000, // goes out even if the page is closed now
			headers: { Accept: "application/json", "Content-Type": "application/json", ...headers },
		});
		text = await answer.text();
	} catch { throw refusal(0); }
	try { value = JSON.parse(text || "{}"); } catch { if (answer.ok) throw refusal(401); }
	if (!answer.ok) throw refusal(answer.status, value, +answer.headers.get("Retry-After"));
	return { value, etag: answer.headers.get("ETag") };
}

export const candidate = (id, run, what = "") => `/v1/candidates/${encodeURIComponent(id)}${what}?run=${encodeURIComponent(run)}`;
export const ofRun = (id, what) => `/v1/review/runs/${encodeURIComponent(id)}/${what}`;
