// Keeps the parts of a page fresh: fetches each, and again in as many seconds as the answer says.
"use strict";

const REQUEST_MS = 20000;
const AFTER_FAILURE_SECONDS = 10;

function followTheme() {
  const theme = localStorage.getItem("theme"); // Airflow's own switch, in the page around this one
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

async function refresh(part) {
  let seconds = AFTER_FAILURE_SECONDS;
  try {
    if (!document.hidden || !part.dataset.loaded) {
      const answer = await fetch(part.dataset.source, { signal: AbortSignal.timeout(REQUEST_MS) });
      if (answer.status === 401 || answer.status === 403) return location.reload();
      if (!answer.ok) throw new Error(`Airflow answered ${answer.status}`);
      part.innerHTML = await answer.text(); // made by the server, which escapes what it shows
      part.dataset.loaded = "yes";
      seconds = Number(answer.headers.get("X-Preheat-Refresh"));
    }
    part.classList.remove("stale");
  } catch (error) {
    part.classList.add("stale");
    part.title = `${error.message}. What is shown may be old.`;
  }
  if (seconds) setTimeout(refresh, seconds * 1000, part);
}

followTheme();
addEventListener("storage", followTheme);
document.querySelectorAll("[data-source]").forEach(refresh);
document.querySelector("select")?.addEventListener("change", (event) => event.target.form.submit());
