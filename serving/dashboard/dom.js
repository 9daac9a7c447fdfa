/* Elements and their renewal. Texts only ever become text nodes and attributes, never markup, so
 * nothing that came out of a record can act in the page. */

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit", "onkeydown"];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity))
    if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/* h("p", { class: "note" }, "text", h("b", {}, name)) */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function morphAttributes(from, to) {
  for (const { name } of [...from.attributes])
    if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS"))
      from.removeAttribute(name);
  for (const { name, value } of to.attributes)
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const name of HANDLERS) from[name] = to[name];
}

/* What a person is choosing or typing is left alone, and fields that nothing else sets. */
function morphInput(from, to) {
  if (from.hasAttribute("data-keep")) return;
  if (from.nodeName === "SELECT" || from.nodeName === "INPUT") {
    if (from.type === "checkbox" || from.type === "radio") from.checked = to.checked;
    else if (document.activeElement !== from && from.value !== to.value) from.value = to.value;
  }
}

/* Makes `from` equal to `to` with as few changes as possible, so that focus, selection and scroll
 * positions survive a refresh. An element with data-opaque is left to its owner. */
export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) {
    from.replaceWith(to);
    return;
  }
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.hasAttribute("data-opaque")) return;
  morphAttributes(from, to);
  morphChildren(from, [...to.childNodes]);
  morphInput(from, to);
}

export function morphChildren(parent, children) {
  const old = [...parent.childNodes];
  children.forEach((child, i) => {
    const node = typeof child === "string" ? document.createTextNode(child) : child;
    if (i < old.length) morph(old[i], node);
    else parent.append(node);
  });
  for (const node of old.slice(children.length)) node.remove();
}

/* Sets what an element shows. */
export function show(parent, ...children) {
  morphChildren(
    parent,
    children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false),
  );
}

/* usage: choice("Measure", "measure", [[value, label], ...], current, (value) => ...) */
export function choice(label, id, options, current, onchange) {
  const select = h(
    "select",
    { id, onchange: (event) => onchange(event.target.value) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  select.value = current;
  return h("div", { class: "field" }, h("label", { for: id }, label), select);
}

/* Two shares of a whole as a bar; the rest stays empty. Widths are SVG attributes, which the
 * content security policy allows where inline styles are not. */
export function shareBar(batch, speed, whole, label) {
  const percent = (n) => `${Math.max(0, Math.min(100, whole > 0 ? (100 * n) / whole : 0))}%`;
  return svg(
    "svg",
    { class: "bar", role: "img", "aria-label": label, width: "100%", height: "8" },
    svg("rect", { class: "rest", width: "100%", height: "8" }),
    svg("rect", { class: "batch", width: percent(batch), height: "8" }),
    svg("rect", { class: "speed", x: percent(batch), width: percent(speed), height: "8" }),
  );
}
