(() => {
  // What a browser keeps when the page is loaded again. It may refuse, or be full.
  let recalled = 0;
  window.sacmaPage = {
    keep(store, key, value) {
      try {
        store.setItem(`sacma-${key}`, value ?? "");
      } catch {}
    },
    recall(store, key, begin) {
      recalled = Date.now();
      // The answer is recalled last: from now on nothing that a visitor writes is replaced.
      if (key === "result") setTimeout(() => (document.body.dataset.ready = "true"), 100);
      try {
        return store.getItem(`sacma-${key}`) || begin;
      } catch {
        return begin;
      }
    },
    // On a phone the answer is below what is asked. One that a reload brings back is not looked for.
    look(id) {
      if (Date.now() - recalled < 3000) return;
      document.getElementById(id).scrollIntoView({ behavior: "smooth", block: "nearest" });
    },
  };
  // A click on a moment plays the clip from there.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-seek]");
    const player = button?.closest(".sx-card")?.querySelector("video, audio");
    if (!player) return;
    player.currentTime = Number(button.dataset.seek);
    player.play().catch(() => {});
  });
  // What a visitor says a clip is goes to the model through a field that is not shown.
  document.addEventListener("submit", (event) => {
    const form = event.target.closest?.(".sx-teach form");
    if (!form) return;
    event.preventDefault();
    const write = (field, text) => {
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const name = form.elements.name.value.trim();
    const names = document.querySelector("#names textarea");
    if (!names.value.split(/[\n,]/).some((one) => one.trim() === name)) write(names, `${names.value}\n${name}`);
    const lesson = document.querySelector("#lesson textarea, #lesson input");
    write(lesson, JSON.stringify({ clip: form.dataset.clip, name }));
    setTimeout(() => document.getElementById("teach").click(), 50);
  });
  // What cannot be played says so.
  document.addEventListener("error", (event) => {
    const player = event.target;
    if (!player.classList?.contains("sx-player")) return;
    player.hidden = true;
    const note = player.parentElement.querySelector(".sx-unplayable");
    if (note) note.hidden = false;
  }, true);
})();
