import t from 'tap'
import { answers, parseQuery, recordType, response, responseCode } from '#src/network/bridge/dns/message.ts'
import { framed, MessageReader } from '#src/network/bridge/dns/stream.ts'
import { lookUp } from '#src/network/bridge/dns/zone.ts'
import type { Member } from '#src/network/bridge/member.ts'
import { parseResolvConf } from '#src/network/resolv-conf.ts'

function query(name: string, type: number = recordType.A, flags = 0x0100): Buffer {
  const labels = name === '' ? [] : name.split('.')
  const question = Buffer.concat([
    ...labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0, 0, type, 0, 1]),
  ])
  const header = Buffer.from([0x12, 0x34, flags >> 8, flags & 255, 0, 1, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([header, question])
}

const member = (name: string, networks: Record<string, string[]>, aliases: string[] = []): Member => ({
  podId: name,
  pod: {
    namespace: () => Promise.reject(new Error('not asked for')),
    socket: () => Promise.reject(new Error('not asked for')),
    path: () => Promise.resolve(''),
  },
  ports: [],
  names: [name, ...aliases],
  details: {
    links: Object.entries(networks).map(([network, addresses], i) => ({
      network,
      addresses,
      hostName: `csn${i}`,
      alias: '',
      bridge: '',
      name: `eth${i}`,
      mac: '',
      mtu: 1500,
      hairpin: false,
      gateways: [],
      toPod: null,
      fromPod: null,
      ifb: '',
    })),
  },
})

t.test('a question and its answer', async (t) => {
  const parsed = parseQuery(query('Web.Front'))
  t.match(parsed, { id: 0x1234, name: 'web.front', type: 1, class: 1, recursion: true })
  if (parsed === null) return
  const data = Buffer.from([10, 0, 0, 2])
  const answer = response(parsed, responseCode.noError, [{ type: recordType.A, data }], 512)
  t.equal(answer.readUInt16BE(0), 0x1234)
  t.equal(answer.readUInt16BE(2), 0x8580)
  t.equal(answer.readUInt16BE(6), 1)
  t.ok(answer.subarray(-4).equals(data))
  t.ok(answers(answer, 0x1234, parsed.question))
  t.notOk(answers(answer, 0x1235, parsed.question))
  t.notOk(answers(query('web.front'), 0x1234, parsed.question), 'a question is no answer')
  const many = Array.from({ length: 100 }, () => ({ type: recordType.A, data }))
  const cut = response(parsed, responseCode.noError, many, 512)
  t.ok(cut.length <= 512)
  t.equal(cut.readUInt16BE(2) & 0x0200, 0x0200, 'says that it is cut')
})

t.test('what is no question is not answered', async (t) => {
  for (const bad of [
    Buffer.alloc(0),
    Buffer.alloc(11),
    query('a', 1, 0x8100), // an answer
    query('a', 1, 0x2900), // an update
    query('web').subarray(0, 14),
    Buffer.concat([query('web').subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]), // points at itself
    Buffer.concat([query('web').subarray(0, 12), Buffer.alloc(600, 1)]),
    query(Array<string>(130).fill('ab').join('.')),
  ]) {
    t.equal(parseQuery(bad), null)
  }
  t.equal(parseQuery(query(''))?.name, '')
  const dotted = Buffer.concat([
    query('x').subarray(0, 12),
    Buffer.from([5]),
    Buffer.from('a.b.c'),
    Buffer.from([0, 0, 1, 0, 1]),
  ])
  t.not(parseQuery(dotted)?.name, 'a.b.c')
})

t.test('thousands of messages by chance', async (t) => {
  let seed = 11
  const random = (below: number): number => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below
  let parsed = 0
  for (let i = 0; i < 20_000; i++) {
    const message = query('web.front.example')
    for (let j = random(4); j >= 0; j--) message[random(message.length)] = random(256)
    const found = parseQuery(message.subarray(0, random(4) === 0 ? random(message.length) : message.length))
    if (found === null) continue
    parsed++
    const answer = response(found, 0, [{ type: 1, data: Buffer.alloc(4) }], 512)
    if (!answers(answer, found.id, found.question)) t.fail(message.toString('hex'))
  }
  t.ok(parsed > 200, `${parsed} were questions`)
})

t.test('messages come in any pieces', async (t) => {
  const sent = ['a', 'bcd', 'x'.repeat(1000)].map((text) => Buffer.from(text))
  const stream = Buffer.concat(sent.map(framed))
  for (const step of [1, 2, 3, 7, 1000, 5000]) {
    const reader = new MessageReader()
    const read: string[] = []
    for (let at = 0; at < stream.length; at += step) {
      read.push(...reader.push(stream.subarray(at, at + step)).map(String))
    }
    t.strictSame(read, sent.map(String))
  }
})

t.test('names of those who share a network', async (t) => {
  const members = [
    member('web', { front: ['10.89.0.2/22', 'fd00::2/64'] }, ['WWW']),
    member('db', { front: ['10.89.0.3/22'], back: ['10.99.0.2/24'] }),
    member('only', { back: ['10.99.0.3/24'] }),
  ]
  const find = (networks: string[], name: string, type: number = recordType.A): string[] | null => {
    const found = lookUp(members, { networks: new Set(networks), forwards: true }, name, type)
    return (
      found?.map(({ type: kind, data }) => (kind === recordType.PTR ? data.toString('latin1') : [...data].join('.'))) ??
      null
    )
  }
  t.strictSame(find(['front'], 'web'), ['10.89.0.2'])
  t.strictSame(find(['front'], 'www'), ['10.89.0.2'])
  t.strictSame(find(['front'], 'www.front'), ['10.89.0.2'])
  t.strictSame(find(['front'], 'web.back'), null)
  t.strictSame(find(['front'], 'web', recordType.AAAA), ['253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2'])
  t.strictSame(find(['front'], 'db', recordType.AAAA), [], 'known, without an address of the family')
  t.strictSame(find(['front'], 'db'), ['10.89.0.3'])
  t.strictSame(find(['back'], 'db'), ['10.99.0.2'])
  t.strictSame(find(['front', 'back'], 'db'), ['10.89.0.3', '10.99.0.2'])
  t.strictSame(find(['front'], 'only'), null)
  t.strictSame(find(['front'], '2.0.89.10.in-addr.arpa', recordType.PTR), ['\x03web\x05front\0'])
  t.strictSame(find(['front'], '3.0.99.10.in-addr.arpa', recordType.PTR), null)
  const six = `2.${'0.'.repeat(27)}0.0.d.f.ip6.arpa`
  t.strictSame(find(['front'], six, recordType.PTR), ['\x03web\x05front\0'])
})

t.test('resolv.conf', async (t) => {
  t.strictSame(
    parseResolvConf(
      '# a comment\nnameserver 10.0.0.1 ; one\n nameserver fd00::1\nsearch a.example b.example\noptions ndots:2\noptions edns0\n',
    ),
    { servers: ['10.0.0.1', 'fd00::1'], searches: ['a.example', 'b.example'], options: ['ndots:2', 'edns0'] },
  )
})
