function _drawn(settings) {
  const { meanings } = settings.oInit;
  const box = settings.nTableWrapper;
  // One stop of Tab for each group, and arrows within it: a table of ten columns is no tunnel of thirty stops.
  const rove = (found, [back, on], current) => {
    const items = found.filter((each) => each.getAttribute("aria-disabled") !== "true");
    const chosen = items.includes(current) ? current : items[0];
    for (const each of items) {
      each.tabIndex = each === chosen ? 0 : -1;
      if (each.dataset.roves) continue;
      each.dataset.roves = "true";
      each.addEventListener("keydown", ({ key }) => {
        const step = { [back]: -1, [on]: 1 }[key];
        const group = [...each.closest(".dt-container").querySelectorAll("[data-roves]")].filter(
          (other) => other.tagName === each.tagName && other.className.split(" ")[0] === each.className.split(" ")[0],
        );
        if (step) group[group.indexOf(each) + step]?.focus();
      });
      each.addEventListener("focus", () => rove(found, [back, on], each));
    }
  };
  const group = (what) => [...box.querySelectorAll(what)];
  const arrows = ["ArrowLeft", "ArrowRight"];
  // The rows get their stops after this.
  setTimeout(() => {
    rove(group("thead [role=button]"), arrows);
    rove(group(".dt-buttons button"), arrows);
    rove(group(".dt-paging button"), arrows);
    rove(group("tbody tr:not(:has(.dt-empty))"), []);
  });
  const search = box.querySelector(".dt-search input");
  if (search) search.onkeydown = ({ key }) => { if (key === "ArrowDown") group("tbody tr[tabindex]")[0]?.focus(); };
  if (!box.dataset.number) {
    window.regnbTables = (window.regnbTables ?? 0) + 1;
    box.dataset.number = window.regnbTables;
  }
  for (const nav of group("nav")) nav.setAttribute("aria-label", `Pages of table ${box.dataset.number}`);
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
