// As much of a browser's document as the pages' scripts need, so that Node.js can run them.

class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], attributes: {}, listeners: {}, hidden: false });
    this.style = { setProperty() {} };
    this.classList = { add() {}, remove() {}, toggle() {} };
  }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(""); }
  set textContent(text) { this.replaceChildren(...(text ? [text] : [])); }
  append(...children) { this.children.push(...children); }
  prepend(...children) { this.children.unshift(...children); }
  replaceChildren(...children) { this.children = children; }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  addEventListener(kind, listener) { (this.listeners[kind] ??= []).push(listener); }
  dispatch(kind, event = {}) {
    for (const listener of this.listeners[kind] ?? []) listener({ preventDefault() {}, ...event });
  }
  click() { this.dispatch("click"); }
  remove() {}
  scrollIntoView() {}
  querySelector() { return new Element(); }
  getContext() { return {}; }
  getBoundingClientRect() { return { left: 0, top: 0, width: 600, height: 400 }; }
}

// All elements with a name, below one.
function descendants(above, name) {
  const below = above.children.flatMap((child) => (child.children ? descendants(child, name) : []));
  return [...above.children.filter((child) => child.name === name), ...below];
}

const known = {};
globalThis.document = new Element();
document.createElement = document.createElementNS = (name) => new Element(name);
document.getElementById = (id) => (known[id] ??= new Element());
globalThis.window = globalThis;
globalThis.location = { protocol: "https:" };
globalThis.matchMedia = () => new Element();
globalThis.requestAnimationFrame = () => {};
globalThis.ResizeObserver = class {
  constructor(fit) { this.observe = fit; }
};
