// Prints ginkgo's JSON report as tables of Markdown: node scripts/critest.d/table.mjs REPORT [REASONS]
// REASONS: lines of "part of a spec's name<TAB>why it is not run".
import { readFileSync } from 'node:fs'

const [report, reasons] = process.argv.slice(2)
const suites = JSON.parse(readFileSync(report, 'utf8'))
const impossible = (reasons === undefined ? '' : readFileSync(reasons, 'utf8'))
  .split('\n')
  .filter((line) => line.includes('\t'))
  .map((line) => line.split('\t'))

const specs = suites
  .flatMap(({ SpecReports }) => SpecReports ?? [])
  .filter(({ LeafNodeType, State }) => LeafNodeType === 'It' || State === 'failed' || State === 'panicked')
  // of another mode of critest, -benchmark
  .filter(({ LeafNodeText, State }) => !(State === 'skipped' && LeafNodeText.startsWith('benchmark about')))
  .map((spec) => ({
    group: (spec.ContainerHierarchyTexts ?? []).map((text) => text.replace('[k8s.io] ', '')).join(' · '),
    name: (spec.LeafNodeText || spec.LeafNodeType).replace(' [Conformance]', ''),
    state: spec.State,
    seconds: (spec.RunTime ?? 0) / 1e9,
    said: spec.Failure?.Message ?? '',
  }))

const cell = (text) => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ').trim()
const why = ({ group, name, said }) =>
  impossible.find(([part]) => `${group} ${name}`.includes(part))?.[1] ?? (said || 'not chosen')
function table(title, chosen, columns) {
  if (chosen.length === 0) return
  console.log(`\n### ${title}: ${chosen.length}\n`)
  const [names] = [Object.keys(columns)]
  console.log(`| ${names.join(' | ')} |\n|${names.map(() => '---').join('|')}|`)
  for (const spec of chosen)
    console.log(
      `| ${Object.values(columns)
        .map((column) => cell(column(spec)))
        .join(' | ')} |`,
    )
}

const by = (...states) =>
  specs
    .filter(({ state }) => states.includes(state))
    .sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : a.name < b.name ? -1 : 1))
const failed = specs.filter(({ state }) => !['passed', 'skipped', 'pending'].includes(state))
const group = ({ group }) => group
const name = ({ name }) => name
table('Failed', failed, { group, spec: name, why: ({ said, state }) => said.slice(0, 600) || state })
table('Skipped', by('skipped', 'pending'), { group, spec: name, why })
table('Passed', by('passed'), { group, spec: name, seconds: ({ seconds }) => seconds.toFixed(1) })
const passed = by('passed').length
console.log(`\n${passed} passed, ${failed.length} failed, ${specs.length - passed - failed.length} skipped`)
