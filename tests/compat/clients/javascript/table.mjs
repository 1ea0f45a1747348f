// What became of each call of a client, as table.py writes it down.

import { writeFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'

const CALL_LIMIT = 30_000 // Milliseconds after which a call counts as a hang.

export class Table {
  rows = []
  area = ''

  constructor(client) {
    this.client = client
  }

  // Make a call. `wanted` is its value, or says of a value whether it is right.
  async say(name, call, wanted) {
    try {
      const value = await limited(call)
      const right = typeof wanted === 'function' ? wanted(value) : isDeepStrictEqual(value, wanted)
      this.note(name, right ? '' : `gave ${JSON.stringify(value)}`)
      return value
    } catch (error) {
      this.note(name, `${error?.constructor?.name}: ${error?.stack ?? error}`)
    }
  }

  // A call that has to fail, with this class of the client's and these words.
  async fails(name, call, kind, words = '') {
    try {
      this.note(name, `gave ${JSON.stringify(await limited(call))} instead of ${kind.name}`)
    } catch (error) {
      const right = error instanceof kind && error.message.includes(words)
      this.note(name, right ? '' : `${error?.constructor?.name}: ${error?.message}`)
    }
  }

  note(name, wrong) {
    this.rows.push([this.area, name, wrong])
    if (wrong) console.error(`WRONG ${this.area}: ${name}: ${wrong}`)
  }

  markdown() {
    const lines = ['| area | calls | right | what |', '|---|---|---|---|']
    for (const area of new Set(this.rows.map((row) => row[0]))) {
      const its = this.rows.filter((row) => row[0] === area)
      const names = [...new Set(its.map(([, name]) => `\`${name.split(' ')[0]}\``))].join(', ')
      lines.push(`| ${area} | ${its.length} | ${its.filter((row) => !row[2]).length} | ${names} |`)
    }
    return lines.join('\n')
  }

  finish(file) {
    const document = { client: this.client, rows: this.rows, table: this.markdown() }
    console.log(document.table)
    if (file) writeFileSync(file, JSON.stringify(document))
    return this.rows.some((row) => row[2]) ? 1 : 0
  }
}

async function limited(call) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took ${CALL_LIMIT} ms`)), CALL_LIMIT)
  })
  try {
    return await Promise.race([call(), late])
  } finally {
    clearTimeout(timer)
  }
}
