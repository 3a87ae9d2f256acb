// Keeps the page's numbers up to date without a reload: asks for the page again and replaces what has changed.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const place = document.querySelector("[data-live]");
  if (!place) return;
  const state = document.createElement("span");
  const button = document.createElement("button");
  button.type = "button";
  state.setAttribute("role", "status");
  place.append(state, button);
  let paused = false;
  let timer = 0;
  let tag = null;

  const show = (words) => {
    if (state.textContent !== words) state.textContent = words;
    button.textContent = paused ? "Go on" : "Pause";
  };

  // A part that somebody works in, or has opened something in, stays as it is until they are done.
  const busy = (part) => part.contains(document.activeElement) && document.activeElement !== part;
  const keepOpen = (from, to) => {
    const open = new Set([...from.querySelectorAll("details[open]")].map((one) => one.id));
    for (const one of to.querySelectorAll("details")) if (open.has(one.id)) one.open = true;
  };
  const plain = (part) => {
    const copy = part.cloneNode(true);
    copy.classList.remove("fresh");
    for (const one of copy.querySelectorAll("details")) one.open = false;
    return copy.innerHTML;
  };

  const take = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const before = document.querySelectorAll("main [data-part]");
    const after = next.querySelectorAll("main [data-part]");
    const same = before.length === after.length && [...before].every((part, i) => part.id === after[i].id);
    if (!same) {
      if (!busy(document.querySelector("main"))) document.querySelector("main").replaceWith(next.querySelector("main"));
      return;
    }
    before.forEach((part, i) => {
      if (busy(part) || plain(part) === plain(after[i])) return;
      keepOpen(part, after[i]);
      after[i].classList.add("fresh");
      part.replaceWith(after[i]);
    });
  };

  const ask = async () => {
    if (!paused && !document.hidden) {
      try {
        const headers = tag ? { "If-None-Match": tag } : {};
        const answer = await fetch(location.href, { headers, cache: "no-store", credentials: "same-origin" });
        if (answer.redirected || answer.status === 401) return location.reload();
        if (answer.ok) {
          tag = answer.headers.get("ETag");
          take(await answer.text());
        }
        show(answer.ok || answer.status === 304 ? "Live" : "The numbers are not there now");
      } catch {
        show("No connection: these numbers are not the latest");
      }
    }
    timer = setTimeout(ask, EVERY_MS);
  };

  button.addEventListener("click", () => {
    paused = !paused;
    show(paused ? "Paused" : "Live");
    clearTimeout(timer);
    if (!paused) ask();
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) ask();
  });
  show("Live");
  timer = setTimeout(ask, EVERY_MS);
})();
