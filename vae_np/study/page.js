{
  const { names, lines } = JSON.parse(document.getElementById("trace").textContent);
  const inspector = document.getElementById("inspector"), panel = inspector.querySelector("div");
  const cards = [...document.querySelectorAll(".card")];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // A name: the lines that compute it and that read it, and the same for its derivative.

  const element = (tag, content, properties = {}) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...[content].flat());
    return made;
  };
  const place = (i) => {
    const [where, number, source] = lines[i];
    return element("li", [element("a", `${where}, line ${number}`, { href: `#l${i}` }), " ", element("code", source)]);
  };
  const part = (title, indices) =>
    indices.length ? [element("h4", title), element("ul", indices.map(place))] : [];
  const base = (name) => name.replace(/\.y$/, "");
  const family = (name) => {
    const value = names["d" + name] || names["d" + base(name)] ? name : name.replace(/^d/, "");
    return [base(value), base(value) + ".y", "d" + base(value), "d" + base(value) + ".y"];
  };

  function show(name) {
    const related = family(name).filter((other) => other in names);
    all(".lit").forEach((lit) => lit.classList.remove("lit"));
    all("[data-name]").filter((at) => at.dataset.name === name).forEach((at) => at.classList.add("lit"));
    panel.replaceChildren();
    for (const other of [name, ...related.filter((one) => one !== name)]) {
      if (!(other in names)) continue;
      const heading = element("h3", "");
      heading.innerHTML = names[other].math;
      panel.append(heading, ...part("computed by", names[other].made), ...part("read by", names[other].read));
    }
    if (!panel.children.length) panel.append(element("p", `${name} is an input: no line computes it.`));
    inspector.hidden = false;
  }
  let opener;  // what had the focus when a key opened the panel
  function close() {
    if (inspector.contains(document.activeElement)) opener?.focus();
    inspector.hidden = true;
    all(".lit").forEach((lit) => lit.classList.remove("lit"));
  }
  document.addEventListener("click", (event) => {
    const named = event.target.closest?.("[data-name]");
    if (!named) return;
    show(named.dataset.name);
    if (event.detail) return;  // the pointer clicked: the focus stays where it is
    opener = named;
    inspector.querySelector(".close").focus();
  });
  inspector.querySelector(".close").addEventListener("click", close);

  // Paths: what does not lie on the chosen path is dimmed, and numbers and pictures show the part that comes along it.

  for (const radio of all(".paths input")) {
    radio.addEventListener("change", () => {
      all(`.paths input[value="${radio.value}"]`).forEach((same) => (same.checked = true));
      for (const card of cards) card.classList.toggle("aside", !card.dataset.paths.split(" ").includes(radio.value));
      for (const row of all(".row[data-cards]")) {
        const ids = row.dataset.cards.split(" ").filter(Boolean);
        row.classList.toggle("aside", ids.length > 0 && ids.every((id) => document.getElementById(id).matches(".aside")));
      }
      for (const array of all(".array")) {
        const variants = all(".variant", array);
        const shown = variants.find((variant) => variant.dataset.path === radio.value) ?? variants[0];
        variants.forEach((variant) => (variant.hidden = variant !== shown));
      }
    });
  }

  // Keys: j and k go to the next and the previous line, in the order in which the lines ran.

  const order = cards.map((card) => Number(card.id.slice(1))).sort((a, b) => a - b);
  let at = -1;
  function go(step) {
    at = Math.min(Math.max(at + step, 0), order.length - 1);
    all(".card.here").forEach((card) => card.classList.remove("here"));
    const card = document.getElementById(`l${order[at]}`);
    card.classList.add("here");
    card.scrollIntoView({ block: "center" });
    card.focus({ preventScroll: true });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("select")) return;
    if (event.key === "Escape") close();
    if (event.key === "j") go(1);
    if (event.key === "k") go(-1);
  });
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches("details")) target.open = true;
    const found = order.indexOf(Number(target.id.slice(1)));
    if (target.matches(".card") && found >= 0) at = found;
  });

  addEventListener("beforeprint", () => all(".why").forEach((details) => (details.open = true)));
}
