// The JavaScript context: code is evaluated as the console of a debugger does it, by V8's own inspector
// within this process, so that `await` works at the top and names may be declared again.
//
// A worker thread reads requests, since the main thread may be in a loop that only the inspector ends.
// The line to the gateway is on descriptors 3 and 4; 1 and 2 are for programs that code starts.

const fs = require("fs");
const inspector = require("inspector");
const path = require("path");
const util = require("util");
const { createRequire } = require("module");
const { Worker } = require("worker_threads");

const TEXT_MAX = 1 << 20;
const VALUE_MAX = 8 << 20;
const PIECE = 32 << 10;
const FORMATS = {
  "text/plain": "text", "text/html": "html", "text/markdown": "markdown", "image/svg+xml": "svg",
  "image/png": "png", "image/jpeg": "jpeg", "application/pdf": "pdf", "text/latex": "latex",
  "application/json": "json", "application/javascript": "javascript",
};
const DISPLAY = Symbol.for("Jupyter.display");
const exit = process.reallyExit.bind(process);

let current = null;
let count = 0;
let interrupted = false;
let giveUp = null;
const queue = [];

function send(type, fields) {
  const data = Buffer.from(JSON.stringify({ type, run: current, ...fields }) + "\n");
  for (let at = 0; at < data.length; ) at += fs.writeSync(4, data, at);
}

function shortened(text) {
  return text.length <= TEXT_MAX ? text : text.slice(0, TEXT_MAX - 64) + "\n… more";
}

function output(name) {
  return (chunk, encoding, done) => {
    // By way of bytes, since half of a surrogate pair is no text.
    const data = Buffer.from(chunk, typeof encoding === "string" ? encoding : undefined);
    const text = data.toString();
    for (let at = 0; at < text.length; at += PIECE)
      send(name, { text: text.slice(at, at + PIECE), time: Date.now() / 1000 });
    const then = typeof encoding === "function" ? encoding : done;
    if (then) process.nextTick(then);
    return true;
  };
}

function show(value, main) {
  let formats;
  try {
    formats = value?.[DISPLAY]?.();
  } catch (error) {
    formats = undefined;
  }
  if (!formats || typeof formats !== "object") formats = { "text/plain": util.inspect(value) };
  const fields = { main, extra: {}, truncated: [] };
  for (const [kind, content] of Object.entries(formats)) {
    const name = FORMATS[kind];
    let kept = name === "text" ? shortened(String(content)) : content;
    if (Buffer.isBuffer(kept)) kept = kept.toString("base64");
    if ((JSON.stringify(kept) ?? "").length > VALUE_MAX) fields.truncated.push(name ?? kind);
    else if (name) fields[name] = kept;
    else fields.extra[kind] = kept;
  }
  send("result", fields);
}

// Without the frames that are ours.
function theirs(stack) {
  return stack.split("\n    at Session.post ", 1)[0];
}

function raise(error) {
  const known = error instanceof Error || (error && typeof error.message === "string");
  send("exception", {
    name: known ? String(error.name ?? "Error") : "Error",
    value: shortened(known ? String(error.message) : util.inspect(error)),
    traceback: shortened(known ? theirs(String(error.stack ?? error)) : util.inspect(error)),
  });
}

const session = new inspector.Session();
session.connect();
const post = (method, parameters) =>
  new Promise((done, fail) =>
    session.post(method, parameters, (error, result) => (error ? fail(error) : done(result))),
  );

// Values come out of the inspector by a call of this function with them.
const taken = Symbol.for("sandboxd.taken");
let box;
Object.defineProperty(globalThis, taken, { value: (value) => { box = value; } });

async function valueOf(remote) {
  if ("unserializableValue" in remote) return eval(remote.unserializableValue); // -0, NaN, 10n
  if (!remote.objectId) return remote.value;
  await post("Runtime.callFunctionOn", {
    functionDeclaration: 'function (value) { globalThis[Symbol.for("sandboxd.taken")](value); }',
    objectId: remote.objectId,
    arguments: [{ objectId: remote.objectId }],
  });
  return box;
}

async function evaluate(code) {
  const done = await Promise.race([
    post("Runtime.evaluate", {
      expression: code, replMode: true, awaitPromise: true, allowUnsafeEvalBlockedByCSP: true,
    }),
    new Promise((_, fail) => {
      giveUp = () => fail(new Error("interrupted"));
    }),
  ]);
  if (done.exceptionDetails) {
    const thrown = done.exceptionDetails.exception;
    raise(thrown ? await valueOf(thrown) : new Error(done.exceptionDetails.text));
    return "error";
  }
  const value = await valueOf(done.result);
  if (value !== undefined) show(value, true);
  return "ok";
}

const requests = {
  configure({ cwd }) {
    try {
      enter(cwd);
    } catch (error) {
      send("refused", { reason: "bad_cwd", detail: `${cwd}: ${error.code}` });
      return;
    }
    send("configured", {});
  },
  environment({ env }) {
    Object.assign(process.env, env);
  },
  async run(request) {
    current = request.run;
    interrupted = request.interrupted ?? false;
    count += 1;
    send("started", { execution_count: count });
    const outside = Object.fromEntries(Object.keys(request.env).map((name) => [name, process.env[name]]));
    Object.assign(process.env, request.env);
    let status;
    try {
      status = interrupted ? "error" : await evaluate(request.code);
    } catch (error) {
      status = "error";
      interrupted ||= error.message.endsWith("Execution was terminated");
      if (!interrupted) raise(error);
    }
    giveUp = null;
    if (interrupted) send("exception", { name: "Interrupted", value: "", traceback: "" });
    for (const [name, value] of Object.entries(outside))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    send("end", { of: request.run, status: interrupted ? "interrupted" : status });
    current = null;
    worker.postMessage({ over: request.run });
  },
};

let busy = false;
async function serve() {
  if (busy) return;
  busy = true;
  while (queue.length) {
    const request = queue.shift();
    await requests[request.op](request);
  }
  busy = false;
}

function hear(request) {
  if (request.op === "interrupt") {
    Atomics.add(heard, 0, 1);
    Atomics.notify(heard, 0);
    const waiting = queue.find((each) => request.run !== null && each.run === request.run);
    if (waiting) waiting.interrupted = true;
    else if (current !== null && (request.run === null || request.run === current)) {
      interrupted = true;
      giveUp?.();
    }
  } else if (request.op === "ask") {
    if (current !== request.run && !queue.some((each) => each.run === request.run))
      send("end", { of: request.run, status: "lost" });
  } else {
    queue.push(request);
    serve();
  }
}

function enter(directory) {
  process.chdir(directory);
  globalThis.require = createRequire(path.join(process.cwd(), "/"));
}

// How many interrupts the main thread has heard of.
const heard = new Int32Array(new SharedArrayBuffer(4));

// The reading thread: an interrupt has to end what the main thread is at before that can hear of it.
// Only then: a thread that waits hears by itself, and what is ended would be the hearing.
function reader() {
  const fs = require("fs");
  const inspector = require("inspector");
  const { parentPort, receiveMessageOnPort, workerData } = require("worker_threads");
  const { heard } = workerData;
  const session = new inspector.Session();
  session.connectToMainThread();
  const pending = new Set();
  const data = Buffer.alloc(65536);
  const decoder = new (require("string_decoder").StringDecoder)("utf8");
  let rest = "";
  for (;;) {
    const got = fs.readSync(3, data, 0, data.length, null);
    if (!got) process.reallyExit(0);
    const lines = (rest + decoder.write(data.subarray(0, got))).split("\n");
    rest = lines.pop();
    for (let said; (said = receiveMessageOnPort(parentPort)); ) pending.delete(said.message.over);
    for (const line of lines) {
      const request = JSON.parse(line);
      if (request.op === "run") pending.add(request.run);
      const before = Atomics.load(heard, 0);
      parentPort.postMessage(request);
      const first = pending.values().next().value;
      if (request.op !== "interrupt" || first === undefined || (request.run ?? first) !== first) continue;
      if (Atomics.wait(heard, 0, before, 50) === "timed-out")
        session.post("Runtime.terminateExecution", () => {});
    }
  }
}

process.stdout.write = output("stdout");
process.stderr.write = output("stderr");
process.exit = () => {
  throw Object.assign(new Error("a context is ended by removing it"), { name: "Exit" });
};
process.on("uncaughtException", (error) => process.stderr.write(`Uncaught ${util.inspect(error)}\n`));
process.on("SIGINT", () => {});
globalThis.module = { exports: {} };
globalThis.exports = globalThis.module.exports;
globalThis.display = (formats) => show({ [DISPLAY]: () => formats }, false);
enter(process.cwd());

const worker = new Worker(`(${reader})()`, { eval: true, workerData: { heard } });
worker.on("message", hear);
worker.on("exit", () => exit(0));
worker.on("error", (error) => {
  send("refused", { reason: "no_interpreter", detail: String(error) });
  exit(1);
});
