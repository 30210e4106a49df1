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
})();
