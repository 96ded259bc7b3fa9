"use strict";
// Draws the page of a library from the data in it. Whatever comes from the library is put in as
// text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const { tracks, labels, folders, tags } = data;
const count = tracks.name.length;
const VERDICT = { music: 0, unsure: 1, notMusic: 2 };
const GRID = 65535;

// Any two differ by 0.1 in OKLab for readers of normal sight and for those without one kind of
// cones, as Machado and others (2009) simulate it. Further genres take them in another shape.
const COLOURS = [
  "#1478f0", "#c39114", "#2d785f", "#f05faa", "#912daa",
  "#14dcf0", "#c32d14", "#f0aaaa", "#aadc2d", "#aa91f0",
];
const SHAPES = ["circle", "square", "triangle", "diamond"];

const dark = matchMedia("(prefers-color-scheme: dark)");
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en").format;
const percent = (thousandths) => `${Math.round(thousandths / 10)} %`;
const share = (part, whole) => (whole ? percent((1000 * part) / whole) : "0 %");
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many || one + "s"}`;
const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

// Make an element: its class, and texts or elements to put into it.
function make(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function button(className, onClick, ...children) {
  const made = make("button", className, ...children);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

// Of the buttons, listed by what they stand for, only that of the choice is pressed.
function press(buttons, choice) {
  for (const [key, made] of buttons) made.setAttribute("aria-pressed", key === choice);
}

function pathOf(track) {
  const folder = folders[tracks.folder[track]];
  return folder ? `${folder}/${tracks.name[track]}` : tracks.name[track];
}

function addressOf(track) {
  const below = tracks.spelled[track] || pathOf(track).split("/").map(encodeURIComponent).join("/");
  return `${data.root_address.replace(/\/$/, "")}/${below}`;
}

function nameOf(track) {
  const title = tracks.title[track] || tracks.name[track];
  return tracks.artist[track] ? `${tracks.artist[track]} - ${title}` : title;
}

function heardIn(track) {
  const first = `${labels[tracks.genre[track]]} ${percent(tracks.confidence[track])}`;
  if (tracks.verdict[track] === VERDICT.notMusic) return "not music";
  const second = tracks.second[track];
  const runnerUp = second < 0 ? "" : `, ${labels[second]} ${percent(tracks.runner_up[track])}`;
  return (tracks.verdict[track] === VERDICT.unsure ? `unsure: ${first}` : first) + runnerUp;
}

function clock(seconds) {
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return `${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(seconds % 60)}`;
}

const colourOf = (genre) => COLOURS[genre % COLOURS.length];
const edgeOf = (genre, ink) => `color-mix(in srgb, ${colourOf(genre)}, ${ink})`;
const shapeOf = (genre) => SHAPES[Math.floor(genre / COLOURS.length) % SHAPES.length];

// What stands: how many tracks of each genre, and of those that have none.
const stands = (track) => tracks.verdict[track] === VERDICT.music;
const perGenre = labels.map(() => 0);
const perVerdict = [0, 0, 0];
let seconds = 0;
for (let track = 0; track < count; track++) {
  seconds += tracks.seconds[track];
  perVerdict[tracks.verdict[track]]++;
  if (stands(track)) perGenre[tracks.genre[track]]++;
}
const failed = data.errors.reduce((sum, [, files]) => sum + files.length, 0);

let alone = -1; // the genre that is shown alone
let wanted = null; // the tracks that were searched for
const isShown = (track) =>
  (alone < 0 || (stands(track) && tracks.genre[track] === alone)) && (!wanted || wanted.has(track));

// Head and figures

function showHead() {
  const models = data.models.map(
    (model) =>
      `${model.name}, ${model.excerpt === "all" ? "whole files" : `${model.excerpt} s of each file`}` +
      (data.models.length > 1 ? ` (${plural(model.files, "file")})` : "")
  );
  const days = day(data.first) === day(data.last)
    ? day(data.last) : `${day(data.first)} to ${day(data.last)}`;
  element("lead").append(
    make("span", "path", data.root), ` · heard by ${models.join("; ")} · ${days}`
  );
  const hours = seconds / 3600;
  const artists = new Set(tracks.artist.filter(Boolean)).size;
  const figures = [
    [number(count + failed), count + failed === 1 ? "file" : "files"],
    [hours < 10 ? hours.toFixed(1) : number(Math.round(hours)), "hours"],
    [number(artists), artists === 1 ? "artist in the tags" : "artists in the tags"],
    [number(perGenre.filter(Boolean).length), `of ${labels.length} genres heard`],
    [share(perVerdict[VERDICT.music], count), "of the tracks have a clear genre"],
    [number(failed), failed === 1 ? "file could not be read" : "files could not be read"],
  ];
  if (data.missing) figures.push([number(data.missing), "gone since they were heard"]);
  for (const [value, name] of figures) {
    element("figures").append(
      make("div", "figure", make("div", "value", value), make("div", "name", name))
    );
  }
}

// The map

const canvas = element("canvas");
const card = element("card");
const paint = canvas.getContext("2d");
const onMap = [];
for (let track = 0; track < count; track++) if (tracks.x[track] >= 0) onMap.push(track);
// Those in doubt are drawn first, so that they lie beneath.
onMap.sort((a, b) => tracks.verdict[b] - tracks.verdict[a]);
const FULL_RADIUS = onMap.length > 20000 ? 2 : onMap.length > 4000 ? 2.8 : onMap.length > 800 ? 4 : 5.5;
const FULL_WIDTH = 720; // pixels of the map below which the dots are smaller
let radius = FULL_RADIUS;
const REACH = { mouse: 12, touch: 26 }; // pixels from a dot that still mean it
const NEAREST = 60; // times that it can be zoomed in
const CLOSER = 1.6; // times, at each step
const WIDEST_SHAPE = 1.5; // how far the map is stretched across, to fill a wide window
const EMPTY = 0.06; // of the map's side, at each edge

const view = { zoom: 1, x: 0.5, y: 0.5 }; // what is in the middle
let size = { width: 1, height: 1, ratio: 1 };
let unit = [1, 1]; // pixels of the map's side, across and up
let kept = -1;
let pointed = -1;

function screenOf(x, y) {
  return [size.width / 2 + (x - view.x) * unit[0], size.height / 2 - (y - view.y) * unit[1]];
}

const placeOf = (track) => screenOf(tracks.x[track] / GRID, tracks.y[track] / GRID);

function outline(context, shape, x, y, r) {
  context.beginPath();
  if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square") context.rect(x - r * 0.85, y - r * 0.85, r * 1.7, r * 1.7);
  else {
    const corners = shape === "triangle"
      ? [[0, -1.15], [1.1, 0.8], [-1.1, 0.8]] : [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]];
    corners.forEach(([dx, dy], corner) =>
      context[corner ? "lineTo" : "moveTo"](x + dx * r, y + dy * r)
    );
    context.closePath();
  }
}

// One small picture for each kind of dot: copying it is much faster than drawing each dot.
let stamps = new Map();

function stampOf(genre, verdict) {
  const key = verdict === VERDICT.notMusic ? -1 : 2 * genre + verdict;
  if (stamps.has(key)) return stamps.get(key);
  const half = Math.ceil(radius * 1.4 + 1);
  const stamp = document.createElement("canvas");
  stamp.width = stamp.height = 2 * half * size.ratio;
  const context = stamp.getContext("2d");
  context.scale(size.ratio, size.ratio);
  const style = getComputedStyle(document.documentElement);
  if (key < 0) {
    context.strokeStyle = style.getPropertyValue("--muted");
    context.beginPath();
    for (const slope of [-1, 1]) {
      context.moveTo(half - radius * 0.6, half - radius * 0.6 * slope);
      context.lineTo(half + radius * 0.6, half + radius * 0.6 * slope);
    }
    context.stroke();
  } else {
    outline(context, shapeOf(genre), half, half, verdict ? radius * 0.75 : radius);
    if (verdict) {
      context.strokeStyle = edgeOf(genre, style.getPropertyValue("--ink"));
      context.lineWidth = Math.max(1, radius / 3.5);
    } else {
      context.fillStyle = colourOf(genre);
      context.fill();
      // Small dots come in crowds: an edge as light as the ground tells them apart.
      context.strokeStyle = radius > 3
        ? edgeOf(genre, style.getPropertyValue("--ink")) : style.getPropertyValue("--card");
      context.lineWidth = radius > 3 ? 0.8 : 0.4;
    }
    context.stroke();
  }
  stamps.set(key, { stamp, half });
  return stamps.get(key);
}

function fitCanvas() {
  const box = element("map").getBoundingClientRect();
  size = { width: box.width, height: box.height, ratio: window.devicePixelRatio || 1 };
  canvas.width = Math.round(size.width * size.ratio);
  canvas.height = Math.round(size.height * size.ratio);
  radius = FULL_RADIUS * Math.min(1, Math.max(0.65, size.width / FULL_WIDTH));
  stamps = new Map();
  moveTo(view.x, view.y);
}

let isDue = false;
function drawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
  });
}

const FLUENT = 10000; // dots that can be drawn for each step of a movement
let settled = 0; // the timer that ends a movement

function drawMoving() {
  clearTimeout(settled);
  settled = setTimeout(() => {
    settled = 0;
    drawSoon();
  }, 150);
  drawSoon();
}

function draw() {
  const step = settled ? Math.ceil(onMap.length / FLUENT) : 1;
  paint.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  paint.clearRect(0, 0, size.width, size.height);
  const isFiltered = alone >= 0 || wanted;
  if (isFiltered) {
    paint.globalAlpha = 0.1;
    for (let at = 0; at < onMap.length; at += step) {
      if (!isShown(onMap[at])) stampDot(onMap[at]);
    }
  }
  paint.globalAlpha = 0.9;
  for (let at = 0; at < onMap.length; at += step) {
    if (!isFiltered || isShown(onMap[at])) stampDot(onMap[at]);
  }
  paint.globalAlpha = 1;
  drawNames();
  placeMarks();
}

function stampDot(track) {
  const [x, y] = placeOf(track);
  if (x < -9 || y < -9 || x > size.width + 9 || y > size.height + 9) return;
  const { stamp, half } = stampOf(tracks.genre[track], tracks.verdict[track]);
  paint.drawImage(stamp, x - half, y - half, 2 * half, 2 * half);
}

// What is pointed at and what is kept is marked above the canvas, which need not be drawn again.
function placeMarks() {
  for (const [id, track] of [["kept", kept], ["pointed", pointed]]) {
    const mark = element(id);
    mark.hidden = track < 0;
    if (track < 0) continue;
    const [x, y] = placeOf(track);
    mark.style.left = `${x}px`;
    mark.style.top = `${y}px`;
    mark.style.width = mark.style.height = `${2 * radius + 9}px`;
  }
  if (kept >= 0) placeCard(kept);
}

// Each genre's name stands above the place where its tracks are densest: [genre, x, y].
const names = labels.flatMap((_, genre) => {
  const members = onMap.filter((track) => stands(track) && tracks.genre[track] === genre);
  if (members.length < 3) return [];
  const sample = members.filter((_, at) => at % Math.ceil(members.length / 300) === 0);
  const near = 0.07 * GRID;
  let best = [-1, 0, 0];
  for (const a of sample) {
    const around = sample.filter(
      (b) => Math.hypot(tracks.x[a] - tracks.x[b], tracks.y[a] - tracks.y[b]) < near
    );
    if (around.length > best[0]) {
      const x = around.reduce((sum, b) => sum + tracks.x[b], 0) / around.length;
      best = [around.length, x / GRID, Math.max(...around.map((b) => tracks.y[b])) / GRID];
    }
  }
  return [[genre, best[1], best[2]]];
});

function drawNames() {
  const style = getComputedStyle(document.documentElement);
  paint.font = `600 14px ${getComputedStyle(document.body).fontFamily}`;
  paint.textAlign = "center";
  paint.textBaseline = "middle";
  paint.lineJoin = "round";
  const taken = [];
  const drawn = [...names].sort((a, b) => perGenre[b[0]] - perGenre[a[0]]);
  for (const [genre, x, y] of drawn) {
    if (alone >= 0 && genre !== alone) continue;
    const half = paint.measureText(labels[genre]).width / 2 + 4;
    let [left, top] = screenOf(x, y);
    top -= radius + 10;
    left = Math.min(Math.max(left, half + 4), size.width - half - 4);
    for (let tries = 0; tries < 8; tries++) {
      const isFree = taken.every(
        ([tx, ty, th]) => Math.abs(tx - left) > th + half || Math.abs(ty - top) > 18
      );
      if (isFree) break;
      top += tries % 2 ? 18 * (tries + 1) : -18 * (tries + 1);
    }
    taken.push([left, top, half]);
    paint.strokeStyle = style.getPropertyValue("--card");
    paint.lineWidth = 5;
    paint.strokeText(labels[genre], left, top);
    paint.fillStyle = style.getPropertyValue("--ink");
    paint.fillText(labels[genre], left, top);
  }
}

function dotAt(x, y, reach) {
  let nearest = -1;
  let smallest = reach * reach;
  for (const track of onMap) {
    if (!isShown(track)) continue;
    const [dotX, dotY] = placeOf(track);
    const square = (dotX - x) ** 2 + (dotY - y) ** 2;
    if (square < smallest) [nearest, smallest] = [track, square];
  }
  return nearest;
}

function fillCard(track, isKept) {
  card.classList.toggle("kept", isKept);
  const length = tracks.seconds[track] ? ` · ${clock(tracks.seconds[track])}` : "";
  card.replaceChildren(
    make("strong", "", nameOf(track)),
    make("div", "heard", heardIn(track) + length),
    make("span", "path", pathOf(track))
  );
  if (isKept && data.root_address && location.protocol === "file:") {
    const player = document.createElement("audio");
    player.controls = true;
    player.preload = "none";
    player.src = addressOf(track);
    player.addEventListener("error", () => player.remove()); // moved, or a format unknown here
    card.append(player);
  }
  card.hidden = false;
}

function placeCard(track) {
  const [x, y] = placeOf(track);
  const gap = radius + 8;
  const left = x + gap + card.offsetWidth > size.width ? x - gap - card.offsetWidth : x + gap;
  const below = y + gap + card.offsetHeight < size.height ? y + gap : y - gap - card.offsetHeight;
  const within = (value, room) => Math.max(8, Math.min(value, room - 8));
  card.style.left = `${within(left, size.width - card.offsetWidth)}px`;
  card.style.top = `${within(below, size.height - card.offsetHeight)}px`;
}

function keep(track) {
  kept = track;
  if (track < 0) card.hidden = true;
  else fillCard(track, true);
  placeMarks();
}

// Show a track of a list on the map, in the middle if it is outside.
function find(track) {
  if (!isShown(track)) {
    showAlone(-1);
    element("search").value = "";
    search();
  }
  const [x, y] = placeOf(track);
  if (x < 0 || y < 0 || x > size.width || y > size.height) {
    moveTo(tracks.x[track] / GRID, tracks.y[track] / GRID);
  }
  keep(track);
  element("map").scrollIntoView({ block: "nearest" });
}

// Keep the nearest of the tracks that lie more in a direction (pixels across, down) than beside it.
function keepNext(across, down) {
  const from = kept < 0 ? [size.width / 2, size.height / 2] : placeOf(kept);
  let next = -1;
  let smallest = Infinity;
  for (const track of onMap) {
    if (track === kept || !isShown(track)) continue;
    const [x, y] = placeOf(track);
    const ahead = (x - from[0]) * across + (y - from[1]) * down;
    const beside = Math.abs((x - from[0]) * down + (y - from[1]) * across);
    const distance = Math.hypot(ahead, beside);
    const isThere = kept < 0 || (ahead > 0 && ahead >= beside);
    if (isThere && distance < smallest) [next, smallest] = [track, distance];
  }
  if (next >= 0) find(next);
}

function zoomBy(factor, x = size.width / 2, y = size.height / 2) {
  const zoom = Math.min(NEAREST, Math.max(1, view.zoom * factor));
  const change = zoom / view.zoom;
  const acrossX = (x - size.width / 2) / unit[0];
  const acrossY = (size.height / 2 - y) / unit[1];
  view.zoom = zoom;
  moveTo(view.x + acrossX * (1 - 1 / change), view.y + acrossY * (1 - 1 / change));
}

function moveTo(x, y) {
  const within = (value) => (view.zoom === 1 ? 0.5 : Math.min(1, Math.max(0, value)));
  view.x = within(x);
  view.y = within(y);
  const side = Math.min(size.width, size.height) * (1 - 2 * EMPTY) * view.zoom;
  unit = [side * Math.min(WIDEST_SHAPE, Math.max(1, size.width / size.height)), side];
  // At full size a finger that moves up or down scrolls the page.
  canvas.style.touchAction = view.zoom === 1 ? "pan-y" : "none";
  drawMoving();
}

function listenToPointers() {
  const down = new Map(); // the pointers that are down, where they are
  let travelled = 0;
  const spread = () => {
    const [a, b] = [...down.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!down.size) travelled = 0;
    down.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event);
    if (!down.has(event.pointerId)) {
      if (event.pointerType === "mouse") point(dotAt(...here, REACH.mouse));
      return;
    }
    const before = down.get(event.pointerId);
    const apart = down.size === 2 ? spread() : 0;
    down.set(event.pointerId, here);
    travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
    if (apart) {
      const [a, b] = [...down.values()];
      zoomBy(spread() / apart, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    } else if (travelled > 4) {
      canvas.classList.add("dragged");
      moveTo(
        view.x - (here[0] - before[0]) / unit[0],
        view.y + (here[1] - before[1]) / unit[1]
      );
    }
  });
  const up = (event) => {
    if (event.type === "pointerup" && down.size === 1 && travelled <= 4) {
      const reach = event.pointerType === "mouse" ? REACH.mouse : REACH.touch;
      keep(dotAt(...at(event), reach));
    }
    down.delete(event.pointerId);
    canvas.classList.remove("dragged");
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("dblclick", (event) => zoomBy(2, ...at(event)));
  canvas.addEventListener("wheel", (event) => {
    // A bare wheel scrolls the page until somebody has zoomed in.
    if (!event.ctrlKey && !event.metaKey && view.zoom === 1) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), ...at(event));
  }, { passive: false });
  element("zoom-in").addEventListener("click", () => zoomBy(CLOSER));
  element("zoom-out").addEventListener("click", () => zoomBy(1 / CLOSER));
  element("zoom-all").addEventListener("click", () => {
    view.zoom = 1;
    moveTo(0.5, 0.5);
  });
}

const zoomAtKept = (factor) => zoomBy(factor, ...(kept < 0 ? [] : placeOf(kept)));
const KEYS = {
  ArrowLeft: () => keepNext(-1, 0),
  ArrowRight: () => keepNext(1, 0),
  ArrowUp: () => keepNext(0, -1),
  ArrowDown: () => keepNext(0, 1),
  "+": () => zoomAtKept(CLOSER),
  "-": () => zoomAtKept(1 / CLOSER),
};

function listenToKeys() {
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    point(-1);
    keep(-1);
  });
}

function point(track) {
  if (track === pointed) return;
  pointed = track;
  canvas.classList.toggle("on-dot", track >= 0);
  if (kept < 0) {
    if (track >= 0) {
      fillCard(track, false);
      placeCard(track);
    } else card.hidden = true;
  }
  placeMarks();
}

function noteOnMap() {
  const { map, landmarks } = data;
  const note = element("map-note");
  if (!map || onMap.length < 2) {
    element("map").hidden = true;
    note.textContent = "There are too few tracks for a map.";
    return;
  }
  note.textContent =
    "Made of what the network hears in each track, laid out in the plane by PaCMAP (Wang and " +
    "others, 2021), which keeps neighbours together; then wide gaps are narrowed and crowds spread. " +
    "So the axes mean nothing, and gaps and sizes of islands little. " +
    (landmarks
      ? `The layout is that of ${number(landmarks)} tracks drawn at random, each other one lies ` +
        "between the three of them that it resembles most. "
      : "") +
    `Of the ${map.nearest} tracks that sound most like a track, ${percent(1000 * map.kept)} lie ` +
    `among the ${number(map.reach)} dots nearest to it; by chance it would be ` +
    `${percent(1000 * map.chance)}.` +
    (onMap.length < count
      ? ` ${plural(count - onMap.length, "track")} heard by another model cannot be compared and ` +
        "are not on the map."
      : "");
}

// Genres, and the tracks that are searched for

function swatch(genre) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "-8 -8 16 16");
  const corners = {
    square: "-6,-6 6,-6 6,6 -6,6", triangle: "0,-7 7,6 -7,6", diamond: "0,-8 8,0 0,8 -8,0",
  }[shapeOf(genre)];
  const form = document.createElementNS(picture.namespaceURI, corners ? "polygon" : "circle");
  form.setAttribute(corners ? "points" : "r", corners || "6.5");
  form.setAttribute("fill", colourOf(genre));
  form.setAttribute("stroke", edgeOf(genre, "var(--ink)"));
  picture.append(form);
  return picture;
}

const genreButtons = new Map();

function showGenres() {
  const most = Math.max(1, ...perGenre);
  const ranked = labels.map((_, genre) => genre)
    .filter((genre) => perGenre[genre])
    .sort((a, b) => perGenre[b] - perGenre[a]);
  for (const genre of ranked) {
    const filled = make("i", "");
    filled.style.width = `${(100 * perGenre[genre]) / most}%`;
    filled.style.setProperty("--colour", colourOf(genre));
    const made = button(
      "", () => showAlone(genre === alone ? -1 : genre), swatch(genre),
      make("span", "", labels[genre]),
      make("span", "share", `${share(perGenre[genre], count)} `,
        make("small", "", number(perGenre[genre]))),
      make("span", "bar", filled)
    );
    genreButtons.set(genre, made);
    element("genres").append(make("li", "", made));
  }
  press(genreButtons, alone);
  const doubtful = [];
  if (perVerdict[VERDICT.unsure]) {
    doubtful.push(`${plural(perVerdict[VERDICT.unsure], "track is", "tracks are")} unsure (rings)`);
  }
  if (perVerdict[VERDICT.notMusic]) {
    doubtful.push(
      `${plural(perVerdict[VERDICT.notMusic], "is", "are")} not music (crosses)`
    );
  }
  element("key").textContent = doubtful.length ? `${doubtful.join(", ")}: no genre.` : "";
}

function showAlone(genre) {
  alone = genre;
  press(genreButtons, alone);
  showConfidence();
  if (kept >= 0 && !isShown(kept)) keep(-1);
  drawSoon();
}

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
let foldedNames = null;
const LISTED_MATCHES = 40;

function search() {
  const words = fold(element("search").value).split(/\s+/).filter(Boolean);
  wanted = null;
  let matches = [];
  let found = "";
  if (words.length) {
    foldedNames = foldedNames || tracks.name.map((_, track) => fold(`${nameOf(track)} ${pathOf(track)}`));
    wanted = new Set();
    foldedNames.forEach((name, track) => {
      if (words.every((word) => name.includes(word))) wanted.add(track);
    });
    matches = [...wanted].slice(0, LISTED_MATCHES);
    found = plural(wanted.size, "track") +
      (matches.length < wanted.size ? `, the first ${LISTED_MATCHES} listed` : "");
  }
  element("found").textContent = found;
  element("matches").replaceChildren(...matches.map(trackLink));
  if (kept >= 0 && !isShown(kept)) keep(-1);
  drawSoon();
}

function trackLink(track) {
  const made = button("track-link", () => find(track), nameOf(track));
  made.title = `${pathOf(track)}\n${heardIn(track)}`;
  made.disabled = tracks.x[track] < 0;
  return made;
}

// Confidence

const BINS = 20;

function showConfidence() {
  const sure = new Array(BINS).fill(0);
  const unsure = new Array(BINS).fill(0);
  const confidences = [];
  for (let track = 0; track < count; track++) {
    if (tracks.verdict[track] === VERDICT.notMusic) continue;
    if (alone >= 0 && tracks.genre[track] !== alone) continue;
    const bin = Math.min(BINS - 1, Math.floor((tracks.confidence[track] * BINS) / 1000));
    (stands(track) ? sure : unsure)[bin]++;
    confidences.push(tracks.confidence[track]);
  }
  confidences.sort((a, b) => a - b);
  const most = Math.max(1, ...sure.map((n, bin) => n + unsure[bin]));
  const colour = alone < 0 ? "var(--accent)" : colourOf(alone);
  element("histogram").style.setProperty("--colour", colour);
  element("histogram").replaceChildren(...sure.map((n, bin) => {
    const bar = (kind, height) => {
      const made = make("i", kind);
      made.style.height = `${(100 * height) / most}%`;
      return made;
    };
    const made = make("div", "", bar("sure", n), bar("unsure", unsure[bin]));
    const range = `${(100 * bin) / BINS} to ${(100 * (bin + 1)) / BINS} %`;
    made.title = `${range}: ${plural(n + unsure[bin], "track")}`;
    return made;
  }));
  const whose = alone < 0 ? "the tracks" : `the ${labels[alone]} tracks`;
  const middle = percent(confidences[confidences.length >> 1] || 0);
  const above = confidences.filter((value) => value >= 900).length;
  const hatched = unsure.some(Boolean) ? " Hatched: unsure, so without a genre." : "";
  const text =
    `How probable the genre of ${whose} is: the median is ${middle}, ` +
    `and ${share(above, confidences.length)} have 90 % or more.${hatched}`;
  element("confidence-lead").textContent = text;
  element("histogram").setAttribute("aria-label", text);
}

// Tables and lists

const PAGE = 50; // rows that are shown at first, and by each further click

function table(columns, rows, cellsOf) {
  const head = make("tr", "", ...columns.map(([name, kind]) => {
    const made = make("th", kind, name);
    made.scope = "col";
    return made;
  }));
  const body = make("tbody", "");
  const whole = make(
    "div", "", make("div", "table", make("table", "", make("thead", "", head), body))
  );
  showByPages(whole, body, rows, (row) =>
    make("tr", "", ...cellsOf(row).map((cell, at) => make("td", columns[at][1], ...[cell].flat())))
  );
  return whole;
}

// Put rows into a list, some at first and the others by a button at the end of `whole`.
function showByPages(whole, list, rows, rowOf) {
  let shown = 0;
  const more = button("more", () => {
    list.append(...rows.slice(shown, shown + PAGE).map(rowOf));
    shown = Math.min(shown + PAGE, rows.length);
    more.textContent = `Show more (${number(rows.length - shown)} left)`;
    more.hidden = shown === rows.length;
  }, "");
  whole.append(more);
  more.click();
}

function foldOut(title, rows, rowOf) {
  const list = make("ul", "");
  const whole = make(
    "details", "", make("summary", "", make("span", "count", number(rows.length)), title), list
  );
  whole.addEventListener("toggle", () => {
    if (!list.childElementCount) showByPages(whole, list, rows, rowOf);
  });
  return whole;
}

function pairKey([track, , meant]) {
  return `${meant.join(" or ")} → ${labels[tracks.genre[track]]}`;
}

const LISTED_PAIRS = 10;
let pair = null; // the only one that the table shows

function showDisagreement() {
  const rows = tags.disagreeing;
  const comparable = tags.agreeing + rows.length;
  const untold = [
    tags.untagged && `${plural(tags.untagged, "track has", "tracks have")} no genre in the tags.`,
    tags.written && `${plural(tags.written, "track has", "tracks have")} only what Tonearm wrote.`,
  ].filter(Boolean).join(" ");
  element("tags-lead").textContent = comparable
    ? `Of ${plural(comparable, "track")} whose tags name one of the model's genres, ` +
      `${number(tags.agreeing)} (${share(tags.agreeing, comparable)}) are heard the same. Of the ` +
      "others either may be right. " +
      untold
    : `No tags name one of the model's genres, so there is nothing to compare. ${untold}`;
  const counts = new Map();
  for (const row of rows) counts.set(pairKey(row), (counts.get(pairKey(row)) || 0) + 1);
  const pairs = [...counts].sort((a, b) => b[1] - a[1]).slice(0, LISTED_PAIRS);
  const pairButtons = new Map((counts.size < 2 ? [] : pairs).map(([key, n]) => [
    key, button("", () => {
      pair = key === pair ? null : key;
      press(pairButtons, pair);
      listDisagreeing();
    }, `${key} `, make("small", "", number(n))),
  ]));
  press(pairButtons, pair);
  element("pairs").append(...pairButtons.values());
  listDisagreeing();
}

function listDisagreeing() {
  const rows = tags.disagreeing.filter((row) => !pair || pairKey(row) === pair);
  element("disagreeing").replaceChildren(...(rows.length ? [table(
    [["Tag", ""], ["Heard", ""], ["Track", ""]],
    rows,
    ([track, said]) => [
      said,
      [make("span", "wrong", labels[tracks.genre[track]]), " ",
        make("small", "", percent(tracks.confidence[track]))],
      [trackLink(track), make("span", "path", pathOf(track))],
    ]
  )] : []));
}

function showForeign() {
  if (!tags.foreign.length) return;
  element("foreign").append(
    make("h3", "", "Genres in the tags that the model does not know"),
    table(
      [["Tag", ""], ["Tracks", "number"], ["Mostly heard as", ""]], tags.foreign,
      ([said, tagged, heard]) => [said, number(tagged), heard]
    )
  );
}

function showDoubtful() {
  const lists = [
    ["unsure", VERDICT.unsure, (track) => heardIn(track).replace("unsure: ", "")],
    ["not music", VERDICT.notMusic, () => ""],
  ];
  element("doubtful").hidden = perVerdict[VERDICT.music] === count;
  for (const [title, verdict, remark] of lists) {
    const rows = [];
    for (let track = 0; track < count; track++) if (tracks.verdict[track] === verdict) rows.push(track);
    if (rows.length) {
      element("doubtful-lists").append(foldOut(title, rows, (track) => make(
        "li", "", trackLink(track), make("span", "path", pathOf(track)),
        make("small", "", remark(track) && ` · ${remark(track)}`)
      )));
    }
  }
}

function showErrors() {
  element("errors").hidden = !failed;
  for (const [kind, files] of data.errors) {
    element("error-lists").append(foldOut(kind, files, ([path, reason]) => make(
      "li", "", make("span", "path", path), make("small", "", reason === kind ? "" : ` · ${reason}`)
    )));
  }
}

showHead();
noteOnMap();
showGenres();
showConfidence();
showDisagreement();
showForeign();
showDoubtful();
showErrors();
element("footer").textContent =
  `Made on ${day(data.date)} by Tonearm ${data.version}. The page needs nothing beside itself and ` +
  "sends nothing anywhere. Opened on the machine that holds the files, a clicked dot can be played.";
element("search").addEventListener("input", search);
listenToPointers();
listenToKeys();
new ResizeObserver(fitCanvas).observe(element("map"));
dark.addEventListener("change", () => {
  stamps = new Map();
  drawSoon();
});
