
{
  // Pictures: the number below the pointer, or at the place that the arrow keys choose.

  const half = (bits) => {
    const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024, sign = bits & 32768 ? -1 : 1;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
  };
  const digits = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
  const unravel = (i, shape) => shape.reduceRight(([rest, places], size) => [Math.floor(rest / size), [rest % size, ...places]], [i, []])[1];

  function index(picture, row, column) {
    const [rows, columns] = picture.dataset.grid.split(" ").map(Number);
    if (picture.dataset.images) {
      const [, width] = picture.dataset.images.split(" ").map(Number), at = column % (width + 1);
      return at === width ? "between two images" : `example ${Math.floor(column / (width + 1))}, pixel ${row * width + at}`;
    }
    const shape = picture.dataset.shape.split(" ").map(Number), last = shape.at(-1), first = shape.slice(0, -1);
    const height = first.reduce((product, size) => product * size, 1);
    if (height === rows && last === columns) return `[${[...unravel(row, first), column].join(", ")}]`;
    const range = (i, n, size) => `${Math.trunc((i * size) / n)}:${Math.trunc(((i + 1) * size) / n)}`;
    return `mean of rows ${range(row, rows, height)}, columns ${range(column, columns, last)}`;
  }

  for (const picture of document.querySelectorAll("img[data-cells]")) readable(picture);
  document.addEventListener("copied", (event) => event.target.querySelectorAll("img[data-cells]").forEach(readable));

  function readable(picture) {
    const [rows, columns] = picture.dataset.grid.split(" ").map(Number);
    let cells, output, row = 0, column = 0;
    const read = () => {
      cells ??= new Uint16Array(Uint8Array.from(atob(picture.dataset.cells), (letter) => letter.charCodeAt(0)).buffer);
      if (!output) {
        output = Object.assign(document.createElement("output"), { className: "reading" });
        picture.after(output);
      }
      const where = index(picture, row, column);
      output.textContent = where.startsWith("between") ? where : `${where}: ${digits(Number(picture.dataset.unit) * half(cells[row * columns + column]))}`;
    };
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect(), inside = picture.matches(".pictures") ? Math.min(box.width, (box.height * columns) / rows) : box.width;
      row = Math.min(rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rows)));
      column = Math.min(columns - 1, Math.max(0, Math.floor(((event.clientX - box.left) / inside) * columns)));
      read();
    });
    picture.addEventListener("focus", read);
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      row = (row + step[0] + rows) % rows;
      column = (column + step[1] + columns) % columns;
      read();
    });
    for (const leaving of ["pointerleave", "blur"]) {
      picture.addEventListener(leaving, () => {
        output?.remove();
        output = undefined;
      });
    }
  }
}
