"use strict";
// Holds Node, inside its sandbox, at the moment before it looks for its script.
//
// Node was started as `node /work/main.js` under every lock of the sandbox, with this file preloaded. It waits
// in native/await.c for the one order and leaves no trace of itself; then Node goes on as always. Threads preload
// it too, long after: for them there is nothing to wait for.

// What nearly every program uses, compiled while nobody waits. None of it touches a stream of the process.
for (const name of ["net", "stream", "tty", "util", "readline"]) require(name);
require("util").format("%s %d %o", "", 0, [{}, new Map(), new Error("")]);

const addon = { exports: {} };
process.dlopen(addon, `${__dirname}/await.so`);
if (Array.isArray(addon.exports)) {
  process.argv.push(...addon.exports.slice(2));
  process.chdir("."); // or process.cwd() says where it was
}

process._preload_modules.length = 0;
const Module = require("module");
delete require.cache[__filename];
for (const key of Object.keys(Module._pathCache))
  if (Module._pathCache[key] === __filename) delete Module._pathCache[key];
