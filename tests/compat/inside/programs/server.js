// A server and a client, worker threads, child processes, streams, crypto.
const http = require('http'), fs = require('fs'), crypto = require('crypto'), os = require('os');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { execFileSync } = require('child_process');

if (!isMainThread) {
  parentPort.postMessage([...Array(1000).keys()].reduce((a, b) => a + b));
} else {
  const server = http.createServer((request, response) => response.end('hello ' + request.url));
  server.listen(0, '127.0.0.1', async () => {
    const answer = await fetch(`http://127.0.0.1:${server.address().port}/x`);
    console.log(await answer.text());
    server.close();
    const sums = await Promise.all([1, 2].map(() => new Promise((done, fail) =>
      new Worker(__filename).on('message', done).on('error', fail))));
    console.log(sums);
    console.log(execFileSync('/bin/echo', ['child']).toString().trim());
    fs.writeFileSync('big', 'x'.repeat(1 << 20));
    const hash = crypto.createHash('sha256');
    for await (const chunk of fs.createReadStream('big')) hash.update(chunk);
    console.log(hash.digest('hex'), (await fs.promises.stat('big')).size);
    console.log(await WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])), os.hostname());
    crypto.pbkdf2('a', 'b', 1000, 16, 'sha1', (_, key) => console.log(key.toString('hex')));
  });
}
