
{
  // Groups: choices and sliders, and the texts, marks and parts that follow them. The last of them changes fastest.

  for (const group of document.querySelectorAll(".group")) {
    const inputs = [...group.querySelectorAll("input[data-count], select[data-count]")];
    const follow = () => {
      const at = inputs.reduce((i, input) => i * Number(input.dataset.count) + Number(input.value), 0);
      for (const text of group.querySelectorAll("[data-values]")) {
        const texts = text.dataset.values.split("|");
        text.textContent = texts[texts.length > 1 ? at : 0];
        text.closest("math")?.removeAttribute("alttext");
      }
      for (const mark of group.querySelectorAll("[data-at]")) {
        mark.setAttribute("transform", `translate(${mark.dataset.at.split(" ")[at]} 0)`);
      }
      for (const part of group.querySelectorAll("[data-case]")) part.hidden = Number(part.dataset.case) !== at;
    };
    inputs.forEach((input) => input.addEventListener("input", follow));
  }
}
