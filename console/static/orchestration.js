// What the tabs of an orchestration do by themselves: the dialog ends with its request, what was opened stays open, a followed log scrolls.
"use strict";
(() => {
  // what somebody opened is not closed by a patch
  document.addEventListener("htmx:before:morph:attr", (event) => {
    if (event.detail.attrName === "open" && event.target.matches("details, dialog")) event.preventDefault();
  });
  document.addEventListener("htmx:after:request", (event) => {
    const { sourceElement, response } = event.detail.ctx;
    const form = sourceElement.closest("form[data-closes-dialog]");
    if (form && response && response.status < 400) { form.closest("dialog").close(); form.reset(); }
  });

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
