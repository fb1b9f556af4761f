// Puts the page to work.
const data = JSON.parse(document.getElementById("data").textContent);
const photo = document.getElementById("photo");
const panels = [...document.querySelectorAll("[role=tabpanel]")];

document.documentElement.style.setProperty("--aspect", photo.width / photo.height);
// The photo is in the file once.
for (const panel of panels.slice(1)) {
  const copy = photo.cloneNode();
  copy.removeAttribute("id");
  panel.querySelector(".map").prepend(copy);
}
makeTabs(document.querySelector("[role=tablist]"));
Promise.all(panels.map((panel, index) => makeLayer(panel, data.layers[index], data))).then(
  () => document.documentElement.classList.add("ready"),
  (error) => {
    document.getElementById("broken").hidden = false;
    throw error;
  },
);
