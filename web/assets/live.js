// Keeps the part marked `data-live` fresh: fetches the page again every step and swaps that part.
// Sets the viewer's time zone once, so that the server labels the axes in it.

const slowest = 60_000;
const note = document.querySelector("[data-live-note]");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let paused = false;
let timer = 0;
let failures = 0;

function part() {
  return document.querySelector("[data-live]");
}

function wait() {
  const step = Number(part()?.dataset.step) || 10_000;
  // Whoever asked for little motion gets few changes; a server in trouble gets few requests.
  const base = Math.min(Math.max(step, calm.matches ? slowest : 5_000), slowest);
  return base * 2 ** Math.min(failures, 4);
}

function plan() {
  clearTimeout(timer);
  if (!paused && part() && document.visibilityState === "visible") timer = setTimeout(refresh, wait());
}

function busy(old) {
  // Nothing is swapped under a person's hands: a field being filled in, a text being copied.
  const selected = getSelection();
  return old.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")
    || selected && !selected.isCollapsed && old.contains(selected.anchorNode);
}

async function refresh() {
  const old = part();
  if (!old) return;
  try {
    if (!busy(old)) {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      if (answer.redirected) return say("Signed out; load the page again.");
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(old.id);
      if (fresh) swap(old, fresh);
    }
    failures = 0;
    say("");
  } catch {
    failures += 1;
    say("No answer from the server; trying again.");
  }
  plan();
}

function swap(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceWith(document.adoptNode(fresh));
  if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function say(text) {
  if (note) note.firstChild.textContent = text || (paused ? "Paused" : "Live");
}

if (note && part()) {
  note.append("Live");
  const button = document.createElement("button");
  button.className = "quiet";
  button.textContent = "Pause";
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    say("");
    if (paused) clearTimeout(timer);
    else refresh();
  });
  note.append(button);
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && !paused) refresh();
  else clearTimeout(timer);
});
plan();

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const known = document.body.dataset.zone;

if (zone && zone !== known && !document.cookie.includes("roundel-zone=" + encodeURIComponent(zone))) {
  document.cookie = "roundel-zone=" + encodeURIComponent(zone) + "; path=/; max-age=31536000; samesite=strict";
  refresh();
}
