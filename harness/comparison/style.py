"""How a page looks, from a phone to a wide screen."""

NARROW = "(max-width: 40rem)"  # screens of phones
STYLE = """
:root { --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --paper: #f6f8fa; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 68rem;
  margin: 2rem auto; padding: 0 1.2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin-bottom: 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.7rem; padding-bottom: 0.3rem;
  border-bottom: 1px solid var(--line); }
p { max-width: 48rem; } img { max-width: 100%; height: auto; display: block; }
small { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
details { max-width: 48rem; color: var(--soft); font-size: 0.92rem; }
summary { cursor: pointer; } details p { margin: 0.4rem 0 0; }
pre { font: 0.85rem/1.5 ui-monospace, monospace; background: var(--paper); padding: 0.7rem 1rem;
  border-radius: 6px; white-space: pre-wrap; }
.warnings { background: #fff8e5; border-left: 4px solid #e0a000; border-radius: 0 6px 6px 0;
  margin: 0; padding: 0.6rem 1rem 0.6rem 2.2rem; }
.wide { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: 0.4rem 1.1rem 0.4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { border-bottom: 2px solid var(--soft); font-weight: 600; vertical-align: bottom; }
td small { display: block; white-space: nowrap; }
tfoot td { background: var(--paper); color: var(--soft); }
section { border: 1px solid var(--line); border-radius: 8px; margin: 0 0 1rem; overflow: hidden; }
.prompt { margin: 0; max-width: none; padding: 0.7rem 1rem; background: var(--paper);
  font-weight: 600; white-space: pre-wrap; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); }
.answers div { padding: 0.7rem 1rem; border-top: 1px solid var(--line); }
.answers b { font-size: 0.8rem; color: var(--soft); font-weight: 600; }
.answers p { margin: 0.2rem 0; white-space: pre-wrap; }
@media NARROW {
  body { margin: 1rem auto; padding: 0 0.9rem; }
  h1 { font-size: 1.45rem; }
  .wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: #fff;
    min-width: 7.5rem; max-width: 40vw; overflow-wrap: anywhere; }
  .wide tfoot td:first-child { background: var(--paper); }
  th, td { padding-right: 0.8rem; } .answers { grid-template-columns: 1fr; }
}
""".replace("NARROW", NARROW)
