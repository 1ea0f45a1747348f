"""Programs for Node, each compared with a cold `node main.js`."""

from tests.warm.script import Script
from tests.warm.script import s as script

_PID = (r"\(node:\d+\)", "(node:PID)")
_PID_WHY = "warnings name the process; a cold one has another number"


def _s(id: str, source: str, **more: object) -> Script:
    return script(f"node-{id}", source, language="node", **more)


NODE: list[Script] = [
    # Who it is.
    _s("argv", "console.log(process.argv, process.argv0, process.execPath)", args=("a", "", "-b", "é")),
    _s("exec-argv", "console.log(process.execArgv, process._preload_modules)"),
    _s("env", "console.log(process.env, Object.keys(process.env))", env={"A": "1", "EMPTY": ""}),
    _s("env-set", "process.env.X = 'y'; delete process.env.HOME; console.log({...process.env})"),
    _s("main", "console.log(require.main === module, module.id, module.filename, module.paths)"),
    _s("parent", "console.log(module.parent, module.children, module.loaded)"),
    _s("names", "console.log(__filename, __dirname, process.cwd(), process.mainModule === module)"),
    _s("cache", "console.log(Object.keys(require.cache), require('module')._pathCache)"),
    _s("globals", "console.log(Object.getOwnPropertyNames(globalThis))"),
    _s("process-keys", "console.log(Object.getOwnPropertyNames(process).sort())"),
    _s("builtins", "console.log(require('module').builtinModules.length, process.versions)"),
    _s("ids", "console.log(process.getuid(), process.getgid(), process.getgroups(), process.umask())"),
    _s("title", "console.log(process.title, process.platform, process.arch, process.ppid)"),
    _s("options", "console.log(process.allowedNodeEnvironmentFlags.size, process.features.inspector)"),
    _s("locale", "console.log(Intl.DateTimeFormat().resolvedOptions(), new Date(0).toString())"),
    _s("heap", "console.log(require('v8').getHeapStatistics().heap_size_limit)"),
    # Streams.
    _s("stdin-sync", "console.log(require('fs').readFileSync(0, 'utf8'))", stdin="one\ntwo é\n"),
    _s("stdin-empty", "console.log(require('fs').readFileSync(0).length)"),
    _s("stdin-stream", "process.stdin.on('data', d => console.log(d)).on('end', () => console.log('.'))",
       stdin="some text"),
    _s("stdin-lines", """
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => console.log([line])).on("close", () => console.log("closed"));
""", stdin="a\nb\n\nc"),
    _s("stdin-binary", "console.log(require('fs').readFileSync(0).toString('hex'))", stdin=b"\0\xff\r\n"),
    _s("streams", """
for (const name of ["stdin", "stdout", "stderr"]) {
  const stream = process[name];
  console.log(name, stream.constructor.name, stream.fd, stream.isTTY, stream.writableHighWaterMark);
}
"""),
    _s("stderr", "console.error('bad'); console.warn('worse'); process.stderr.write('no end')"),
    _s("much", "for (let i = 0; i < 5000; i++) console.log(`line ${i}`)"),
    _s("binary", "process.stdout.write(Buffer.from([0, 255, 10, 13, 128]))"),
    # As much as a pipe holds: Node drops the rest at its exit, if nobody has read meanwhile.
    _s("write-exit", "process.stdout.write('x'.repeat(60000)); process.exit(3)", status="nonzero_exit"),
    # Ends.
    _s("exit-code", "process.exitCode = 7", status="nonzero_exit"),
    _s("exit-handlers", """
process.on("beforeExit", () => console.log("before")).on("exit", (code) => console.log("exit", code));
"""),
    _s("throw", "function f() { throw new TypeError('bad'); }\nf();", status="nonzero_exit"),
    _s("throw-value", "throw { a: 1 }", status="nonzero_exit"),
    _s("rejection", "Promise.reject(new Error('lost'))", status="nonzero_exit"),
    _s("syntax", "let x = ;", status="nonzero_exit"),
    _s("missing", "require('./nothing')", status="nonzero_exit"),
    _s("abort", "process.kill(process.pid, 'SIGKILL')", status="signalled"),
    _s("signal", """
process.on("SIGTERM", () => { console.log("told"); clearInterval(waiting); });
const waiting = setInterval(() => {}, 1000);
process.kill(process.pid, "SIGTERM");
"""),
    _s("overflow", "function f() { f(); }\ntry { f(); } catch (e) { console.log(e.name, e.message); }"),
    _s("stack", "console.log(new Error('here').stack)"),
    _s("stack-limit", "Error.stackTraceLimit = 100; console.log(new Error('all').stack)"),
    _s("warning", "process.emitWarning('careful'); new Buffer(1)", normal=(_PID,), why=_PID_WHY),
    # Modules.
    _s("require", "console.log(require('./lib/a'), require('./data.json'))",
       files={"lib/a.js": "module.exports = [__filename, module.parent.id]", "data.json": "{\"x\": 1}"}),
    _s("package", "import { x } from './m.js'; console.log(x, import.meta.url)",
       files={"package.json": '{"type": "module"}', "m.js": "export const x = 41 + 1;"}),
    _s("import", "import('./m.mjs').then((m) => console.log(m.x))",
       files={"m.mjs": "export const x = 5;"}),
    _s("node-modules", "console.log(require('p'))", files={"node_modules/p/index.js": "exports.q = 1"}),
    # Threads and processes.
    _s("worker", """
const { Worker, isMainThread, parentPort } = require("worker_threads");
if (isMainThread) new Worker(__filename).on("message", (m) => console.log(m));
else parentPort.postMessage([process.argv, process.execArgv, Object.keys(require.cache), module.id]);
"""),
    _s("child", """
const { execFileSync } = require("child_process");
const asked = "[process.execArgv, process.env.NODE_OPTIONS]";
console.log(execFileSync(process.execPath, ["-p", asked]).toString());
"""),
    _s("fork", """
const { fork } = require("child_process");
if (process.send) process.send([process.argv, process.execArgv]);
else fork(__filename, ["x"]).on("message", (m) => console.log(m)).on("exit", (c) => console.log(c));
"""),
    _s("spawn-inherit", "require('child_process').spawnSync('cat', { stdio: 'inherit' })",
       stdin="through"),
    _s("timers", """
setTimeout(() => console.log("timeout"), 1);
setImmediate(() => console.log("immediate"));
Promise.resolve().then(() => console.log("promise"));
process.nextTick(() => console.log("tick"));
""", normal=((r"(immediate\n|timeout\n){2}", "both\n"),), why="which of the two is first is a race"),
    _s("network", "require('net').connect(9, '127.0.0.1').on('error', (e) => console.log(e.code))"),
    _s("dns", "require('dns').lookup('localhost', (e, a) => console.log(e && e.code, a))"),
    _s("crypto", "console.log(require('crypto').createHash('sha256').update('x').digest('hex'))"),
    _s("wasm", "console.log(WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])))"),
    _s("limits", "console.log(require('fs').readFileSync('/proc/self/limits', 'utf8'))"),
    _s("status", "console.log(require('fs').readFileSync('/proc/self/status', 'utf8').match("
                 "/^(Uid|Gid|Groups|Cap\\w+|NoNewPrivs|Seccomp|Umask|Sig(Blk|Ign|Cgt)):.*$/gm))"),
    _s("memory", "const a = []; for (;;) a.push(Buffer.alloc(8 << 20, 1))", status="memory_exceeded",
       limits={"memory": 134217728}),
    _s("cpu", "for (;;);", status="cpu_time_exceeded", limits={"cpu_time": 0.3, "wall_time": 20}),
    _s("descriptors", """
const fs = require("fs");
const name = (fd) => { try { return fs.readlinkSync(`/proc/self/fd/${fd}`); } catch { return ""; } };
const kinds = fs.readdirSync("/proc/self/fd").map((fd) => name(fd).replace(/\\d+/, "N"));
console.log(kinds.sort().join("\\n"));
"""),
    _s("emitter", "require('events').prototype.emit.call(new (require('events'))(), 'error', Error('e'))",
       status="nonzero_exit"),
    _s("uncaught", "process.on('uncaughtException', (e, o) => console.log(o, e.message)); null.x"),
    _s("exit-in-exit", "process.on('exit', () => process.exit(9)); process.exit(2)",
       status="nonzero_exit"),
    _s("abort-signal", "process.abort()", status="signalled", normal=((r"(?s).*", ""),),
       why="a report with addresses, process numbers and ticks"),
    _s("async-ids", """
const hooks = require("async_hooks");
console.log(hooks.executionAsyncId(), hooks.triggerAsyncId(), new hooks.AsyncResource("x").asyncId());
"""),
    _s("active", """
console.log(process.getActiveResourcesInfo(), process._getActiveHandles().length, process.eventNames());
"""),
    _s("colours", """
console.log({ a: [1, "b", null] }, require("tty").WriteStream.prototype.getColorDepth());
""", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}),
    _s("no-colours", "console.log({ a: 1 }); console.table([{ a: 1 }])", env={"NO_COLOR": "1"}),
    _s("paths", "console.log(require('module').globalPaths, require.resolve.paths('x'), module.paths)"),
    _s("extensions", "console.log(require.extensions, require('vm').runInNewContext('typeof require'))"),
    _s("prepare", """
Error.prepareStackTrace = (error, frames) => frames.map((f) => f.getFileName() + ":" + f.getLineNumber());
console.log(new Error("x").stack);
"""),
    _s("await-top", "const x = await Promise.resolve(3); console.log(x, import.meta.url, typeof require)",
       files={"package.json": '{"type": "module"}'}),
    # Without a look at package.json, m.js would be taken for the older kind.
    _s("module-throws", "import './m.js'", status="nonzero_exit",
       files={"package.json": '{"type": "module"}', "m.js": "throw Error('m')"}),
    _s("worker-eval", """
const { Worker } = require("worker_threads");
const told = "[process.env.A, process.argv, __filename]";
const code = `require('worker_threads').parentPort.postMessage(${told})`;
new Worker(code, { eval: true, argv: ["z"], env: { A: "2" } }).on("message", (m) => console.log(m));
""", env={"A": "1"}),
    _s("worker-throws", """
const { Worker } = require("worker_threads");
new Worker("throw new Error('inside')", { eval: true }).on("error", (e) => console.log(e.stack));
"""),
    _s("child-stdin", """
const child = require("child_process").spawn("cat");
child.stdout.on("data", (d) => console.log(String(d))).on("close", () => console.log("closed"));
child.stdin.end("given");
"""),
    _s("child-fails", "console.log(require('child_process').spawnSync('/nowhere').error.code)"),
    _s("stdin-pause", """
process.stdin.once("data", (d) => { console.log(d.length); process.stdin.pause(); });
process.on("exit", () => console.log(process.stdin.isPaused(), process.stdin.destroyed));
""", stdin="x" * 1000),
    _s("zlib", "console.log(require('zlib').gunzipSync(require('zlib').gzipSync('abc')).toString())"),
    _s("url", "console.log(new URL('http://a/b?c=1').searchParams, structuredClone(new Map([[1, 2]])))"),
    _s("inspector", "console.log(require('inspector').url(), process.debugPort)"),
    _s("report", "console.log(Object.keys(process.report.getReport()), process.report.directory)"),
    _s("main-json", "console.log(require('./package.json').name, process.env.npm_package_name)",
       files={"package.json": '{"name": "p", "main": "other.js"}', "other.js": ""}),
    _s("large-file", "console.log(require('fs').readFileSync('d/e/f').length)",
       files={"d/e/f": "y" * 300_000}),
    _s("process-name", "console.log(require('fs').readFileSync('/proc/self/comm', 'utf8'))"),
    # It began with another environment, so another interpreter than the one that waits.
    _s("options-cold", "console.log(process.execArgv, process.env.NODE_OPTIONS)", warm=False,
       env={"NODE_OPTIONS": "--stack-trace-limit=5"}),
    # Chance.
    _s("random", "console.log(Math.random(), require('crypto').randomUUID())", random=True,
       why="random numbers"),
]  # fmt: skip

DIFFERENT: list[Script] = [
    _s(
        "proc-cmdline",
        "console.log(require('fs').readFileSync('/proc/self/cmdline', 'utf8'))",
        args=("one",),
    ),
    _s("proc-environ", "console.log(require('fs').readFileSync('/proc/self/environ', 'utf8'))"),
    _s("hook", "console.log(require('fs').existsSync('/opt/sandboxd/node'))"),
    _s("module-list", "console.log(process.moduleLoadList.length)"),
    _s("descriptor", "console.log(require('fs').openSync('/dev/null'))"),
]
"""What can be seen, each a row of `docs/warm.md`."""
