"""The style and the script of the HTML report: nothing in them reaches for the network."""

from __future__ import annotations

from string import Template

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --rule: #d1d9e0; --panel: #f6f8fa;
  --read: #1a7f5a; --written: #a85f00; --uncached: #66717e; --unknown: #c8d0d9; --alarm: #b3261e; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #10141a; --ink: #e6edf3; --soft: #9aa6b2; --rule: #30363d;
  --panel: #171c23; --read: #35b383; --written: #e39a2d; --uncached: #8b97a5; --unknown: #343c46; --alarm: #ff8a80;
  --on: #0b0e12; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px 20px 80px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 32px 0 10px; } p { margin: 4px 0; }
.soft { color: var(--soft); } .alarm { color: var(--alarm); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 18px 0; }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px; }
.card b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr)); gap: 16px; }
figure { margin: 0; border: 1px solid var(--rule); border-radius: 8px; padding: 10px; }
figcaption { font-weight: 600; font-size: 14px; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } .grid { stroke: var(--rule); }
polyline { fill: none; stroke-width: 2; }
polyline.read { stroke: var(--read); } polyline.written { stroke: var(--written); }
polyline.uncached { stroke: var(--uncached); }
circle.read { fill: var(--read); } circle.written { fill: var(--written); } circle.uncached { fill: var(--uncached); }
.key { font-weight: 400; font-size: 13px; color: var(--soft); margin-left: 14px; white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px; }
.key.read::before { background: var(--read); } .key.written::before { background: var(--written); }
.key.uncached::before { background: var(--uncached); } .key.unknown::before { background: var(--unknown); }
.key.mark::before { background: var(--ink); width: 3px; height: 14px; vertical-align: -2px; border-radius: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { border: 1px solid var(--rule); border-radius: 8px; margin: 10px 0; content-visibility: auto;
  contain-intrinsic-size: auto 46px; }
summary { cursor: pointer; padding: 10px 12px; background: var(--panel); border-radius: 8px; overflow-wrap: anywhere; }
summary b { margin-right: 10px; }
ol { list-style: none; margin: 0; padding: 4px 12px 10px; }
li { display: grid; grid-template-columns: 34px 66px minmax(0, 1fr) 290px; gap: 2px 10px; align-items: center;
  padding: 5px 0; border-bottom: 1px solid var(--rule); content-visibility: auto; contain-intrinsic-size: auto 40px; }
li:last-child { border: 0; }
.bar { position: relative; height: 24px; display: flex; min-width: 3px; }
.bar i { font: normal 600 11px/24px system-ui, sans-serif; color: var(--on); overflow: hidden; text-align: center;
  border-right: 1px solid var(--paper); min-width: 0; white-space: nowrap; }
i.read { background: var(--read); } i.written { background: var(--written); }
i.uncached { background: var(--uncached); } i.unknown { background: var(--unknown); color: var(--ink); }
.bar s { position: absolute; top: -4px; bottom: -4px; width: 2px; margin-left: -1px; background: var(--ink); }
.bar s::before { content: ""; position: absolute; left: -3px; top: -1px; border: 4px solid transparent;
  border-top-color: var(--ink); border-bottom: 0; }
li .n { font-size: 13px; } .note { grid-column: 3 / -1; font-size: 13px; overflow-wrap: anywhere; }
:focus-visible, li:focus { outline: 3px solid var(--written); outline-offset: 2px; }
kbd { border: 1px solid var(--rule); border-radius: 4px; padding: 0 5px; font-size: 13px; background: var(--panel); }
@media (max-width: 760px) { li { grid-template-columns: 30px minmax(0, 1fr); } li .n { text-align: left; }
  li .bar-cell, .note, li .n { grid-column: 1 / -1; } }
"""

# j and k move between calls, n and p between breaks, e opens or closes all conversations.
_SCRIPT = """
"use strict";
const calls = [...document.querySelectorAll("li")];
const move = (rows, step) => {
  if (!rows.length) return;
  const here = calls.indexOf(document.activeElement.closest("li"));
  const places = rows.map((row) => calls.indexOf(row));
  const found = step > 0 ? places.find((at) => at > here) : places.findLast((at) => at < here);
  const row = calls[found ?? (here < 0 ? places[0] : here)];
  row.closest("details").open = true;
  row.focus();
  row.scrollIntoView({ block: "nearest" });
};
const broken = calls.filter((row) => row.classList.contains("broken"));
const actions = {
  j: () => move(calls, 1), k: () => move(calls, -1), n: () => move(broken, 1), p: () => move(broken, -1),
  e: () => {
    const all = [...document.querySelectorAll("details")];
    const open = all.some((one) => !one.open);
    for (const one of all) one.open = open;
  },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
});
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
<script>$script</script>
</body>
</html>
""")


def page(title: str, body: str) -> str:
    """Return a whole HTML file; ``title`` and ``body`` are HTML already."""
    return _PAGE.substitute(policy=_POLICY, title=title, style=_STYLE, body=body, script=_SCRIPT)
