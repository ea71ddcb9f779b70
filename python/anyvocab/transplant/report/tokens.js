// The table of all tokens: filtered, sorted and made a page at a time from the data in the page.
// Text is set as text, never as markup.
"use strict";
(() => {
  const place = document.getElementById("token-tool");
  const data = JSON.parse(document.getElementById("token-data").textContent);
  const count = data.text.length;
  const PAGE = 50;
  const AS_FIRST = 15; // instead of a number of sources: those of the first side

  const decoded = (text) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  };
  const shorts = (text) => new Uint16Array(decoded(text).buffer);
  const signed = (text) => new Int16Array(decoded(text).buffer);
  const codes = (text) => {
    const found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i) - 48;
    return found;
  };

  const kinds = codes(data.kind);
  const opened = (side) => {
    const flags = decoded(side.flags);
    const ids = decoded(side.sources);
    const starts = new Uint32Array(count + 1);
    const weighed = new Uint32Array(count + 1);
    for (let i = 0; i < count; i++) {
      const n = (flags[i] & 15) === AS_FIRST ? 0 : flags[i] & 15;
      starts[i + 1] = starts[i] + n;
      weighed[i + 1] = weighed[i] + (flags[i] & 128 ? 0 : n);
    }
    const made = { side, flags, starts, weighed, origin: codes(side.origin) };
    made.source = (at) => ids[3 * at] | (ids[3 * at + 1] << 8) | (ids[3 * at + 2] << 16);
    made.weights = signed(side.weights);
    made.scale = side.scale ? shorts(side.scale) : null;
    made.norm = side.norm ? shorts(side.norm) : null;
    made.score = side.score ? decoded(side.score) : null;
    if (side.nearest) {
      const near = decoded(side.nearest);
      const cosines = signed(side.cosine);
      made.near = new Int32Array(count).fill(-1);
      made.cosine = new Float32Array(count).fill(-2);
      let at = 0;
      for (let i = 0; i < count; i++) {
        if (!(flags[i] & 32)) continue;
        made.near[i] = near[3 * at] | (near[3 * at + 1] << 8) | (near[3 * at + 2] << 16);
        made.cosine[i] = cosines[at++] / 32767;
      }
    }
    return made;
  };
  const sides = data.sides.map(opened);

  const state = { side: 0, query: "", origin: -1, kind: -1, sort: "id", down: false, page: 0 };
  if (sides[0].score) [state.sort, state.down] = ["score", true]; // what is worth a look
  let side = sides[0];
  let shown = new Uint32Array(0);
  let lower = null;

  const element = (name, css, text) => {
    const made = document.createElement(name);
    if (css) made.className = css;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value) => value.toLocaleString("en");
  const part = (id) => document.getElementById("token-" + id);

  const teller = (i) => ((side.flags[i] & 15) === AS_FIRST ? sides[0] : side);

  const KEYS = {
    id: (i) => i,
    token: null, // by text, below
    kind: (i) => kinds[i],
    origin: (i) => side.origin[i],
    sources: (i) => teller(i).flags[i] & 15,
    norm: (i) => side.norm[i],
    score: (i) => side.score[i],
    nearest: (i) => side.cosine[i],
  };

  const filter = () => {
    const query = state.query;
    const plain = query.toLowerCase() === query; // small letters find capitals too
    if (plain && query && !lower) lower = data.text.map((text) => text.toLowerCase());
    const texts = plain ? lower : data.text;
    const id = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : -1;
    const found = [];
    for (let i = 0; i < count; i++) {
      if (state.origin >= 0 && side.origin[i] !== state.origin) continue;
      if (state.kind >= 0 && kinds[i] !== state.kind) continue;
      if (query && i !== id && !texts[i].includes(query)) continue;
      found.push(i);
    }
    const sign = state.down ? -1 : 1; // equal ones stay in the order of their ids
    if (state.sort === "token") {
      const texts = data.text;
      found.sort((a, b) => (texts[a] < texts[b] ? -sign : texts[a] > texts[b] ? sign : a - b));
    } else {
      const key = KEYS[state.sort];
      found.sort((a, b) => sign * (key(a) - key(b)) || a - b);
    }
    if (id >= 0 && found.includes(id)) {
      found.splice(found.indexOf(id), 1); // the id that was asked for stands first
      found.unshift(id);
    }
    shown = found;
  };

  const spelled = (id) => {
    const code = element("code", "", data.source[id] ?? "#" + id);
    code.title = "source id " + id;
    return code;
  };
  const dot = (css) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("class", "dot");
    svg.setAttribute("viewBox", "0 0 10 10");
    const square = document.createElementNS(space, "rect");
    square.setAttribute("class", css);
    square.setAttribute("width", "10");
    square.setAttribute("height", "10");
    square.setAttribute("rx", "2");
    svg.append(square);
    return svg;
  };

  const sources = (i) => {
    const cell = element("td", "made");
    const from = teller(i);
    const n = from.flags[i] & 15;
    const equal = side.flags[i] & 128;
    for (let k = 0; k < n; k++) {
      if (k) cell.append(" ");
      if (!equal) {
        const weight = from.weights[from.weighed[i] + k] / 1000;
        cell.append(element("small", "", weight.toFixed(2)), "\u00a0");
      }
      cell.append(spelled(from.source(from.starts[i] + k)));
    }
    const more = [];
    if (side.flags[i] & 16) more.push("and more");
    if (side.flags[i] & 64) more.push(n ? "and a part of its own" : "a row of its own");
    if (side.scale && side.scale[i] !== 1000) more.push("× " + (side.scale[i] / 1000).toFixed(2));
    if (data.reasons[i]) more.push(data.reasons[i]);
    if (more.length) cell.append(" ", element("small", "", more.join(", ")));
    return cell;
  };

  const row = (i) => {
    const made = element("tr");
    const token = element("td");
    token.append(element("code", "", data.text[i]));
    const origin = element("td", "nowrap");
    const name = data.origins[side.origin[i]];
    origin.append(dot(name[1]), element("span", "wide", name[0]));
    origin.title = name[0];
    made.append(element("td", "n", i), token, element("td", "wide", data.kinds[kinds[i]]));
    made.append(origin, sources(i));
    if (side.norm) {
      made.append(element("td", "n", (side.norm[i] * side.side.unit).toPrecision(3)));
      const score = side.score[i];
      made.append(element("td", "n wide", score ? (score / 2).toFixed(1) : ""));
    }
    if (side.near) {
      const near = element("td", "wide");
      if (side.near[i] >= 0) {
        near.append(element("small", "", side.cosine[i].toFixed(2)), "\u00a0");
        near.append(spelled(side.near[i]));
      }
      made.append(near);
    }
    return made;
  };

  const COLUMNS = [
    ["id", "id", "n"],
    ["token", "token", ""],
    ["kind", "kind", "wide"],
    ["origin", "origin", ""],
    ["sources", "made of", ""],
    ["norm", "norm", "n"],
    ["score", "unlike", "n wide"],
    ["nearest", "nearest source row", "wide"],
  ];

  const head = () => {
    const line = element("tr");
    for (const [key, title, css] of COLUMNS) {
      if ((key === "norm" || key === "score") && !side.norm) continue;
      if (key === "nearest" && !side.near) continue;
      const cell = element("th", css);
      const sorted = state.sort === key;
      const button = element("button", "", title + (sorted ? (state.down ? " ↓" : " ↑") : ""));
      button.type = "button";
      if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      button.addEventListener("click", () => {
        // Of numbers that are sorted for their extremes the large ones come first.
        const first = key === "score" || key === "nearest" || key === "norm" || key === "sources";
        state.down = sorted ? !state.down : first;
        state.sort = key;
        state.page = 0;
        filter();
        draw();
      });
      cell.append(button);
      line.append(cell);
    }
    part("head").replaceChildren(line);
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const first = state.page * PAGE;
    const rows = [];
    for (let k = first; k < Math.min(shown.length, first + PAGE); k++) rows.push(row(shown[k]));
    head();
    part("rows").replaceChildren(...rows);
    const last = Math.min(shown.length, first + PAGE);
    part("count").textContent = shown.length
      ? `${number(first + 1)} to ${number(last)} of ${number(shown.length)}`
      : "no token";
    part("back").disabled = state.page === 0;
    part("next").disabled = state.page >= pages - 1;
  };

  const origins = () => {
    const counts = new Array(data.origins.length).fill(0);
    for (let i = 0; i < count; i++) counts[side.origin[i]]++;
    const options = [new Option(`all origins (${number(count)})`, "-1")];
    data.origins.forEach(([name], code) => {
      if (counts[code]) options.push(new Option(`${name} (${number(counts[code])})`, code));
    });
    part("origin").replaceChildren(...options);
    part("origin").value = state.origin;
    if (part("origin").selectedIndex < 0) part("origin").value = state.origin = -1;
  };

  const changed = () => {
    state.page = 0;
    filter();
    draw();
  };
  const listen = (id, event, key, value) =>
    part(id).addEventListener(event, () => {
      state[key] = value(part(id).value);
      changed();
    });

  data.kinds.forEach((name, code) => part("kind").append(new Option(name, code)));
  sides.forEach((one, at) => part("side").append(new Option(one.side.name + " side", at)));
  part("side").hidden = sides.length < 2;
  listen("search", "input", "query", (text) => text);
  listen("origin", "change", "origin", Number);
  listen("kind", "change", "kind", Number);
  part("side").addEventListener("change", () => {
    side = sides[Number(part("side").value)];
    origins();
    changed();
  });
  part("back").addEventListener("click", () => { state.page--; draw(); });
  part("next").addEventListener("click", () => { state.page++; draw(); });
  origins();
  filter();
  draw();
  document.getElementById("token-plain").hidden = true;
  place.hidden = false;
})();
