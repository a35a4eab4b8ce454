function _drawn(settings) {
  const meanings = MEANINGS;
  const box = settings.nTableWrapper;
  // Else JupyterLab takes the arrow keys for its cells.
  for (const row of settings.nTBody.rows) row.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const head of box.querySelectorAll("thead th")) {
    const meaning = meanings[head.textContent.trim()];
    if (meaning) head.title = meaning;
  }
  // Each table of a page counts from 0: labels would point at the first table's fields.
  box.dataset.mark ??= Math.random().toString(36).slice(2);
  for (const each of [box, ...box.querySelectorAll("[id]")]) {
    const old = each.id;
    if (!old || old.endsWith(box.dataset.mark)) continue;
    each.id = `${old}-${box.dataset.mark}`;
    for (const label of box.querySelectorAll(`[for="${old}"]`)) label.htmlFor = each.id;
    for (const name of ["aria-controls", "aria-describedby"]) {
      for (const other of box.querySelectorAll(`[${name}="${old}"]`)) other.setAttribute(name, each.id);
    }
  }
}
