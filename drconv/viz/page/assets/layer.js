const FAINT = 70; // opacity, of 255, of regions beside the selected one

// One layer: its map answers to pointer and keys, its legend hides regions, a click lists the nearest filters.
async function makeLayer(panel, layer, { colors, inks, scale }) {
  const map = await readMap(layer);
  const find = (selector) => panel.querySelector(selector);
  const stage = find(".map");
  const canvas = find("canvas");
  const cursor = find(".cursor");
  const slider = find("input[type=range]");
  const boxes = [...panel.querySelectorAll(".legend input")];
  const visible = boxes.map(() => true);
  const rgb = colors.map(bytesOf);
  const ramp = scale.map(bytesOf);
  const largest = map.regions.reduce((most, _, index) => Math.max(most, map.marginAt(index) ?? 0), 0);
  const middle = [map.rows >> 1, map.columns >> 1];
  let place = null; // [row, column]
  let chosen = null; // a region

  const field = (name, text) => {
    find(`[data-field="${name}"]`).textContent = text;
  };
  const say = (text) => {
    find(".said").textContent = text;
  };

  function setOpacity() {
    canvas.style.opacity = slider.value / 100;
    find("output").textContent = `${slider.value} %`;
  }

  function drawMap() {
    const mode = find(".controls input:checked").value;
    boxes.forEach((box, region) => (visible[region] = box.checked));
    paint(canvas, map, mode === "margins" ? shadeOfMargin : shadeOfRegion);
    canvas.hidden = mode === "boundaries";
    slider.disabled = canvas.hidden;
    find(".scale").hidden = mode !== "margins";
    const shown = (region) => region >= 0 && visible[region];
    drawLines(".lines path:not(.chosen)", (a, b) => a !== b && a >= 0 && b >= 0 && (shown(a) || shown(b)));
    find(".numbers").hidden = !find(".with-numbers").checked;
    for (const number of panel.querySelectorAll(".numbers span")) number.hidden = !visible[number.textContent];
  }

  function shadeOfRegion(region) {
    return visible[region] ? [...rgb[region], chosen === null || chosen === region ? 255 : FAINT] : null;
  }

  function shadeOfMargin(region, margin) {
    if (!visible[region] || margin === null) return null;
    return [...ramp[Math.round((margin / (largest || 1)) * (ramp.length - 1))], 255];
  }

  function drawLines(selector, separates) {
    const path = outline(map, separates);
    for (const line of panel.querySelectorAll(selector)) line.setAttribute("d", path);
  }

  function drawNumbers() {
    for (const [region, row, column] of deepestPlaces(map)) {
      const number = document.createElement("span");
      number.textContent = region;
      number.style.cssText = `left: ${(100 * (column + 0.5)) / map.columns}%; top: ${(100 * (row + 0.5)) / map.rows}%`;
      number.style.background = colors[region];
      number.style.color = inks[region];
      find(".numbers").append(number);
    }
  }

  function read(row, column, aloud) {
    place = [row, column];
    const region = map.at(row, column);
    const margin = map.marginAt(row * map.columns + column);
    const known = margin === null ? "unknown, scores are not finite" : margin.toFixed(4);
    field("position", `row ${row}, column ${column}`);
    field("margin", known);
    describe(region);
    Object.assign(cursor.style, {
      left: `${(100 * column) / map.columns}%`,
      top: `${(100 * row) / map.rows}%`,
      width: `${100 / map.columns}%`,
      height: `${100 / map.rows}%`,
    });
    cursor.hidden = false;
    if (aloud) say(`Row ${row}, column ${column}: region ${region}, margin ${known}`);
  }

  // A region from the table has no position.
  function leave() {
    place = null;
    cursor.hidden = true;
    field("position", "–");
    field("margin", "–");
  }

  function describe(region) {
    field("region", `Region ${region}`);
    find(".reading .swatch").removeAttribute("hidden");
    find(".reading rect").setAttribute("fill", colors[region]);
    panel.querySelectorAll(".reading .of-region dd").forEach((cell, index) => {
      cell.textContent = layer.texts[region][index];
    });
  }

  function choose(region) {
    chosen = region;
    drawMap();
    drawLines(".lines path.chosen", (a, b) => region !== null && a !== b && (a === region || b === region));
    for (const table of panel.querySelectorAll("tbody")) {
      table.querySelectorAll("tr").forEach((row, index) => row.classList.toggle("chosen", index === region));
    }
    find(".nearest").hidden = region === null;
    if (region === null) return;
    const nearest = layer.nearest[region];
    const others = layer.texts.length - 1;
    field("chosen", `region ${region}`);
    field("remark", remarkOn(nearest.length, others));
    find(".nearest ol").replaceChildren(...nearest.map(([other, cosine]) => neighbour(other, cosine)));
    say(`Region ${region} selected. ${nearest.length ? `Nearest filter: region ${nearest[0][0]}, cosine ${nearest[0][1]}` : ""}`);
  }

  function remarkOn(listed, others) {
    if (!others) return "This layer has no other region.";
    if (!listed) return "No cosine is known: a filter is zero or not finite.";
    return listed < others ? `The ${listed} nearest of ${others}, by cosine.` : "By cosine; 1 is the same direction.";
  }

  function neighbour(region, cosine) {
    const item = document.createElement("li");
    const button = find(`tbody button[value="${region}"]`).cloneNode(true);
    const value = document.createElement("span");
    value.textContent = cosine;
    item.append(button, value);
    return item;
  }

  function placeOf(event) {
    const box = stage.getBoundingClientRect();
    const within = (at, size, count) => Math.min(count - 1, Math.max(0, Math.floor((at / size) * count)));
    return [
      within(event.clientY - box.top, box.height, map.rows),
      within(event.clientX - box.left, box.width, map.columns),
    ];
  }

  for (const kind of ["pointermove", "pointerdown"]) {
    stage.addEventListener(kind, (event) => read(...placeOf(event), false));
  }
  stage.addEventListener("click", (event) => {
    const region = map.at(...placeOf(event));
    choose(region === chosen ? null : region);
  });
  stage.addEventListener("focus", () => {
    if (!place) read(...middle, false);
  });
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 5 : 1;
    const moves = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    const ends = { Home: -map.columns, End: map.columns };
    const [row, column] = place ?? middle;
    const move = moves[event.key] ?? (event.key in ends ? [0, ends[event.key]] : null);
    const clamp = (at, count) => Math.min(count - 1, Math.max(0, at));
    if (move) read(clamp(row + move[0], map.rows), clamp(column + move[1], map.columns), true);
    else if (event.key === "Enter" || event.key === " ") choose(map.at(row, column));
    else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
  });
  // Large maps take their time to draw, so the slider, which moves all the time, draws nothing.
  find(".controls").addEventListener("input", (event) => (event.target === slider ? setOpacity() : drawMap()));
  find(".legend").addEventListener("input", drawMap);
  find(".both").addEventListener("click", (event) => {
    if (!event.target.value) return;
    for (const box of boxes) box.checked = event.target.value === "all";
    drawMap();
  });
  panel.addEventListener("click", (event) => {
    const button = event.target.closest("table button, .nearest button");
    if (!button) return;
    leave();
    describe(Number(button.value));
    choose(Number(button.value));
  });

  field("largest", largest.toFixed(4));
  drawNumbers();
  setOpacity();
  drawMap();
}
