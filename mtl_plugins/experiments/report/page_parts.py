"""Style and script of the HTML page."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f1f1f; --muted: #5f6368; --line: #dcdfe3; --back: #fff; --head: #f4f6f8;
  --up: 0 114 178; --down: 213 94 0; --link: #00609a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --muted: #a5abb3; --line: #3a4047; --back: #16191d;
  --head: #20252b; --up: 86 180 233; --down: 230 130 50; --link: #7cc4f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 16px; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 24px 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 36px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: .92rem; }
a { color: var(--link); }
p, ul { max-width: 80ch; }
ul { padding-left: 1.2em; } li { margin: 5px 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: .9em; }
.table, figure { overflow-x: auto; max-width: 100%; margin: 16px 0; }
.table { border: 1px solid var(--line); border-radius: 6px; max-height: 85vh; overflow-y: auto; }
figure { background: #fff; border: 1px solid var(--line); border-radius: 6px; width: fit-content; }
figure img { display: block; max-width: none; }
.gallery { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; } .gallery figure { margin: 0; }
figure img.fit { max-width: 100%; height: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: 8px 10px; }
caption span { position: sticky; left: 10px; display: inline-block; max-width: min(74rem, 100vw - 60px); }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
.words th, .words td { text-align: left; white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; z-index: 2; background: var(--head); vertical-align: bottom; padding: 0; }
th:first-child { position: sticky; left: 0; z-index: 1; text-align: left; background: var(--back);
  border-right: 1px solid var(--line); font-weight: 500; min-width: 15em; max-width: 320px;
  overflow-wrap: anywhere; white-space: normal; }
thead th:first-child { z-index: 3; background: var(--head); }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 7px 10px;
  cursor: pointer; width: 100%; text-align: inherit; white-space: normal; min-width: 5.2em; }
thead [aria-sort=ascending] button::after { content: ' \\25B2'; }
thead [aria-sort=descending] button::after { content: ' \\25BC'; }
:focus-visible { outline: 2px solid var(--link); outline-offset: -2px; }
td.up { background: rgb(var(--up) / calc(var(--tint) * .42)); }
td.down { background: rgb(var(--down) / calc(var(--tint) * .42)); }
@media (max-width: 600px) { h1 { font-size: 1.25rem; } th:first-child { min-width: 8.6em; max-width: 42vw; }
  th, td { padding: 4px 7px; } }
@media print { .table { max-height: none; overflow: visible; } figure { break-inside: avoid; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const now = head.getAttribute('aria-sort');
    const down = now === 'none' ? column > 0 : now === 'ascending';
    heads.forEach(other => other.setAttribute('aria-sort', 'none'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const value = row => row.cells[column].dataset.sort;
    const number = text => text !== undefined && text.trim() !== '' && isFinite(text);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = number(x) && number(y) ? x - y : x.localeCompare(y);
      return down ? -order : order;
    }));
  }));
}
"""
