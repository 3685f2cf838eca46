"""The style sheet of the HTML report: light on screen, clean on A4."""

STYLE = """\
:root { --ink: #1b2422; --faint: #5f6b68; --line: #d5dbd9; --ground: #f4f6f5; --accent: #0f766e; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.2rem 1.4rem 3rem; }
h1 { margin: 0 0 .3rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h1 span { display: inline-block; width: 1.25em; color: var(--accent); }
h1.does-not-fit span { color: #b3261e; }
h1.close span, h1.unknown span { color: #8a5a00; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
.run { margin: 0 0 1.2rem; color: var(--faint); overflow-wrap: anywhere; }
.run strong { color: var(--ink); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem; }
.figure { display: flex; flex-direction: column; gap: .1rem; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px; }
.label, .interval, .basis { color: var(--faint); font-size: .84rem; }
.value { font-size: 1.4rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.chip { align-self: flex-start; margin: .15rem 0; padding: 0 .55em; border-radius: 1em; background: var(--ground); font-size: .84rem; }
p { margin: .4rem 0; max-width: 46rem; }
ul { margin: .4rem 0; padding-left: 1.2rem; max-width: 46rem; }
li { margin: .15rem 0; overflow-wrap: anywhere; }
.wide, .chart { overflow-x: auto; }
.chart svg { display: block; width: 100%; min-width: 26rem; max-width: 46rem; margin: .6rem 0; font-variant-numeric: tabular-nums; }
.chart svg :is(rect, polygon, path, polyline):has(> title):hover { opacity: .72; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--faint); font-weight: 500; }
td { overflow-wrap: break-word; }
table.many { font-size: .84rem; }
.number { text-align: right; white-space: nowrap; }
pre { margin: .5rem 0; padding: .8rem 1rem; overflow-x: auto; border-radius: 6px; background: var(--ground); font-size: .86rem; line-height: 1.45; }
details { margin-top: 2rem; }
summary { cursor: pointer; }
summary h2 { display: inline; }
footer { margin-top: 2.5rem; padding-top: .7rem; border-top: 1px solid var(--line); color: var(--faint); font-size: .84rem; }
@media (max-width: 30rem) { main { padding: 1.2rem .9rem 2rem; } h1 { font-size: 1.5rem; } }
@page { size: A4; margin: 16mm 15mm; }
@media print {
  body { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 17pt; }
  h2 { margin-top: 14pt; break-after: avoid; }
  .rest { break-before: page; }
  .rest h2 { margin-top: 0; }
  .figures { grid-template-columns: repeat(4, 1fr); gap: 5pt; }
  .figure { padding: 6pt 8pt; }
  .value { font-size: 12.5pt; }
  .wide, .chart { overflow: visible; }
  table.many { font-size: 7pt; }
  table.many th, table.many td { padding-right: .35rem; }
  th.number { white-space: normal; }
  td { overflow-wrap: anywhere; }
  .chart svg { min-width: 0; max-width: 150mm; }
  .chart, .figures, tr, pre { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  .chip, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
