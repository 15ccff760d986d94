
{
  // The tour: one stop at a time. If the reader wants to be asked, a line is hidden until a question about it is answered.

  const tour = document.getElementById("tour"), stops = [...tour.querySelectorAll(".stops > li")];
  const guide = tour.querySelector(".guide"), said = guide.querySelector("output"), [back, next] = guide.querySelectorAll("button");
  const ask = guide.querySelector(".ask"), known = new Set(), asked = new Map();
  let at = 0;

  const note = (words, more = {}) => Object.assign(document.createElement("p"), { className: "note", textContent: words, ...more });

  function copy(id, label) {
    const card = document.getElementById(id).cloneNode(true);
    card.removeAttribute("id");
    const off = card.matches(".aside");
    card.classList.remove("aside", "here");
    const box = Object.assign(document.createElement("div"), { className: "copy" });
    if (off) label ||= "This line does not lie on the path that you follow. Its numbers are those of the whole loss.";
    if (ask.checked) card.querySelectorAll("a, code button").forEach((link) => link.replaceWith(link.textContent));  // to what is hidden
    if (label) box.append(note(label));
    box.append(card);
    stops[at].append(box);
    box.dispatchEvent(new Event("copied", { bubbles: true }));
    return card;
  }

  function reveal() {
    stops[at].querySelector(".told").hidden = false;
    return copy(stops[at].dataset.card, "");
  }

  function question() {
    const templates = stops[at].querySelectorAll("template"), chosen = (asked.get(at) ?? 0) % templates.length;
    const form = document.importNode(tour.querySelector("template.asked").content, true).querySelector("form");
    form.prepend(document.importNode(templates[chosen].content, true));
    stops[at].querySelector(".told").hidden = true;
    stops[at].append(form);
    form.querySelector(".other").hidden = templates.length < 2;
    if (stops[at].dataset.before) copy(stops[at].dataset.before, "The hidden line differentiates this line of the forward pass:");
    const answered = (words) => {
      known.add(at);
      show(at);
      if (words) stops[at].querySelector(".copy").before(note(words, { role: "status" }));
      stops[at].querySelector(".copy .card").focus({ preventScroll: true });
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const answer = form.querySelector("input:checked")?.value ?? "";
      if (answer === templates[chosen].dataset.right) return answered("Yes, this is right. Here is the line:");
      form.querySelector(".first").hidden = answer !== "";
      for (const why of form.querySelectorAll("[data-of]")) why.hidden = !why.dataset.of.split(" ").includes(answer);
    });
    form.querySelector(".show").addEventListener("click", () => answered(""));
    form.querySelector(".other").addEventListener("click", () => {
      asked.set(at, chosen + 1);
      show(at);
      stops[at].querySelector("form input").focus();
    });
  }

  function show(stop) {
    at = Math.min(Math.max(stop, 0), stops.length - 1);
    stops.forEach((other, i) => (other.hidden = i !== at));
    tour.querySelectorAll(".copy, .stops form, .stops [role=status]").forEach((old) => old.remove());
    said.textContent = `Stop ${at + 1} of ${stops.length}: ${stops[at].querySelector("h3").textContent}`;
    back.setAttribute("aria-disabled", at === 0);
    next.setAttribute("aria-disabled", at === stops.length - 1);
    if (ask.checked && !known.has(at) && stops[at].querySelector("template")) question();
    else reveal();
  }

  back.addEventListener("click", () => show(at - 1));
  next.addEventListener("click", () => show(at + 1));
  guide.querySelector(".steps").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at + step);
  });
  ask.addEventListener("change", () => {
    document.body.classList.toggle("asking", ask.checked);
    guide.querySelector(".asking").hidden = !ask.checked;
    known.clear();
    show(at);
    tour.querySelector("h2").scrollIntoView();
  });
  document.addEventListener("change", (event) => event.target.closest(".paths") && show(at));

  guide.hidden = false;
  for (const link of tour.querySelectorAll("h3 a")) link.replaceWith(link.textContent);  // the copy of the line has the same link
  tour.classList.add("guided");
  show(0);
}
