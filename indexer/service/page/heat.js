// Heat maps: where in a picture the bits rest that agree. Grids of evidence become one picture over the square that the network saw.

const SIDE = 56;

/** Add grids up on one grid of SIDE x SIDE, each stretched with its sum kept, and scale the largest positive place to 1. */
export function heatOf({ grids }) {
  const sum = new Float64Array(SIDE * SIDE);
  for (const grid of grids) {
    const height = grid.length, width = grid[0].length;
    const share = (height * width) / (SIDE * SIDE);
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) sum[y * SIDE + x] += share * between(grid, ((y + 0.5) * height) / SIDE - 0.5, ((x + 0.5) * width) / SIDE - 0.5);
    }
  }
  const most = sum.reduce((a, b) => Math.max(a, b), 0);
  return sum.map((value) => (most > 0 ? Math.max(0, value) / most : 0));
}

/** The value of a grid between its places. */
function between(grid, y, x) {
  const height = grid.length, width = grid[0].length;
  const at = (row, column) => grid[Math.min(Math.max(row, 0), height - 1)][Math.min(Math.max(column, 0), width - 1)];
  const top = Math.floor(y), left = Math.floor(x), down = y - top, right = x - left;
  return (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1)) + down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
}

/** Paint a heat map over a picture: places that say nothing are darkened, those that say much glow. `box` is the square, in shares. */
export function paint(canvas, map) {
  const heat = heatOf(map);
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  heat.forEach((value, at) => pixels.data.set(colour(value), 4 * at));
  context.putImageData(pixels, 0, 0);
  const [x, y, width, height] = map.box;
  Object.assign(canvas.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * width}%`, height: `${100 * height}%` });
}

/** red, green, blue, opacity of 0..1 */
const STOPS = [[0, [14, 12, 40, 150]], [0.25, [70, 20, 90, 135]], [0.5, [190, 50, 60, 120]], [0.75, [245, 135, 40, 125]], [1, [255, 232, 120, 165]]];

function colour(value) {
  const to = Math.max(1, STOPS.findIndex(([stop]) => stop >= value));
  const [[low, from], [high, end]] = [STOPS[to - 1], STOPS[to]];
  return from.map((channel, at) => channel + ((value - low) / (high - low)) * (end[at] - channel));
}
