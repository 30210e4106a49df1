// What the tabs of an orchestration do by themselves: the dialog ends with its request, what was opened stays open, a followed log scrolls.
"use strict";
(() => {
  document.addEventListener("htmx:after:request", (event) => {
    const { sourceElement, response } = event.detail.ctx;
    const form = sourceElement.closest("form[data-closes-dialog]");
    if (form && response && response.status < 400) { form.closest("dialog").close(); form.reset(); }
  });

  // what goes on grows: a chart is not sent again for that
  const grow = () => document.querySelectorAll(".gantt[data-scale]").forEach((chart) => {
    const { begins, scale, left, right } = chart.dataset;
    const now = Math.min(Number(right), Number(left) + Math.max(0, Date.now() / 1000 - Number(begins)) * Number(scale));
    const put = (part, name, at) => part.setAttribute(name, at.toFixed(1)), at = (part, name) => Number(part.getAttribute(name));
    chart.querySelectorAll(".grows").forEach((part) => {
      if (part.matches(".now")) { put(part, "x1", now); put(part, "x2", now); }
      else if (part.matches("line")) put(part, "x2", Math.max(at(part, "x1") + 3, now));
      else if (part.matches("text")) put(part, "x", Math.max(at(part, "x"), now + 5));
      else put(part, "width", Math.max(3, now - at(part, "x")));
    });
  });
  if (document.querySelector(".chart-frame")) {
    grow();
    setInterval(() => { if (!document.hidden) grow(); }, 1000);
    document.addEventListener("htmx:sse:after:message", grow);
  }

  // a log that is followed shows its last line; who scrolls up reads, and is left alone
  const log = document.getElementById("log");
  const follow = document.getElementById("follow");
  if (log && follow) {
    const down = () => { if (follow.checked) log.scrollTop = log.scrollHeight; };
    new MutationObserver(down).observe(log, { childList: true });
    log.addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
    log.addEventListener("keydown", (event) => { if (["ArrowUp", "PageUp", "Home"].includes(event.key)) follow.checked = false; });
    follow.addEventListener("change", down);
    if (!location.hash) down(); else follow.checked = false;
  }
})();
