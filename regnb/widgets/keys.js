export default { render({ el }) {
  const watch = () => {
    const panel = el.closest(".regnb-form");
    if (!panel) return requestAnimationFrame(watch);
    panel.addEventListener("focusin", ({ target }) => {
      if (target.tagName === "SELECT") target.setAttribute("data-lm-suppress-shortcuts", "true");
    });
    const enabled = (within, what) => [...within.querySelectorAll(what)].find((each) => !each.disabled && each.offsetParent);
    // Enter in a line of text leads to the button or the download that uses it; pressing that stays a step of its own.
    // (Text fields keep their keys from what is around them: hear of them first.)
    panel.addEventListener("keydown", (event) => {
      const { key, target } = event;
      const part = target.closest(".regnb-part");
      if (key !== "Enter" || target.type !== "text" || !part || part.querySelector(".dt-container")) return;
      const after = [...panel.querySelectorAll("button, a[download]")].filter(
        (each) => target.compareDocumentPosition(each) & Node.DOCUMENT_POSITION_FOLLOWING,
      );
      const next = after.find((each) => !each.disabled && each.offsetParent);
      if (!next) return;
      event.preventDefault(); // else the same Enter would press it
      next.focus();
    }, true);
    // What was asked for by a button comes later: the focus goes to the next step, unless it is elsewhere by then.
    let left = null;
    panel.addEventListener("click", ({ target }) => { left = target.closest(".jupyter-button, [type=checkbox]"); });
    const known = new Set();
    new MutationObserver(() => {
      const still = [left, document.body, null].includes(document.activeElement);
      for (const shown of panel.querySelectorAll(".regnb-next")) {
        if (known.has(shown) || !shown.offsetParent) continue;
        known.add(shown);
        if (!left || !still) continue;
        const part = shown.closest(".regnb-part");
        const next = shown.hasAttribute("tabindex") ? shown : (shown.querySelector("a") ?? enabled(part, "input"));
        next?.focus({ preventScroll: true });
        left = null;
      }
    }).observe(panel, { childList: true, subtree: true, attributes: true, attributeFilter: ["class", "style"] });
  };
  watch();
} }
