
{
  // The whole picture: its bands and its norms follow the chosen path.

  const paths = [...document.querySelectorAll("#picture .paths input")].map((radio) => radio.value);
  document.addEventListener("change", (event) => {
    if (!event.target.closest(".paths")) return;
    const path = event.target.value;
    const term = document.querySelector(".graph .band." + path) !== null || path === "l2", group = term ? "all" : path;
    for (const bands of document.querySelectorAll(".graph [data-path]")) bands.toggleAttribute("hidden", bands.dataset.path !== group);
    for (const band of document.querySelectorAll(".graph [data-path=all] .band")) band.toggleAttribute("hidden", term && !band.matches("." + path));
    for (const text of document.querySelectorAll(".graph [data-norms]")) text.textContent = text.dataset.norms.split("|")[paths.indexOf(path)];
  });
}
