export default { render({ model, el }) {
  const [label, name, input] = ["label", "span", "input"].map((tag) => document.createElement(tag));
  name.textContent = model.get("label");
  Object.assign(input, { type: "password", autocomplete: "off" });
  el.classList.add("regnb-secret");
  label.append(name, input);
  el.append(label);
  const send = () => {
    if (!input.value) return;
    model.send({ secret: input.value });
    input.value = "";
    input.placeholder = model.get("heard");
  };
  input.addEventListener("change", send);
} }
