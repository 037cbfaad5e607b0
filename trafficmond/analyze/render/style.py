"""The style sheet of the HTML report: system fonts, light or dark as the reader's system is, from phone to paper."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --line: #e1e5ea; --faint: #eef1f4;
  --text: #17202b; --soft: #55606e; --link: #1456b8;
  --bar: #3b76d6; --bar-soft: #c9daf6; --drop: #d9480f; --up: #0f9d8a;
  --c0: #3b76d6; --c1: #0f9d8a; --c2: #c2571a; --c3: #8a5bd1; --c4: #b3852b; --c5: #c43d76; --c6: #4f8a3a;
  --critical: #9c1c34; --high: #c92a2a; --medium: #b05a00; --low: #1c7293; --good: #1b7a3d;
  --critical-bg: #fbe7ec; --high-bg: #fdeaea; --medium-bg: #fdf1e0; --low-bg: #e3f2f8; --good-bg: #e4f5ea;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #10151c; --card: #19212b; --line: #2c3744; --faint: #222c38;
    --text: #e7ecf2; --soft: #9fabba; --link: #8bb8ff;
    --bar: #6ea2f5; --bar-soft: #2b4063; --drop: #ff8a50; --up: #4fd0bd;
    --c0: #6ea2f5; --c1: #4fd0bd; --c2: #ff9a5c; --c3: #b79af2; --c4: #e0bd62; --c5: #f287b0; --c6: #93cf7a;
    --critical: #ff8fa5; --high: #ff8787; --medium: #ffb357; --low: #74c7e3; --good: #69d391;
    --critical-bg: #431a26; --high-bg: #3d1d20; --medium-bg: #3a2a14; --low-bg: #15323e; --good-bg: #173524;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .8rem; letter-spacing: -.005em; }
p { margin: 0; }
.soft { color: var(--soft); }
.about { font: .84rem/1.3 system-ui, sans-serif; }
.mono { font-family: var(--mono); font-size: .92em; overflow-wrap: anywhere; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
header { margin-bottom: 1.1rem; }
header p.kind { font-size: .84rem; font-weight: 600; margin-bottom: .1rem; }
header p { color: var(--soft); font-size: .93rem; overflow-wrap: anywhere; }
.verdict {
  display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .6rem; border-radius: .7rem;
  padding: .75rem 1rem; margin-bottom: 1.1rem; font-weight: 600;
}
.verdict span.rest { font-weight: 400; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1.05rem 1.15rem 1.15rem;
  margin-bottom: 1.1rem; min-width: 0;
}
.tiles { display: grid; gap: 1px; padding: 0; overflow: hidden; background: var(--line);
  grid-template-columns: repeat(6, 1fr); }
@media (max-width: 60rem) { .tiles { grid-template-columns: repeat(3, 1fr); } }
.tile { background: var(--card); padding: .8rem 1.15rem .85rem; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.25; font-weight: 650; letter-spacing: -.02em; }
.tile span { color: var(--soft); font-size: .84rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 1.1rem; }
.flow { columns: 2 24rem; column-gap: 1.1rem; margin-bottom: 1.1rem; }
.flow > .card { break-inside: avoid; } .flow > .card:last-child { margin-bottom: 0; }
a { color: var(--link); text-underline-offset: .15em; }
.badge {
  display: inline-block; border-radius: .35rem; padding: .1rem .5rem; font-size: .74rem; font-weight: 700;
  letter-spacing: .03em; text-transform: uppercase; white-space: nowrap;
}
.critical { color: var(--critical); background: var(--critical-bg); }
.high { color: var(--high); background: var(--high-bg); }
.medium { color: var(--medium); background: var(--medium-bg); }
.low { color: var(--low); background: var(--low-bg); }
.good { color: var(--good); background: var(--good-bg); }
.threat { padding: .95rem 0; border-top: 1px solid var(--line); break-inside: avoid; }
.threat:first-of-type { border-top: 0; padding-top: 0; }
.threat:last-child { padding-bottom: 0; }
.threat h3 { font-size: 1rem; line-height: 1.4; margin: .4rem 0 .2rem; font-weight: 600; overflow-wrap: anywhere; }
.threat .meta { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .7rem; font-size: .88rem;
  color: var(--soft); }
.threat .meta > * { min-width: 0; }
.threat .when { font-size: .88rem; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .22rem 1rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
dl.facts { grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr)); gap: .55rem 1rem; margin-top: .7rem;
  padding: .7rem .85rem .75rem; background: var(--faint); border-radius: .5rem; }
.facts .wide { grid-column: 1 / -1; }
.facts dt { font-size: .78rem; line-height: 1.35; }
.chart { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: .55rem; }
.chart .scale { display: flex; flex-direction: column; justify-content: space-between; text-align: right;
  color: var(--soft); font-size: .76rem; line-height: 1; margin: -.38rem 0; min-width: 3.4rem; }
.chart svg { display: block; width: 100%; height: 100%; overflow: visible; }
.chart .plot { height: 11rem; }
.chart .plot.low-plot { height: 5rem; }
.chart .times { grid-column: 2; display: flex; justify-content: space-between; color: var(--soft); font-size: .76rem;
  margin-top: .4rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .84rem; color: var(--soft);
  margin: -.35rem 0 .8rem; }
.legend.second { margin: 1.1rem 0 .7rem; }
.legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; margin-right: .4rem;
  vertical-align: -.04rem; background: var(--bar); }
.legend i.drop { background: var(--drop); }
.legend i.up { background: var(--up); }
.legend i.mark { background: var(--high); border-radius: 50%; }
svg .bar { fill: var(--bar); } svg .drop { fill: var(--drop); } svg .grid { stroke: var(--line); }
svg .base { stroke: var(--soft); } svg .mark { stroke: var(--high); } svg .area { fill: var(--bar-soft); }
svg .up { fill: var(--up); }
.c0 { --own: var(--c0); } .c1 { --own: var(--c1); } .c2 { --own: var(--c2); } .c3 { --own: var(--c3); }
.c4 { --own: var(--c4); } .c5 { --own: var(--c5); } .c6 { --own: var(--c6); } .cx { --own: var(--soft); }
svg .end { stroke: var(--own); }
svg .band { fill: var(--own); opacity: .38; } svg .band:hover { opacity: .75; }
.exchange { position: relative; height: var(--tall); margin: 0 12.5rem; }
.exchange svg { display: block; width: 100%; height: 100%; overflow: visible; }
.exchange ul { list-style: none; margin: 0; padding: 0; position: absolute; inset: 0 auto 0 auto; width: 12rem; }
.exchange .left { right: 100%; text-align: right; } .exchange .right { left: 100%; }
.exchange li { position: absolute; left: 0; right: 0; transform: translateY(-50%); padding: 0 .55rem;
  font-size: .84rem; line-height: 1.25; }
.exchange b { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
  font-weight: 600; }
.exchange .left b { word-break: break-all; } /* a line that is cut where it may break anyway has no ellipsis */
.exchange span { color: var(--soft); font-size: .78rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
h3.line { font-size: .92rem; margin: 1.1rem 0 .8rem; font-weight: 600; }
h3.line span { color: var(--soft); font-weight: 400; font-size: .84rem; margin-left: .4rem; }
svg .edge { stroke: var(--bar); fill: none; }
.rows { list-style: none; margin: 0; padding: 0; }
.rows li { display: grid; grid-template-columns: minmax(0, 1fr) auto auto; gap: 0 1rem; align-items: baseline;
  padding: .34rem 0 .42rem; break-inside: avoid; }
.rows .name { overflow-wrap: anywhere; }
.rows .number { text-align: right; font-size: .92rem; }
.rows .number + .number { min-width: 4.6rem; color: var(--soft); }
.rows svg { grid-column: 1 / -1; display: block; width: 100%; height: .34rem; margin-top: .22rem; border-radius: .17rem;
  background: var(--faint); }
.head { display: grid; grid-template-columns: minmax(0, 1fr) auto auto; gap: 0 1rem; font-size: .78rem;
  color: var(--soft); border-bottom: 1px solid var(--line); padding-bottom: .3rem; margin-bottom: .2rem; }
.head span + span { text-align: right; }
.head span, .legend span { min-width: 0; }
.head span:last-child { min-width: 4.6rem; }
.arrow { color: var(--soft); }
.places { list-style: none; margin: .6rem 0 0; padding: 0; font-size: .88rem; }
.places li { padding: .28rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: .84rem; text-align: center; margin-top: 1.6rem; }
@media (max-width: 34rem) {
  main { padding: 1rem .75rem 2rem; }
  h1 { font-size: 1.35rem; }
  .card { padding: .9rem .9rem 1rem; }
  .tiles { padding: 0; grid-template-columns: repeat(2, 1fr); }
  .tile { padding: .65rem .9rem .7rem; } .tile b { font-size: 1.2rem; }
  .chart .plot { height: 8.5rem; } .chart .scale { min-width: 2.9rem; }
  .exchange { margin: 0 7.6rem 0 7rem; } .exchange ul { width: 7.4rem; } .exchange .left { width: 7rem; }
  .exchange li { padding: 0 .5rem; font-size: .74rem; line-height: 1.15; } .exchange span { font-size: .72rem; }
  dl.facts { grid-template-columns: repeat(2, minmax(0, 1fr)); padding: .6rem .7rem .65rem; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --line: #c9ced5; --faint: #eceff2; --text: #000; --soft: #444; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  html { font-size: 9.5pt; } body { font-size: 1rem; } main { max-width: none; padding: 0; }
  .tiles, .chart, .exchange { break-inside: avoid; } h2, h3, .head, .legend { break-after: avoid; }
  .tiles { grid-template-columns: repeat(3, 1fr); }
  .pair { grid-template-columns: 1fr 1fr; } .flow { columns: 2; }
}
@page { margin: 14mm; }
"""
