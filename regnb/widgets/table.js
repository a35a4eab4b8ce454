function _drawn(settings) {
  const { meanings } = settings.oInit;
  const box = settings.nTableWrapper;
  // Else JupyterLab takes the arrow keys for its cells.
  for (const row of settings.nTBody.rows) row.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const head of box.querySelectorAll("thead th")) {
    const meaning = meanings[head.textContent.trim()];
    if (meaning) head.title = meaning;
  }
  // Each table of a page counts from 0: labels would point at the first table's fields.
  box.dataset.mark ??= Math.random().toString(36).slice(2);
  const mark = `-${box.dataset.mark}`;
  for (const each of [box, ...box.querySelectorAll("[id]")]) {
    if (each.id && !each.id.endsWith(mark)) each.id += mark;
  }
  // The buttons of the pages are made anew whenever a column changes its width, too, and name this id.
  settings.sTableId = settings.nTable.id;
  for (const name of ["for", "aria-controls", "aria-describedby"]) {
    for (const each of box.querySelectorAll(`[${name}]`)) {
      const marked = each.getAttribute(name) + mark;
      if (box.id === marked || box.querySelector(`[id="${marked}"]`)) each.setAttribute(name, marked);
    }
  }
}
