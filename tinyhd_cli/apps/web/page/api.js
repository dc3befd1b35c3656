// Talks to the server: uploads, Gradio's queue, and the removal of files.

/** The identity of this page in the queue. */
const session = crypto.getRandomValues(new Uint32Array(4)).join("");

const LOST = "The connection to tinyhd was lost; start it again.";

export async function loadSettings() {
  return (await fetch("ui/settings")).json();
}

/** Upload a file; onProgress gets a fraction. Returns a promise of the server's description, and a function to stop. */
export function upload(file, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", `uploads?name=${encodeURIComponent(file.name || "pasted.png")}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () =>
      request.status === 200 ? resolve(request.response) : reject(new Error(request.response?.error || `${file.name} cannot be uploaded (error ${request.status}).`));
    request.onerror = () => reject(new Error(LOST));
    request.onabort = () => reject(new Error("canceled"));
    request.send(file);
  });
  return { done, stop: () => request.abort() };
}

/** Run a job. Messages are {waiting: number of jobs before it} and {done, total} in frames. */
export async function run(key, uploadId, settings, onMessage) {
  let joined;
  try {
    joined = await fetch("gradio_api/queue/join", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: [key, uploadId, settings], fn_index: 0, session_hash: session }),
    });
  } catch {
    throw new Error(LOST);
  }
  if (!joined.ok) throw new Error(`The job was refused (error ${joined.status}); reload the page.`);
  const { event_id } = await joined.json();
  return new Promise((resolve, reject) => {
    const stream = new EventSource(`gradio_api/queue/data?session_hash=${session}`);
    const end = (settle, value) => {
      stream.close();
      settle(value);
    };
    stream.onerror = () => end(reject, new Error(LOST));
    stream.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.event_id && message.event_id !== event_id) return;
      if (message.msg === "estimation") onMessage({ waiting: message.rank + 1 });
      if (message.msg === "process_starts") onMessage({ waiting: 0 });
      if (message.msg === "progress") {
        const { index, length } = message.progress_data[0];
        onMessage({ done: index, total: length });
      }
      if (message.msg === "process_completed") {
        if (!message.success) return end(reject, new Error(message.output.error || "The job failed."));
        end(resolve, message.output.data[0]);
      }
      if (message.msg === "unexpected_error") end(reject, new Error(LOST));
    };
  });
}

export const cancel = (key) => fetch(`jobs/${key}/cancel`, { method: "POST", keepalive: true });

/** Cancel while the page is being closed. */
export const cancelAtExit = (key) => navigator.sendBeacon(`jobs/${key}/cancel`);

export const removeUpload = (id) => fetch(`uploads/${id}`, { method: "DELETE", keepalive: true });

export const removeResult = (archive) => fetch(archive.replace(/\/all$/, ""), { method: "DELETE", keepalive: true });
