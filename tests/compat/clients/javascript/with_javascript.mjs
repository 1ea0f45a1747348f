// The unmodified clients for JavaScript, call by call: what with_e2b.py does for Python's.
//
// Run with E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL, from where they are installed.

import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

import { Sandbox as CodeSandbox } from '@e2b/code-interpreter'
import { CommandExitError, FileType, NotFoundError, Sandbox, SandboxError, TimeoutError } from 'e2b'

import { Table } from './table.mjs'

const pins = JSON.parse(readFileSync(new URL('package.json', import.meta.url))).dependencies
const table = new Table(`JavaScript: e2b ${pins.e2b}, @e2b/code-interpreter ${pins['@e2b/code-interpreter']}`)
const say = table.say.bind(table)
const fails = table.fails.bind(table)

async function until(right) {
  for (let tries = 0; tries < 200 && !right(); tries++) await pause(50)
  return right()
}

async function commands(box) {
  table.area = 'commands'
  const run = (...told) => box.commands.run(...told)
  await say('commands.run', () => run('echo hi; echo no >&2'), (r) => r.stdout === 'hi\n' && r.stderr === 'no\n')
  await say('commands.run envs', async () => (await run('echo $A; pwd', { envs: { A: '1 2' }, cwd: '/tmp' })).stdout, '1 2\n/tmp\n')
  await say('commands.run user', async () => (await run('whoami; pwd')).stdout, 'user\n/home/user\n')
  await fails('commands.run exit', () => run('echo bad >&2; exit 7'), CommandExitError, 'exit status 7')
  await fails('commands.run timeout', () => run('sleep 60', { timeoutMs: 500 }), TimeoutError)
  const heard = []
  await say(
    'commands.run onStdout',
    () => run('for n in 1 2 3; do echo $n; sleep 0.1; done', { onStdout: (text) => heard.push(text) }),
    () => heard.join('') === '1\n2\n3\n',
  )
  const cat = await say('commands.run background', () => run('cat', { background: true, stdin: true }), (h) => h.pid > 0)
  await say('commands.list', async () => (await box.commands.list()).map((p) => p.pid), (pids) => pids.includes(cat.pid))
  await say('commands.sendStdin', () => box.commands.sendStdin(cat.pid, 'there\n'), undefined)
  await say('handle.sendStdin', () => cat.sendStdin('and back\n'), undefined)
  await say('commands.closeStdin', () => box.commands.closeStdin(cat.pid), undefined)
  await say('handle.wait', async () => (await cat.wait()).stdout, 'there\nand back\n')
  const sleeping = await say('commands.run sleep', () => run('sleep 60', { background: true }), (h) => h.pid > 0)
  await say('commands.connect', async () => (await box.commands.connect(sleeping.pid)).pid, sleeping.pid)
  await say('commands.kill', () => box.commands.kill(sleeping.pid), true)
  await fails('handle.wait killed', () => sleeping.wait(), CommandExitError)
  await say('commands.kill nobody', () => box.commands.kill(999_999), false)
}

async function terminals(box) {
  table.area = 'terminals'
  let shown = ''
  const wanted = { cols: 100, rows: 30, onData: (data) => { shown += new TextDecoder().decode(data) } }
  const pty = await say('pty.create', () => box.pty.create(wanted), (h) => h.pid > 0)
  const type = (text) => box.pty.sendInput(pty.pid, new TextEncoder().encode(text))
  await say('pty.sendInput', () => type('stty size; echo "<$((6 * 7))>"\n'), undefined)
  await say('pty output', () => until(() => shown.includes('30 100') && shown.includes('<42>')), true)
  await say('pty.resize', () => box.pty.resize(pty.pid, { cols: 80, rows: 24 }), undefined)
  await type('stty size\n')
  await say('pty size', () => until(() => shown.includes('24 80')), true)
  await say('pty.kill', () => box.pty.kill(pty.pid), true)
}

async function files(box) {
  table.area = 'files'
  const there = box.files
  await say('files.write', () => there.write('a/b.txt', 'größe'), (info) => info.path === '/home/user/a/b.txt')
  await say('files.read', () => there.read('a/b.txt'), 'größe')
  await say('files.read bytes', async () => [...(await there.read('a/b.txt', { format: 'bytes' }))].length, 7)
  await say('files.read stream', async () => new Response(await there.read('a/b.txt', { format: 'stream' })).text(), 'größe')
  const several = [{ path: '/tmp/1', data: 'one' }, { path: '/tmp/2', data: new Uint8Array([0, 255]).buffer }]
  await say('files.write several', async () => (await there.write(several)).length, 2)
  await say('files.read binary', async () => [...(await there.read('/tmp/2', { format: 'bytes' }))], [0, 255])
  await say('files.getInfo', () => there.getInfo('a/b.txt'), (i) => i.size === 7 && i.type === FileType.FILE && i.owner === 'user')
  const metadata = { noted: 'two words' }
  await say('files.write metadata', async () => (await there.write('n.txt', 'x', { metadata })).metadata, metadata)
  await say('files.getInfo metadata', async () => (await there.getInfo('n.txt')).metadata, metadata)
  await say('files.makeDir', () => there.makeDir('d/e'), true)
  await say('files.makeDir again', () => there.makeDir('d/e'), false)
  await say('files.list', async () => (await there.list('.', { depth: 2 })).map((e) => e.name).sort(), (n) => n.includes('b.txt') && n.includes('e'))
  await say('files.rename', () => there.rename('a/b.txt', 'd/c.txt'), (info) => info.path === '/home/user/d/c.txt')
  await say('files.exists', async () => [await there.exists('d/c.txt'), await there.exists('a/b.txt')], [true, false])
  await say('files.remove', async () => { await there.remove('d'); return there.exists('d') }, false)
  await fails('files.read missing', () => there.read('none'), NotFoundError, 'does not exist')
  const seen = []
  await there.makeDir('watched')
  const watch = await say('files.watchDir', () => there.watchDir('watched', (event) => seen.push(`${event.type} ${event.name}`)), (w) => !!w)
  await there.write('watched/new', 'x')
  await say('watch event', () => until(() => seen.some((text) => text.endsWith(' new'))), true)
  await say('watch.stop', () => watch.stop(), undefined)
  await say('files.uploadUrl', async () => {
    const form = new FormData()
    form.append('file', new Blob(['sent']), 'up.txt')
    return (await fetch(await box.uploadUrl('/home/user/up.txt'), { method: 'POST', body: form })).status
  }, 200)
  await say('files.downloadUrl', async () => (await fetch(await box.downloadUrl('/home/user/up.txt'))).text(), 'sent')
}

async function life() {
  table.area = 'life'
  const metadata = { test: `js-${process.pid}` }
  const box = await say('Sandbox.create', () => Sandbox.create({ metadata, envs: { ALL: 'here' }, timeoutMs: 120_000 }), (b) => !!b.sandboxId)
  await say('isRunning', () => box.isRunning(), true)
  await say('commands.run envs of all', async () => (await box.commands.run('echo $ALL')).stdout, 'here\n')
  await say('getInfo', () => box.getInfo(), (info) => info.sandboxId === box.sandboxId && info.metadata.test === metadata.test)
  await say('setTimeout', () => box.setTimeout(300_000), undefined)
  await say('Sandbox.list', async () => {
    const pages = Sandbox.list({ query: { metadata } })
    return (await pages.nextItems()).map((each) => each.sandboxId)
  }, [box.sandboxId])
  await say('getMetrics', () => box.getMetrics(), (list) => Array.isArray(list))
  await box.files.write('kept', 'yes')
  await box.commands.run('sleep 300', { background: true })
  await say('pause', () => box.pause(), (answer) => answer !== undefined)
  const again = await say('Sandbox.connect', () => Sandbox.connect(box.sandboxId), (b) => b.sandboxId === box.sandboxId)
  await say('commands.list afterwards', async () => (await again.commands.list()).length, (n) => n >= 1)
  const snapshot = await say('createSnapshot', () => again.createSnapshot(), (s) => !!s.snapshotId)
  const copy = await say('Sandbox.create of a snapshot', () => Sandbox.create(snapshot.snapshotId), (b) => !!b.sandboxId)
  await say('files.read of a snapshot', () => copy.files.read('kept'), 'yes')
  await say('kill copy', () => copy.kill(), true)
  await say('Sandbox.deleteSnapshot', () => Sandbox.deleteSnapshot(snapshot.snapshotId), true)
  await say('kill', () => again.kill(), true)
  await say('isRunning afterwards', () => box.isRunning(), false)
  await fails('Sandbox.connect killed', () => Sandbox.connect(box.sandboxId), NotFoundError)
  await fails('commands.run killed', () => box.commands.run('true'), SandboxError)
  await fails('Sandbox.create of nothing', () => Sandbox.create('no-such-template'), SandboxError)
  await fails('Sandbox.create secure mcp', () => Sandbox.create({ mcp: { exa: { apiKey: 'x' } } }), SandboxError)
}

async function code() {
  table.area = 'code'
  const box = await say('CodeSandbox.create', () => CodeSandbox.create(), (b) => !!b.sandboxId)
  const run = (...told) => box.runCode(...told)
  await say('runCode', async () => (await run('x = 20\nx * 2 + 2')).text, '42')
  await say('runCode state', async () => (await run('print(x)')).logs.stdout.join(''), '20\n')
  await say('runCode error', async () => (await run('1 / 0')).error.name, 'ZeroDivisionError')
  const heard = []
  await say('runCode onStdout', () => run('print("a")\n"b"', { onStdout: (out) => heard.push(out.line), onResult: (r) => heard.push(r.text) }), () => heard.join('') === "a\n'b'")
  const plot = 'import matplotlib.pyplot as plt\nplt.bar(["a", "b"], [1, 2]); plt.title("T"); plt.show()'
  await say('runCode chart', async () => (await run(plot)).results[0], (r) => r.png.startsWith('iVBOR') && r.chart.type === 'bar' && r.chart.title === 'T')
  await say('runCode javascript', async () => (await run('let a = 6; a * 7', { language: 'js' })).text, '42')
  await say('runCode bash', async () => (await run('echo $((6 * 7))', { language: 'bash' })).logs.stdout.join(''), '42\n')
  await fails('runCode timeout', () => run('while True: pass', { timeoutMs: 1_000 }), TimeoutError)
  const context = await say('createCodeContext', () => box.createCodeContext({ cwd: '/tmp' }), (c) => c.cwd === '/tmp')
  await say('runCode context', async () => (await run('import os; y = 1; os.getcwd()', { context })).text, "'/tmp'")
  await say('listCodeContexts', async () => (await box.listCodeContexts()).map((c) => c.id), (ids) => ids.includes(context.id))
  await say('restartCodeContext', async () => { await box.restartCodeContext(context); return (await run('y', { context })).error.name }, 'NameError')
  await say('removeCodeContext', async () => { await box.removeCodeContext(context); return (await box.listCodeContexts()).some((c) => c.id === context.id) }, false)
  await say('kill', () => box.kill(), true)
}

const box = await Sandbox.create()
try {
  await commands(box)
  await terminals(box)
  await files(box)
} finally {
  await box.kill()
}
await life()
await code()
process.exit(table.finish(process.env.COMPAT_TABLE))
