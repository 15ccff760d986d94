
{
  // Groups: choices and sliders, and the texts, marks and parts that follow them. The last of them changes fastest.

  for (const group of document.querySelectorAll(".group")) {
    const inputs = [...group.querySelectorAll("input[data-count], select[data-count]")];
    const say = () => {  // a slider counts its values: what is read aloud is the value itself
      for (const input of group.querySelectorAll("input[type=range]")) input.ariaValueText = input.parentElement.querySelector("output").textContent;
    };
    const follow = () => {
      const at = inputs.reduce((i, input) => i * Number(input.dataset.count) + Number(input.value), 0);
      for (const text of group.querySelectorAll("[data-values]")) {
        const texts = text.dataset.values.split("|");
        text.textContent = texts[texts.length > 1 ? at : 0];
        text.closest("math")?.removeAttribute("alttext");
      }
      for (const input of inputs) {
        const said = input.labels[0]?.querySelector("output");
        if (said) input.setAttribute("aria-valuetext", said.textContent);
      }
      for (const mark of group.querySelectorAll("[data-at]")) {
        mark.setAttribute("transform", `translate(${mark.dataset.at.split(" ")[at]} 0)`);
      }
      for (const mark of group.querySelectorAll("[data-transforms]")) mark.setAttribute("transform", mark.dataset.transforms.split("|")[at]);
      say();
      for (const part of group.querySelectorAll("[data-case]")) part.hidden = Number(part.dataset.case) !== at;
    };
    say();
    inputs.forEach((input) => input.addEventListener("input", follow));
  }
}
