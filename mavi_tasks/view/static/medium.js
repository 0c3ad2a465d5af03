/* Pictures and videos. The address names an item; where its file lies is the server's business. */
import { facets, post } from "./app.js";
const { el } = mavi;
const FRAME_S = 1 / 30; /* browsers do not say how many frames a second a video has */
const AS_IT_IS = /\.(jpe?g|png|gif|webp|bmp|avif)$/i;

const of = (item, path) => `${path}?id=${encodeURIComponent(item.id)}`;

async function isAllowed(item) {
  const known = (await facets()).origins.find((one) => one.origin === item.origin);
  return Boolean(known && known.allowed);
}

export async function thumb(item) {
  const alt = "";
  if (item.place === "local") return el("img", { src: of(item, "/thumb"), alt, loading: "lazy", on: { error: gone } });
  if (item.kind !== "video" && item.place === "s3") return el("img", { src: of(item, "/media"), alt, loading: "lazy", on: { error: gone } });
  if (item.kind !== "video" && item.place === "remote" && await isAllowed(item)) {
    return el("img", { src: item.url, alt, loading: "lazy", referrerpolicy: "no-referrer", on: { error: gone } });
  }
  return el("span", { class: "none", text: item.kind || "text" });
}

function gone(event) {
  event.target.replaceWith(el("span", { class: "none", text: "no picture" }));
}

/* {node, keys, jump(seconds)} */
export async function large(item) {
  if (!item.place) return { node: el("p", { class: "none", text: item.uri ? "This medium cannot be shown." : "No medium: text only." }), keys: {}, jump: null };
  if (item.place === "remote" && !(await isAllowed(item))) return { node: asked(item), keys: {}, jump: null };
  const src = item.place === "remote" ? item.url : of(item, "/media");
  return item.kind === "video" ? video(item, src) : picture(item, src);
}

function asked(item) {
  if (!item.origin) return el("p", { class: "none", text: "This address cannot be shown." });
  return el("div", { class: "none ask" },
    el("p", { text: `This medium lies on ${item.origin}. Loading it tells that server that you look.` }),
    el("button", { type: "button", text: `Show media from ${item.origin}`, on: { click: async () => {
      await post("/api/allow", { origin: item.origin, allow: true });
      location.reload(); /* what a page may load is fixed when it comes */
    } } }));
}

function picture(item, src) {
  const local = item.place === "local";
  const image = el("img", { class: "large", alt: `Item ${item.id}`, referrerpolicy: "no-referrer",
    src: local && !AS_IT_IS.test(item.uri) ? of(item, "/thumb") + "&large" : src });
  image.addEventListener("error", () => {
    if (local && !image.src.includes("/thumb")) image.src = of(item, "/thumb") + "&large";
    else image.replaceWith(el("p", { class: "none", text: "This picture cannot be shown: it is gone, or no picture." }));
  });
  const frame = el("div", { class: "frame", tabindex: "0", role: "group", "aria-label": "The picture; z zooms" }, image);
  const zoom = (event) => {
    const now = frame.classList.toggle("zoomed");
    if (!now || !event || event.offsetX === undefined || event.type !== "click") return;
    const x = event.offsetX / image.clientWidth, y = event.offsetY / image.clientHeight;
    frame.scrollTo(x * frame.scrollWidth - frame.clientWidth / 2, y * frame.scrollHeight - frame.clientHeight / 2);
  };
  image.addEventListener("click", zoom);
  return { node: frame, keys: { z: zoom }, jump: null };
}

function video(item, src) {
  const at = /^#t=(\d+(?:\.\d+)?)/.exec(location.hash);
  const player = el("video", { class: "large", controls: true, preload: "metadata", src: at ? `${src}#t=${at[1]}` : src,
    "aria-label": `Item ${item.id}` });
  player.muted = true;
  const step = (frames) => { player.pause(); player.currentTime = Math.max(0, player.currentTime + frames * FRAME_S); };
  const speeds = el("select", { "aria-label": "Speed", on: { change: () => { player.playbackRate = Number(speeds.value); } } },
    ...[0.25, 0.5, 1, 1.5, 2, 4].map((rate) => el("option", { value: rate, text: `${rate}×`, selected: rate === 1 })));
  const time = el("span", { class: "muted small", text: "0.00 s" });
  player.addEventListener("timeupdate", () => { time.textContent = `${player.currentTime.toFixed(2)} s`; });
  const play = () => (player.paused ? player.play() : player.pause());
  const jump = (seconds) => {
    player.currentTime = seconds;
    history.replaceState(null, "", `${location.pathname}${location.search}#t=${seconds}`);
    player.play();
  };
  const node = el("div", { class: "video" }, player, el("div", { class: "controls" },
    el("button", { type: "button", text: "◂ frame", on: { click: () => step(-1) } }),
    el("button", { type: "button", text: "frame ▸", on: { click: () => step(1) } }), speeds, time));
  player.addEventListener("error", () => player.replaceWith(el("p", { class: "none", text: "This video cannot be shown: it is gone, or of a form that this browser does not play." })));
  return { node, keys: { k: play, ",": () => step(-1), ".": () => step(1) }, jump };
}
