// Ways for a picture to come in: dropped anywhere, pasted, or chosen.

import { byId } from "./text.js";

/** Call `take(file)` for each picture that comes in, and `refuse(words)` for what is none. */
export function listen(take, refuse) {
  const file = byId("file"), curtain = byId("curtain");
  for (const id of ["pick", "drop"]) byId(id).addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) take(file.files[0]);
    file.value = "";
  });
  let depth = 0, own = false; // own: a drag that began on this page
  const holdsFile = (event) => !own && ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));
  addEventListener("dragstart", () => (own = true));
  addEventListener("dragend", () => (own = false));
  addEventListener("dragenter", (event) => {
    if (holdsFile(event)) curtain.hidden = ++depth === 0;
  });
  addEventListener("dragleave", (event) => {
    if (holdsFile(event)) curtain.hidden = (depth = Math.max(0, depth - 1)) === 0;
  });
  addEventListener("dragover", (event) => {
    if (holdsFile(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    curtain.hidden = true;
    depth = 0;
    first(event.dataTransfer.files, take, refuse, "That is an address, and this service fetches none. Save the picture, or copy it and paste it here.");
  });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length) {
      event.preventDefault();
      first(files, take, refuse);
    } else if (!event.target.closest?.("input, textarea")) {
      refuse("There is no picture on the clipboard. Copy a picture, not its address, and paste again.");
    }
  });
}

function first(files, take, refuse, otherwise) {
  const found = [...files].find((file) => file.type.startsWith("image/") || /\.(heic|heif|avif|jxl)$/i.test(file.name)) ?? files[0];
  if (found) take(found);
  else refuse(otherwise);
}
