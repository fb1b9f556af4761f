// A region map: its numbers, its picture, its lines. Nothing here knows the page.
const UNKNOWN = 65535; // the margin of a position whose scores are not finite
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function readMap(layer) {
  const { rows, columns } = layer;
  const regions = new Uint8Array(await unpacked(layer.regions));
  const margins = new DataView(await unpacked(layer.margins));
  return {
    rows,
    columns,
    regions,
    // Region of a place, -1 outside the map.
    at: (row, column) => (row < 0 || column < 0 || row >= rows || column >= columns ? -1 : regions[row * columns + column]),
    marginAt(index) {
      const steps = margins.getUint16(2 * index, true);
      return steps === UNKNOWN ? null : steps / 10000;
    },
  };
}

// One pixel of the canvas per position. shade(region, margin) is red, green, blue and opacity, or null for none.
function paint(canvas, map, shade) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.columns, map.rows);
  map.regions.forEach((region, index) => {
    image.data.set(shade(region, map.marginAt(index)) ?? [0, 0, 0, 0], 4 * index);
  });
  context.putImageData(image, 0, 0);
}

function bytesOf(color) {
  return [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
}

// The edges between positions a and b for which separates(a, b), as a path; straight runs are one line.
function outline(map, separates) {
  const path = [];
  const run = (lines, length, edge, draw) => {
    for (let line = 0; line <= lines; line++) {
      let start = -1;
      for (let along = 0; along <= length; along++) {
        const here = along < length && edge(line, along);
        if (here && start < 0) start = along;
        if (!here && start >= 0) {
          path.push(draw(line, start, along));
          start = -1;
        }
      }
    }
  };
  const { rows, columns, at } = map;
  run(columns, rows, (x, y) => separates(at(y, x - 1), at(y, x)), (x, from, to) => `M${x} ${from}V${to}`);
  run(rows, columns, (y, x) => separates(at(y - 1, x), at(y, x)), (y, from, to) => `M${from} ${y}H${to}`);
  return path.join("");
}

// For each region that occurs, the place deepest inside it: [region, row, column].
function deepestPlaces(map) {
  const { rows, columns, at } = map;
  const depth = new Uint16Array(rows * columns);
  const from = (row, column, up, left) =>
    at(row + up, column + left) === at(row, column) ? depth[(row + up) * columns + column + left] + 1 : 1;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      depth[row * columns + column] = Math.min(from(row, column, -1, 0), from(row, column, 0, -1));
    }
  }
  const best = new Map();
  for (let row = rows - 1; row >= 0; row--) {
    for (let column = columns - 1; column >= 0; column--) {
      const index = row * columns + column;
      depth[index] = Math.min(depth[index], from(row, column, 1, 0), from(row, column, 0, 1));
      const region = map.regions[index];
      if (depth[index] > (best.get(region)?.depth ?? 0)) best.set(region, { depth: depth[index], row, column });
    }
  }
  const found = [...best].map(([region, { row, column }]) => [region, row, column]);
  return found.sort(([a], [b]) => a - b);
}
