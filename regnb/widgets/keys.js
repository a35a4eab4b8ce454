export default { render({ el }) {
  const mark = () => {
    const panel = el.closest(".regnb-form");
    if (!panel) return requestAnimationFrame(mark);
    panel.addEventListener("focusin", ({ target }) => {
      if (target.tagName === "SELECT") target.setAttribute("data-lm-suppress-shortcuts", "true");
    });
  };
  mark();
} }
