// The closing line of scripts/test: node scripts/tap-count.mjs FAILED_SUITES FILE.tap…
// Counts the assertions of TAP files, names what was skipped and why, prints "N passed, N failed, N skipped" alone on the last
// line, and exits 1 when anything failed. A suite that failed without a failed assertion counts as one.
import { readFileSync } from 'node:fs'

const [failedSuites, ...files] = process.argv.slice(2)
const counts = { passed: 0, failed: 0, skipped: 0 }
const skips = new Map()

for (const file of files) {
  const lines = readFileSync(file, 'utf8').split('\n')
  // a result line that closes a subtest repeats what was counted inside: it follows a deeper line
  let previousDepth = 0
  for (const line of lines) {
    const match = /^( *)(not ok|ok)\b(.*)$/.exec(line)
    if (match === null) continue
    const [, indent, verdict, text] = match
    const closes = previousDepth > indent.length
    previousDepth = indent.length
    const skip = / # (?:SKIP|TODO)\b ?(.*)$/i.exec(text)
    if (skip !== null) {
      counts.skipped++
      const reason = skip[1].trim() || 'no reason given'
      skips.set(reason, (skips.get(reason) ?? 0) + 1)
    } else if (closes) continue
    else counts[verdict === 'ok' ? 'passed' : 'failed']++
  }
}
if (counts.failed === 0) counts.failed = Number(failedSuites)
for (const [reason, times] of skips) console.log(`skipped ${times}: ${reason}`)
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1)
