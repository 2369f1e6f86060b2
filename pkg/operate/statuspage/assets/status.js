// Loads the page again each second and changes only what differs, so that a selection and the
// focus stay.

const live = document.getElementById("live");
let lost = false;

// morph makes now equal to next and keeps every node that it can.
function morph(now, next) {
  if (now.isEqualNode(next)) return;
  if (now.nodeName !== next.nodeName) return now.replaceWith(next);
  if (now.nodeType !== Node.ELEMENT_NODE) {
    now.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  const before = [...now.childNodes], after = [...next.childNodes];
  before.slice(after.length).forEach((node) => node.remove());
  after.forEach((node, i) => (before[i] ? morph(before[i], node) : now.append(node)));
}

async function look() {
  try {
    const response = await fetch("/status", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = fresh.getElementById("main");
    if (!main) throw new Error("no status page there");
    fresh.getElementById("again")?.remove();
    morph(document.getElementById("main"), document.importNode(main, true));
    document.title = fresh.title;
    if (lost) live.textContent = "";
    lost = false;
    live.classList.remove("lost");
  } catch {
    if (!lost) live.textContent = "No answer. This is the last known state.";
    lost = true;
    live.classList.add("lost");
  }
}

async function loop() {
  if (!document.hidden) await look();
  setTimeout(loop, 1000);
}

// A button copies the command before it. Pages that are not https have no clipboard: there it
// selects the command, and copies it in the old way.
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const command = button.parentElement.querySelector(".command");
  let copied = false;
  try {
    await navigator.clipboard.writeText(command.textContent);
    copied = true;
  } catch {
    getSelection().selectAllChildren(command);
    copied = document.execCommand("copy");
  }
  live.textContent = copied ? "Copied." : "The command is selected.";
  setTimeout(() => { if (!lost) live.textContent = ""; }, 3000);
});

document.documentElement.classList.add("js");
document.getElementById("again")?.remove();
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
setTimeout(loop, 1000);
