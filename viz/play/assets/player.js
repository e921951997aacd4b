// Steps through a drawing. What stands in it belongs to moments, one group of the SVG each, and how a group looks
// follows from the position alone: 0 is the graph as drawn, 1…N the forward pass, N+1…2N the way back, then the end.
"use strict";
(() => {
  const { moments: N, backward, readouts } = JSON.parse(
    document.querySelector('script[type="application/json"]').textContent,
  );
  const LAST = readouts.length - 1;
  const TICK = 900; // ms from step to step
  const SPEEDS = [1, 2, 4, 0.5];

  const figure = document.querySelector("figure");
  const nav = document.querySelector("body > nav");
  const slider = nav.querySelector("input");
  const play = nav.querySelector(".play");
  const speed = nav.querySelector(".speed");
  const readout = nav.querySelector("output");
  const groups = new Map([...figure.querySelectorAll(".moment")].map((g) => [Number(g.dataset.moment), g]));
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  let position = 0;
  let timer = 0; // 0: at rest
  let pace = 0; // index into SPEEDS

  // ---- what a position shows ----

  function momentAt(p) {
    if (p === LAST) return 0;
    return p <= N ? p : 2 * N + 1 - p;
  }

  function look(moment) {
    if (position === 0) return "";
    if (position === LAST) return backward ? "reached all" : "";
    const now = momentAt(position);
    if (position > N) return moment === now ? "reached now" : moment > now ? "reached" : "past";
    return moment === now ? "now" : moment > now ? "later" : "past";
  }

  function show(p) {
    position = Math.max(0, Math.min(LAST, p));
    for (const [moment, group] of groups) {
      const wanted = look(moment);
      if ((group.dataset.look ?? "") !== wanted) group.dataset.look = wanted; // a write costs, even of the same value
    }
    slider.value = position;
    slider.setAttribute("aria-valuetext", readouts[position]);
    readout.value = readouts[position];
    nav.classList.toggle("back", backward && position > N);
    bringIntoView(groups.get(momentAt(position)));
  }

  // ---- scrolling ----

  // Most of a long drawing is out of sight: it is not painted, and nothing moves there.
  const sight = new IntersectionObserver(
    (entries) => entries.forEach((e) => e.target.classList.toggle("away", !e.isIntersecting)),
    { root: figure, rootMargin: "50%" },
  );

  // Scrolls only when the step is about to leave, and then far enough for the next ones: a picture that moves at
  // every step is hard to read.
  function bringIntoView(group) {
    if (!group || (figure.scrollWidth <= figure.clientWidth && figure.scrollHeight <= figure.clientHeight)) return;
    const box = extent(group);
    const view = figure.getBoundingClientRect();
    const back = position > N;
    const left = shift(box.left, box.right, view.left, view.left + figure.clientWidth, back);
    const top = shift(box.top, box.bottom, view.top, view.top + figure.clientHeight, back);
    const far = Math.abs(left) > figure.clientWidth;
    if (left || top) figure.scrollBy({ left, top, behavior: far || calm.matches ? "auto" : "smooth" });
  }

  // Of a step's nodes: its edges may come from far away.
  function extent(group) {
    const nodes = group.querySelectorAll(":scope > :is(.node, .cluster)");
    const boxes = [...(nodes.length ? nodes : [group])].map((e) => e.getBoundingClientRect());
    const all = (side, pick) => pick(...boxes.map((b) => b[side]));
    return {
      left: all("left", Math.min),
      right: all("right", Math.max),
      top: all("top", Math.min),
      bottom: all("bottom", Math.max),
    };
  }

  // By how much to scroll so that low … high is inside from … to, near the end that it comes from.
  function shift(low, high, from, to, back) {
    if (low >= from && high <= to) return 0;
    const room = Math.max(0, to - from - (high - low));
    const margin = Math.min((to - from) * 0.15, room / 2);
    return back && room > 0 ? high - to + margin : low - from - margin;
  }

  // ---- playing ----

  function advance() {
    show(position + 1);
    if (position === LAST) stop();
    else timer = setTimeout(advance, TICK / SPEEDS[pace]);
  }

  function start() {
    if (position === LAST) position = 0;
    announce(true);
    advance();
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    announce(false);
  }

  function announce(playing) {
    nav.classList.toggle("playing", playing);
    play.setAttribute("aria-label", playing ? "pause" : "play");
  }

  function go(p) {
    stop();
    show(p);
  }

  function setPace(index) {
    pace = index % SPEEDS.length;
    speed.textContent = `${SPEEDS[pace] === 0.5 ? "½" : SPEEDS[pace]}×`;
    speed.setAttribute("aria-label", `speed ${SPEEDS[pace]}`);
  }

  // ---- the reader ----

  const KEYS = {
    ArrowLeft: () => go(position - 1),
    ArrowRight: () => go(position + 1),
    Home: () => go(0),
    End: () => go(LAST),
    " ": () => (timer ? stop() : start()),
  };

  function onKey(event) {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    // A button answers the space bar with a click; holding the key down is one press.
    if (event.key === " " && (event.target instanceof HTMLButtonElement || event.repeat)) return;
    event.preventDefault();
    act();
  }

  function fromHash() {
    const found = /^#(\d+)$/.exec(location.hash);
    if (found) go(Number(found[1]));
  }

  slider.max = LAST;
  slider.addEventListener("input", () => go(Number(slider.value)));
  play.addEventListener("click", () => (timer ? stop() : start()));
  speed.addEventListener("click", () => setPace(pace + 1));
  addEventListener("keydown", onKey);
  addEventListener("hashchange", fromHash);
  nav.classList.toggle("returns", backward);
  nav.hidden = false;
  groups.forEach((group) => sight.observe(group));
  setPace(0);
  show(0);
  fromHash();
})();
