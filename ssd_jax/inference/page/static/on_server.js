// Detects on the server of the page: `detecting.js` of `ssd-jax predict --serve`.

const TRIES = 5; // if the server is busy

/** Each frame of a video would be sent over the network. */
export const isLocal = false;

/** The server is ready, because it has sent the page. */
export const ready = Promise.resolve();

/** The detections in a file, in the form of detections.json; retries if the server is busy. */
export async function detectIn(file, signal, showStatus) {
  for (let i = 1; ; i++) {
    let response;
    try {
      response = await fetch("detect", {
        method: "POST",
        body: file,
        headers: { "Content-Type": "application/octet-stream" },
        signal,
      });
    } catch (error) {
      throw signal.aborted ? error : new Error("the server cannot be reached. Is it running?");
    }
    if (response.ok) return { answer: await response.json() };
    if (response.status !== 503 || i === TRIES) {
      const { error } = await response.json().catch(() => ({}));
      throw new Error(error ?? `the server answered with the status ${response.status}`);
    }
    showStatus("The server is busy, waiting …");
    const seconds = Number(response.headers.get("Retry-After") ?? 2) + Math.random();
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    signal.throwIfAborted();
  }
}
